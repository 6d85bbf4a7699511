"""Damaged content in a reduced form; ``make acceptance PLUGIN=fuzz`` tries 10,000 cases of each target."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appliedpapers.core import archives, bounded_yaml, sheets
from appliedpapers.core.archives import gunzipped, read_npz
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import AppsError, BundleError, ConfigError, DataError
from appliedpapers.core.features.rows import open_rows
from appliedpapers.core.manifests import read_manifest
from appliedpapers.core.sheets import read_sheet
from appliedpapers.core.tables import read_table
from appliedpapers.pipelines.schedule_jobs import read_jobs
from appliedpapers.plugins.frets.config import FretsConfig
from appliedpapers.plugins.pansharpening import scene_pairs
from appliedpapers.plugins.varifocal_net import readers as chromosome_readers
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.virtual_inking import readers as slide_readers
from benchmarks import fuzz

# these fit or draw something of every plugin first, and are tried by the acceptance alone
SLOW = {"server-csv", "server-parquet", "bundle-manifest", "config-yaml"}
CASES = 40


@pytest.mark.parametrize("target", [t for t in fuzz.TARGETS if t.name not in SLOW], ids=lambda t: t.name)
def test_damaged_content_is_read_or_refused_in_words(target, tmp_path):
    outcome = fuzz.fuzzed(target, CASES, tmp_path, limited=False)
    assert outcome.cases >= CASES // 2
    assert outcome.defects == {}


def test_a_defect_and_a_refusal_of_two_lines_are_found(tmp_path):
    from hypothesis import strategies as st

    from benchmarks.fuzz_target import Fuzzing, Target

    def careless(number: int) -> None:
        raise DataError("") if number % 2 else KeyError(number)

    target = Target("careless", "numbers", lambda folder: Fuzzing(st.integers(0, 9), careless))
    outcome = fuzz.fuzzed(target, 10, tmp_path)
    assert any(place.startswith("KeyError at test_fuzz.py") for place in outcome.defects)
    assert any(place.startswith("empty message") for place in outcome.defects)
    assert not outcome.ok


def bomb() -> str:
    """Return YAML of 300 bytes that unfolds to ten thousand million values."""
    lines = ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    lines += [
        f"{new}: &{new} [{','.join(['*' + old] * 10)}]"
        for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    return "\n".join(lines)


def test_the_clock_of_a_case_is_the_cpu(tmp_path, monkeypatch):
    from hypothesis import strategies as st

    from benchmarks.fuzz_target import Fuzzing, Target

    def waits(number: int) -> None:
        time.sleep(0.6)

    def computes(number: int) -> None:
        while True:
            sum(range(1000))

    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.5)
    waiting = Target("waits", "numbers", lambda folder: Fuzzing(st.just(1), waits))
    assert fuzz.fuzzed(waiting, 1, tmp_path).ok
    computing = Target("computes", "numbers", lambda folder: Fuzzing(st.just(1), computes))
    outcome = fuzz.fuzzed(computing, 1, tmp_path)
    assert any(place.startswith("TooSlow") for place in outcome.defects)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{bomb()}\nseed: *j\n", "unfolds to more than"),
        ("seed: &a [*a]\n", "holds itself"),
        ("seed: " + "[" * 5000, "nested more than"),
        ("seed: " + "1" * 5000, "line 1"),
        ("seed: !!python/object:os.system x", "python/object"),
    ],
)
def test_yaml_that_unfolds_or_is_none_is_refused_with_its_place(text, said, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        resolve(FretsConfig, file=path)
    path.write_text(f"jobs:\n  one:\n    x: 1\n{text}")
    with pytest.raises(ConfigError):
        read_jobs(path)


def test_aliases_of_a_usual_size_are_read():
    assert bounded_yaml.load("a: &a {x: 1}\nb: {<<: *a, y: 2}\n") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    "spec",
    [
        "kan(grid=100000)",
        "mlp(hidden=[100000, 100000])",
        f"kan(grid={'1' * 5000})",
        "kan(a=[&a [1], *a])",
        "mowst(weak=~, strong=mlp)",
    ],
)
def test_modules_of_absurd_size_or_kind_are_refused(spec):
    with pytest.raises(ConfigError, match=r"model\.head"):
        resolve(FretsConfig, assignments=[f"model.head={spec}"])


def test_messages_cannot_move_a_terminal():
    error = AppsError("column '\x1b[2J\r\n\u202e\ud800' is unknown.", hint="Use \x07 one\n  of these.")
    assert error.message == "column '\\x1b[2J\\r\\n\\u202e\\ud800' is unknown."
    assert error.hint == "Use \\x07 one\n  of these."
    assert len(AppsError("x" * 10**6).message) < 3000


def test_a_spreadsheet_whose_one_cell_stands_last_is_refused(tmp_path, monkeypatch):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.cell(1, 1, "soil")
    book.active.cell(900, 16_000, 1)
    book.save(tmp_path / "wide.xlsx")
    monkeypatch.setattr(sheets, "_MOST_CELLS", 10_000)
    with pytest.raises(DataError, match="more than 10,000 cells"):
        read_sheet(tmp_path / "wide.xlsx")


def test_archives_that_unfold_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    import gzip

    np.savez_compressed(tmp_path / "big.npz", pixels=np.zeros(2**22, np.uint8))
    assert (tmp_path / "big.npz").stat().st_size < 2**14
    with pytest.raises(DataError, match="when unpacked"):
        read_npz(tmp_path / "big.npz", 2**20)
    assert read_npz(tmp_path / "big.npz", 2**23)["pixels"].size == 2**22
    with pytest.raises(DataError, match="when unpacked"):
        gunzipped(gzip.compress(bytes(2**22)), "a.csv.gz", 2**20)
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"path\n" + b"a.png\n" * 10_000))
    monkeypatch.setattr("appliedpapers.core.manifests._MOST_BYTES", 1000)
    with pytest.raises(DataError, match="when unpacked"):
        read_manifest(tmp_path / "list.csv.gz", ("path",))
    with zipfile.ZipFile(tmp_path / "rows.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", bytes(2**22))
    monkeypatch.setattr(sheets, "_MOST_BYTES", 2**20)
    with pytest.raises(DataError, match="when unpacked"):
        read_sheet(tmp_path / "rows.xlsx")
    assert archives.MOST_BYTES > 2**30


def test_stored_features_that_declare_a_huge_shape_are_refused(tmp_path):
    import h5py

    from appliedpapers.plugins.virtual_inking.features_h5 import read_features

    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**9, 1280), "f4", chunks=(1, 1280))
        file["coords"] = np.zeros((1, 2), np.int64)
    with pytest.raises(DataError, match="GiB of features"):
        read_features(path)


def test_annotations_in_utf_16_cannot_hide_entities():
    from appliedpapers.plugins.virtual_inking.annotations import read_shapes

    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    with pytest.raises(DataError, match="document type"):
        read_shapes(text.encode("utf-16-le"))


def test_deep_json_is_refused_everywhere(tmp_path):
    from appliedpapers.core.bundle import read_info
    from appliedpapers.pipelines.registry_transfer import _unpack
    from appliedpapers.pipelines.stream import _json_record
    from appliedpapers.plugins.virtual_inking.annotations import read_shapes

    deep = "[" * 100_000
    with pytest.raises(DataError, match="not JSON"):
        _json_record(deep, "stdin, line 1")
    with pytest.raises(DataError, match="not GeoJSON"):
        read_shapes(deep.encode())
    (tmp_path / "bundle.json").write_text(deep)
    with pytest.raises(BundleError, match="cannot be read"):
        read_info(tmp_path)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("manifest.json", deep)
    Path(tmp_path / "model.zip").write_bytes(sink.getvalue())
    with pytest.raises(BundleError, match="not an exported model"):
        _unpack(tmp_path / "model.zip", tmp_path / "out", 2**20)


@pytest.mark.parametrize("place", ["images", "categories", "annotations"])
def test_ids_of_coco_are_numbers_or_texts(place, tmp_path):
    from appliedpapers.plugins.varifocal_net.config import DataConfig
    from appliedpapers.plugins.varifocal_net.readers_coco import list_coco

    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "X"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
    }
    document[place][0]["id"] = {}
    (tmp_path / "coco.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"{place}, item 1: 'id' is neither"):
        list_coco(tmp_path / "coco.json", DataConfig())


def test_a_list_with_a_nul_is_refused_with_its_row(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"image,soil\na.png,red\nb\x00.png,black\n")
    with pytest.raises(DataError, match="column 'image', row 2: it holds a NUL character"):
        read_manifest(path, ("image",))


def test_a_parquet_file_whose_texts_are_none_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")]
    )
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"site": broken}), path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(path)


def test_a_soil_table_with_a_column_twice_is_refused():
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.reading import Wanted, read_soil_table

    table = pa.table([[1.0], [2.0]], names=["pH", "pH"])
    with pytest.raises(DataError, match="column 'pH' stands twice"):
        read_soil_table(table, "fields.csv", Wanted())


def test_a_header_that_csv_does_not_take_is_refused(tmp_path):
    from appliedpapers.core.features.rows import open_rows

    path = tmp_path / "clicks.csv"
    path.write_bytes(b'"' + b"a" * 200_000 + b'",b\n1,2\n')
    with pytest.raises(DataError, match="cannot be read"):
        open_rows(path)


def test_a_column_name_with_a_lone_quote_is_refused_with_its_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('id,",noise\n0,1,2\n1,"a",3\n')
    with pytest.raises(DataError, match=r"rows\.csv.*a quote that does not end there"):
        assert open_rows(path).schema


def test_a_parquet_column_whose_name_is_no_text_is_refused_with_its_file(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"noise": [1.0]}), path)
    content = path.read_bytes()
    # the footer alone; the name stands in the Arrow schema, too, which is encoded there
    path.write_bytes(content.replace(b"noise", b"no\xe4se"))
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read \(.*codec"):
        open_rows(path)


@pytest.mark.parametrize(
    ("read", "columns"),
    [
        (lambda path: scene_pairs.find_pairs(path), ("scene_id", "hs_path", "pan_path")),
        (lambda path: slide_readers.find_slides(path), ("slide", "annotation")),
        (
            lambda path: chromosome_readers.input_table(
                chromosome_readers.list_chromosomes(path, KaryotypeConfig().data), "auto"
            ),
            ("path", "case"),
        ),
    ],
    ids=["scenes", "slides", "chromosomes"],
)
def test_a_path_in_a_cell_that_no_file_can_have_is_named_with_its_row(read, columns, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"{','.join(columns)}\n{','.join('a' * 300 for _ in columns)}\n")
    with pytest.raises(DataError, match=r"list\.csv.*row 1.*no such file"):
        read(path)
