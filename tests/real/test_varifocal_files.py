"""Pki-3 and CIR-Net: read whole, by the true numbers of each type, and dealt by people."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.core.sources import list_datasets, load_dataset
from appliedpapers.plugins.varifocal_net.config import DataConfig, KaryotypeConfig
from appliedpapers.plugins.varifocal_net.data import DATASETS
from appliedpapers.plugins.varifocal_net.readers import (
    chromosomes_of_table,
    input_table,
    list_chromosomes,
    read_chromosomes,
)
from appliedpapers.plugins.varifocal_net.splits import split_chromosomes

pytestmark = pytest.mark.shared

USUAL = resolve(KaryotypeConfig)


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "varifocal-net"


@pytest.fixture(scope="module")
def opened(shared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPS_DATA_HOME", str(shared / "data"))
        assert {row.state for row in list_datasets(DATASETS, "varifocal-net")} == {"ready"}
        return {
            name: load_dataset(DATASETS, "varifocal-net", USUAL, dataset=name) for name in ("pki3", "cirnet")
        }


@pytest.fixture(scope="module")
def read(folder):
    return {
        name: read_chromosomes(folder / f"{name}.npz", DataConfig()) for name in ("pki3_subset", "cirnet")
    }


def test_pki3_is_split_as_its_owners_cells_are_and_no_specimen_crosses(opened):
    data = opened["pki3"]
    assert data.protocol == "pki3-specimens"
    assert data.summary == "10,950 chromosomes, 238 cells, 150 specimens"
    assert data.split_note == "whole specimens, 148 : 29 : 61 cells"
    parts = [split.chromosomes for split in (data.train, data.valid, data.test)]
    assert [len(set(part.specimens)) for part in parts] == [95, 20, 35]
    assert leakage_audit(data) == []
    assert all((part.polarity == 1).all() for part in parts)
    assert all(
        case.startswith(f"{specimen}.")
        for part in parts
        for case, specimen in zip(part.cases, part.specimens, strict=True)
    )


def test_labels_of_every_cell_of_pki3_are_its_karyotype(opened, folder):
    with np.load(folder / "pki3_subset.npz", allow_pickle=False) as archive:
        true = {str(name): archive["karyotype_count"][cell] for cell, name in enumerate(archive["case_ids"])}
    counts = {
        case: np.bincount(split.chromosomes.labels[rows], minlength=24)
        for split in (opened["pki3"].train, opened["pki3"].valid, opened["pki3"].test)
        for case, rows in split.chromosomes.rows_by_case().items()
    }
    assert counts.keys() == true.keys()
    assert all(np.array_equal(counts[case], true[case]) for case in true)
    assert {int(count.sum()) for count in counts.values()} == {45, 46, 47}


def test_no_image_of_either_is_altered_or_taken_for_black(folder, read):
    for name, tallest, widest in (("pki3_subset", 161, 87), ("cirnet", 147, 56)):
        assert not any("inverted" in note or "left out" in note for note in read[name].notes)
        with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
            pixels = archive["pixels"]
        assert np.array_equal(np.concatenate([image.ravel() for image in read[name].images]), pixels)
        assert max(image.shape[0] for image in read[name].images) == tallest
        assert max(image.shape[1] for image in read[name].images) == widest


def test_cirnet_is_dealt_by_patient_and_knows_no_cell(opened):
    data = opened["cirnet"]
    assert data.protocol == "cirnet-patients"
    assert data.summary == "2,806 chromosomes, 16 specimens"
    assert "whole patients" in data.split_note
    assert leakage_audit(data) == []
    parts = [split.chromosomes for split in (data.train, data.valid, data.test)]
    assert all(not part.rows_by_case() for part in parts)
    assert all(len(set(part.specimens)) >= 2 for part in parts)
    assert any("pooled" in note for note in data.notes)


def test_a_random_split_of_pki3_would_leak_into_every_specimen(read):
    """Known defect: what several public implementations call cross-validation."""
    pki3 = read["pki3_subset"]
    # without the split of its own
    labelled = pki3.take(np.arange(len(pki3)))
    random = split_chromosomes(labelled, USUAL.replace(data={"split": "random"}))
    assert set(random.test.specimens) <= set(random.train.specimens)
    grouped = split_chromosomes(labelled, USUAL)
    assert grouped.protocol == "by-specimen"
    assert not set(grouped.test.specimens) & set(grouped.train.specimens)
    shares = np.array([len(part) for part in (grouped.train, grouped.valid, grouped.test)]) / len(pki3)
    assert shares == pytest.approx([0.6, 0.15, 0.25], abs=0.02)


def test_a_cell_goes_to_predict_and_comes_back_pixel_by_pixel(folder, opened):
    example = opened["pki3"].test.example(1)
    back, problems = chromosomes_of_table(example, "auto")
    assert not problems
    own = opened["pki3"].test.chromosomes
    assert all(np.array_equal(a, b) for a, b in zip(back.images, own.images, strict=False))
    table = input_table(list_chromosomes(folder / "cirnet.npz", DataConfig()), "auto")
    assert table.num_rows == 2806


def test_an_edited_file_is_refused(folder, tmp_path, monkeypatch):
    target = tmp_path / "varifocal-net" / "cirnet.npz"
    target.parent.mkdir()
    target.write_bytes((folder / "cirnet.npz").read_bytes() + b"\0")
    monkeypatch.setenv("APPS_DATA_HOME", str(tmp_path))
    with pytest.raises(DataError, match="sha256 is"):
        load_dataset(DATASETS, "varifocal-net", USUAL, dataset="cirnet")
