"""The audit of photos: copies are found however they were saved, and scores are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.core.images import read_rgb
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.audit.checksums import read_checksums
from appliedpapers.plugins.agrosense.audit.near_duplicates import Prints, fingerprint, groups_of, pairs_of
from appliedpapers.plugins.agrosense.audit.photo_page import write_page
from appliedpapers.plugins.agrosense.config import SimulatorConfig
from appliedpapers.plugins.agrosense.simulator import simulate
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.data import DATASETS, audit_of
from appliedpapers.plugins.agrosense.soil_image.drawing import draw
from appliedpapers.plugins.agrosense.soil_image.model import SoilClassifier
from appliedpapers.plugins.agrosense.soils import SOILS

CHANGES = {
    "turned": lambda image: image.rotate(90, expand=True),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "saved": lambda image: image,
    "shrunk": lambda image: image.resize((150, 150)),
}


@pytest.fixture(scope="module")
def drawn():
    fields = simulate(SimulatorConfig(sites=14, fields_from=2, fields_to=2), 3)
    return draw(fields, range(len(fields)), 3), [SOILS[one] for one in fields.soil_class]


def changed(content, how):
    with Image.open(io.BytesIO(content)) as image:
        buffer = io.BytesIO()
        CHANGES[how](image).save(buffer, "JPEG", quality=60 if how == "saved" else 90)
    return buffer.getvalue()


def prints_of(contents):
    return Prints.joined([fingerprint(one, read_rgb(one, "x")) for one in contents])


def laid_out(folder, photos, labels, part=""):
    for number, (content, label) in enumerate(zip(photos, labels, strict=True)):
        place = folder / part / label / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


@pytest.mark.parametrize("how", CHANGES)
def test_a_copy_is_found_and_nothing_else(drawn, how):
    photos, _ = drawn
    copies = [changed(one, how) for one in photos[:6]]
    prints = prints_of([*photos, *copies])
    groups = groups_of(len(prints), pairs_of(prints))
    assert (groups[len(photos) :] == groups[:6]).all()
    assert len(np.unique(groups)) == len(photos)


def test_kinds_of_copies_are_told_apart(drawn):
    photos, _ = drawn
    with Image.open(io.BytesIO(photos[0])) as image:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
    prints = prints_of([photos[0], photos[0], buffer.getvalue(), changed(photos[0], "turned")])
    kinds = {(pair.first, pair.second): pair.kind for pair in pairs_of(prints)}
    assert kinds[0, 1] == "file"
    assert kinds[0, 2] == "pixels"
    assert kinds[0, 3] == "near"


def test_even_pictures_are_no_copies_of_one_another():
    contents = []
    for colour in ((90, 60, 40), (160, 120, 80)):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    assert pairs_of(prints_of(contents)) == []


def test_copies_across_the_users_split_are_found_and_the_score_is_refused(drawn, tmp_path):
    photos, labels = drawn
    laid_out(tmp_path, photos, labels, "train")
    copies = [changed(one, how) for one, how in zip(photos[:4], CHANGES, strict=True)]
    laid_out(tmp_path, copies, [*labels[:3], "black" if labels[3] != "black" else "red"], "test")
    dataset = DATASETS.from_user(tmp_path, SoilImageConfig())
    assert dataset.protocol == "own-split"
    findings = [one.sentence() for one in leakage_audit(dataset)]
    assert any("values of 'group' in both train and test" in one for one in findings)
    audit = audit_of(dataset)
    assert (audit.crossing, audit.judged) == (4, 4)
    said = audit.remarks()
    assert said[0] == "4/4 judged photos have a copy in another part"
    assert any(one.startswith("1 label conflict") for one in said)
    write_page(audit, "mine", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2 * len(audit.copies)
    assert "4 of 4 judged photos (100 %)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_without_a_split_of_its_own_copies_stay_together(drawn, tmp_path):
    photos, labels = drawn
    laid_out(tmp_path, [*photos, *(changed(one, "turned") for one in photos[:5])], [*labels, *labels[:5]])
    dataset = DATASETS.from_user(tmp_path, SoilImageConfig().replace(data={"folds": 3}))
    assert len(dataset.folds) == 3
    assert dataset.test_size == len(photos) + 5
    assert leakage_audit(dataset) == []
    assert audit_of(dataset).crossing == 0


def test_a_table_of_paths_with_fields_is_read(drawn, tmp_path):
    photos, labels = drawn
    laid_out(tmp_path / "photos", photos, labels)
    lines = ["path,label,field"]
    lines += [f"photos/{label}/{row}.jpg,{label},f{row // 2}" for row, label in enumerate(labels)]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    dataset = DATASETS.from_user(tmp_path / "list.csv", SoilImageConfig().replace(data={"split": "single"}))
    assert dataset.protocol == "by-group"
    whole = [getattr(dataset, name).photos for name in ("train", "valid", "test")]
    fields = [set(part.fields) for part in whole]
    assert sum(map(len, fields)) == len(set.union(*fields))
    table = DATASETS.inputs(tmp_path / "list.csv", SoilImageConfig())
    assert table.column_names == ["field", "photo", "image"]


def test_sources_that_cannot_be_used_are_named(drawn, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photo in it"):
        DATASETS.from_user(tmp_path / "empty", SoilImageConfig())
    (tmp_path / "list.csv").write_text("name,label\na,black\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column with the paths"):
        DATASETS.from_user(tmp_path / "list.csv", SoilImageConfig())
    laid_out(tmp_path / "bad", [b"no photo"] * 3, ["black", "red", "red"])
    with pytest.raises(DataError, match=r"black/0\.jpg: not an image.* \(2 more like it\)"):
        DATASETS.from_user(tmp_path / "bad", SoilImageConfig())


# ---- lists of checksums


def test_the_published_split_of_agrosense_holds_341_of_341_test_photos_in_train(shared):
    path = shared / "data" / "agrosense" / "authors_split_md5.csv"
    found = read_checksums(path).found()
    assert (found.train, found.test, found.distinct) == (1222, 341, 673)
    assert found.crossing == 341
    assert found.conflicts == {"3df7a5aa9137acf6d2424347711b32b0": ("alluvial", "black")}
    dataset = DATASETS.from_user(path, SoilImageConfig())
    said = DATASETS.remarks(dataset, SoilImageConfig())
    assert said[0].startswith("341/341 photos of test have their exact copy among the 1,222")
    assert said[1] == "1 label conflict"
    assert leakage_audit(dataset)


def test_nothing_is_learned_from_checksums(tmp_path):
    lines = ["split,label,md5", "train,red,aa", "test,red,bb"]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    dataset = DATASETS.from_user(tmp_path / "list.csv", SoilImageConfig())
    assert leakage_audit(dataset) == []
    with pytest.raises(DataError, match="checksums and no photos"):
        SoilClassifier(SoilImageConfig()).fit(
            dataset.train, dataset.valid, FitContext(seed=1, folder=tmp_path)
        )


def test_soil7_has_no_copy_across_its_folds(shared):
    from appliedpapers.plugins.agrosense.soil_image.published_data import open_soil7

    photos, fold = open_soil7(shared / "data" / "agrosense")
    assert len(photos) == 913
    assert len(np.unique(photos.groups)) == 883
    assert all(len(set(fold[photos.groups == group])) == 1 for group in np.unique(photos.groups))
    prints = prints_of(photos.sources)
    groups = groups_of(len(prints), pairs_of(prints))
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    merged = [row for row in range(913) if len(set(photos.groups[groups == groups[row]])) > 1]
    assert len(merged) <= 0.02 * 913
