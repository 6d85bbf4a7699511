"""Folders, manifests, ragged NPZ and COCO files: round trips, and every defect by its name."""

from __future__ import annotations

import json
from itertools import groupby, product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN
from appliedpapers.plugins.varifocal_net.config import DataConfig
from appliedpapers.plugins.varifocal_net.corrections import Correction, write_corrections
from appliedpapers.plugins.varifocal_net.images import png_bytes
from appliedpapers.plugins.varifocal_net.readers import (
    chromosomes_of_table,
    input_table,
    list_chromosomes,
    read_chromosomes,
)
from appliedpapers.plugins.varifocal_net.rle import RleError, counts_of_text, mask_of_counts
from appliedpapers.plugins.varifocal_net.type_names import is_numbered_sex, label_of, require_label

DATA = DataConfig()
MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def drawn(number=0):
    """Return a small chromosome; each number has another one."""
    image = np.full((14 + number % 5, 9), 255, dtype=np.uint8)
    image[2:-2, 2:7] = 40 + number % 100
    image[4, 3:6] = 10 + number // 100
    return image


def place(folder, name, number=0, pixels=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(drawn(number) if pixels is None else pixels))
    return path


def manifest(folder, text, files=("a.png", "b.png", "c.png"), name="cells.csv"):
    for number, file in enumerate(files):
        place(folder, file, number)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# ---- names of types


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("1", "1"),
        ("01", "1"),
        ("chr1", "1"),
        ("Chr 21", "21"),
        ("22", "22"),
        ("X", "X"),
        ("x", "X"),
        ("chrY", "Y"),
        ("23", "X"),
        ("24", "Y"),
        ("7.0", "7"),
        (" 10 ", "10"),
    ],
)
def test_usual_names_of_types_are_understood(name, type_):
    assert TYPES[require_label(name, "here")] == type_
    assert is_numbered_sex(name) == (name in ("23", "24"))


@pytest.mark.parametrize("name", ["0", "25", "z", "", "1 2", "001", "chr", "-1", "1.5", "xy"])
def test_other_names_are_refused(name):
    assert label_of(name) is None
    with pytest.raises(DataError, match="here: "):
        require_label(name, "here")


# ---- folders


def test_a_folder_of_labelled_cells_is_read(tmp_path):
    for number, name in enumerate(["c1/1_1.png", "c1/1_2.png", "c1/X.png", "c2/chr21_3.PNG", "c2/y_1.png"]):
        place(tmp_path, name, number)
    (tmp_path / "c1" / "notes.txt").write_text("not an image")
    (tmp_path / "c1" / ".hidden.png").write_text("left by a file manager")
    found = read_chromosomes(tmp_path, DATA)
    assert [TYPES[label] for label in found.labels] == ["1", "1", "X", "21", "Y"]
    assert list(found.cases) == ["c1"] * 3 + ["c2"] * 2
    assert list(found.names) == ["1_1", "1_2", "X", "chr21_3", "y_1"]
    assert set(found.specimens) == {None}
    assert (found.polarity == 1).all()
    assert (found.fixed == UNKNOWN).all()
    assert np.array_equal(found.images[0], drawn(0))
    assert found.notes == ()
    assert read_chromosomes(tmp_path, DataConfig(polarity="q-up")).polarity.max() == 0


def test_specimens_unlabelled_cells_and_an_images_folder_are_understood(tmp_path):
    place(tmp_path, "images/s1/a/img-1.png", 1)
    place(tmp_path, "images/s1/b/01_1.png", 2)
    place(tmp_path, "images/s2/a/23_1.png", 3)
    found = read_chromosomes(tmp_path, DATA)
    assert list(found.cases) == ["s1/a", "s1/b", "s2/a"]
    assert list(found.specimens) == ["s1", "s1", "s2"]
    assert list(found.labels) == [UNKNOWN, 0, 22]
    assert list(found.polarity) == [UNKNOWN, 1, 1]
    assert any("23 and 24" in note for note in found.notes)


def test_running_numbers_are_not_taken_for_types(tmp_path):
    for number in range(1, 47):
        place(tmp_path, f"cell/{number}.png", number)
    found = read_chromosomes(tmp_path, DATA)
    assert (found.labels == UNKNOWN).all()
    assert any("does not begin with a type" in note for note in found.notes)


def test_folders_that_are_types_are_no_cells(tmp_path):
    for type_, number in product(("1", "2", "X"), range(2)):
        place(tmp_path, f"{type_}/{type_}_{number}_patient.png", number)
    found = read_chromosomes(tmp_path, DATA)
    assert set(found.cases) == {None}
    assert [TYPES[label] for label in found.labels] == ["1", "1", "2", "2", "X", "X"]
    assert len(set(found.names)) == 6
    assert "folders are types, not cells" in found.notes
    for path in tmp_path.rglob("*.png"):
        path.rename(path.with_name(f"img{path.name}"))
    assert any(
        "named like types but were read as cells" in note for note in read_chromosomes(tmp_path, DATA).notes
    )


def test_without_cases_everything_works_and_says_that_dispatch_is_off(tmp_path):
    """Known defect: no grouping by cell, and no word of it."""
    place(tmp_path, "p.png", 1)
    place(tmp_path, "q.png", 2)
    flat = read_chromosomes(tmp_path, DATA)
    table = read_chromosomes(manifest(tmp_path, "path,type\np.png,1\nq.png,X\n", files=()), DATA)
    for found in (flat, table, read_chromosomes(tmp_path / "p.png", DATA)):
        assert set(found.cases) == {None}
        assert any("dispatch is off" in note for note in found.notes)
        assert found.rows_by_case() == {}
    assert list(table.labels) == [0, 22]


def test_a_case_too_large_for_one_cell_is_named(tmp_path):
    for number in range(73):
        place(tmp_path, f"pool/i{number}.png", number)
    assert any("'pool' (73)" in note for note in read_chromosomes(tmp_path, DATA).notes)


def test_mixed_backgrounds_are_judged_one_by_one_and_counted(tmp_path):
    place(tmp_path, "c/1_1.png", 1)
    place(tmp_path, "c/1_2.png", pixels=255 - drawn(2))
    found = read_chromosomes(tmp_path, DATA)
    assert np.array_equal(found.images[1], drawn(2))
    assert "1 of 2 images had a black background and were inverted" in found.notes


def test_a_few_bad_files_are_left_out_by_name_and_many_are_an_error(tmp_path):
    """Known defect: one malformed TIFF loses the batch."""
    for number in range(40):
        place(tmp_path, f"c/1_{number}.png", number)
    (tmp_path / "c" / "2_1.tiff").write_bytes(b"II*\0broken")
    found = read_chromosomes(tmp_path, DATA)
    assert len(found) == 40
    assert any("c/2_1.tiff: the TIFF is damaged" in note for note in found.notes)
    (tmp_path / "c" / "2_2.png").write_bytes(b"")
    place(tmp_path, "c/2_3.png", pixels=np.full((5, 5), 255, np.uint8))
    with pytest.raises(DataError, match=r"c/2_1.tiff: the TIFF") as caught:
        read_chromosomes(tmp_path, DATA)
    assert "3 of the 43 chromosomes" in caught.value.hint
    assert "c/2_2.png: the file is empty" in caught.value.hint
    assert "c/2_3.png: 5 x 5 px of background" in caught.value.hint


def test_empty_and_too_deep_folders_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no image in it"):
        read_chromosomes(tmp_path, DATA)
    place(tmp_path, "a/b/c/1_1.png")
    with pytest.raises(DataError, match="3 folders deep"):
        read_chromosomes(tmp_path, DATA)
    odd = tmp_path / "cells.docx"
    odd.write_text("?")
    with pytest.raises(DataError, match=r"cells.docx: unknown format"):
        read_chromosomes(odd, DATA)


# ---- manifests

TEXT = "path,case,type,polarity,specimen,chromosome,split\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_manifest_is_read_as_it_stands(tmp_path, delimiter):
    rows = "a.png,007,chr2,q-up,01,one,train\nb.png,007,x,1,01,two,val\n\nc.png,8,?,,,three,test\n"
    path = manifest(tmp_path, "\ufeff" + (TEXT + rows).replace(",", delimiter))
    found = read_chromosomes(path, DATA)
    assert list(found.cases) == ["007", "007", "8"]
    assert list(found.specimens) == ["01", "01", None]
    assert list(found.names) == ["one", "two", "three"]
    assert list(found.labels) == [1, 22, UNKNOWN]
    assert list(found.polarity) == [0, 1, UNKNOWN]
    assert list(found.split) == ["train", "valid", "test"]
    assert all(np.array_equal(image, drawn(number)) for number, image in enumerate(found.images))


def test_parquet_with_numbers_and_gaps_is_read_like_text(tmp_path):
    manifest(tmp_path, "")
    path = tmp_path / "cells.parquet"
    columns = {"path": ["a.png", "b.png", "c.png"], "type": pa.array([1.0, None, 24.0]), "case": [7, 7, 8]}
    pq.write_table(pa.table(columns | {"polarity": [0, 1, 1]}), path)
    found = read_chromosomes(path, DATA)
    assert list(found.labels) == [0, UNKNOWN, 23]
    assert list(found.cases) == ["7", "7", "8"]
    assert list(found.polarity) == [0, 1, 1]
    assert any("23 and 24" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (
            "path,type\na.png,1\nb.png,W\n",
            r"cells.csv, column 'type', row 2: 'W' is not a type",
            "1 to 22, X or Y",
        ),
        ("path,type\na.png,25\n", r"column 'type', row 1: '25' is not a type", "1 to 22, X or Y"),
        ("path,fixed_type\na.png,2l\n", r"column 'fixed_type', row 1: '2l' is not a type", "Did you mean '2"),
        ("path,case\na.png,1\na.png,2\n", r"column 'path', row 2: 'a.png' stands in row 1 already", "once"),
        ("path\n./a.png\nb.png\nx/../a.png\n", r"row 3: .* stands in row 1 already", "once"),
        ("path,case\n,1\n", r"column 'path', row 1: the path is missing", ""),
        ("file,type\na.png,1\n", r"cells.csv: column 'path' is missing", "file, type"),
        ("paths,type\na.png,1\n", r"column 'path' is missing", "Did you mean 'paths'"),
        ("path,polarity\na.png,left\n", r"column 'polarity', row 1: 'left' is not q-down", ""),
        ("path,split\na.png,odd\n", r"column 'split', row 1: 'odd' is not train", ""),
        ("path,split\na.png,train\nb.png,\n", r"column 'split', row 2: the value is missing", ""),
        (
            "path,case,specimen\na.png,1,s\nb.png,1,t\n",
            r"row 2: b.png: case '1' is of specimen 't'",
            "one specimen",
        ),
        ("path,case,chromosome\na.png,1,n\nb.png,1,n\n", r"of case '1' is called 'n'", "unique"),
        ("path,type,type\na.png,1,1\n", r"column 'type' stands twice", ""),
        ("path,type\na.png\n", r"cells.csv, row 1: 1 cells, expected 2", "comma"),
        ("path,type\n", r"no rows", ""),
        ("", r"the file is empty", ""),
    ],
)
def test_every_defect_of_a_manifest_is_named_with_its_row(tmp_path, text, said, hint):
    with pytest.raises(DataError, match=said) as caught:
        read_chromosomes(manifest(tmp_path, text), DATA)
    assert hint in caught.value.hint


def test_a_missing_file_is_named_by_row_and_an_odd_encoding_refused(tmp_path):
    with pytest.raises(DataError, match=r"cells.csv, row 1: gone.png: no such file"):
        read_chromosomes(manifest(tmp_path, "path\ngone.png\n"), DATA)
    (tmp_path / "cells.csv").write_bytes("path,case\na.png,Müller\n".encode("latin-1"))
    with pytest.raises(DataError, match="it is not UTF-8"):
        read_chromosomes(tmp_path / "cells.csv", DATA)
    with pytest.raises(DataError, match="no such file"):
        read_chromosomes(tmp_path / "none.csv", DATA)


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path):
    files = ("x/1.png", "y/1.png", "y/2.png")
    found = read_chromosomes(manifest(tmp_path, "path\nx/1.png\ny/1.png\ny/2.png\n", files=files), DATA)
    assert len(set(found.names)) == 3
    assert found.names[2] == "2"


def test_corrections_that_were_filled_in_are_labels_and_guesses_are_not(tmp_path):
    for number, name in enumerate(("a.png", "b.png")):
        place(tmp_path, name, number)
    write_corrections(
        tmp_path / "corrections.csv",
        [
            Correction("106.10", "=one", "a.png", "7", 0.6, True, "X"),
            Correction("106.10", "two", "b.png", "7", 0.9, False),
        ],
    )
    found = read_chromosomes(tmp_path / "corrections.csv", DATA)
    assert list(found.labels) == list(found.fixed) == [22, UNKNOWN]
    assert list(found.cases) == ["106.10"] * 2
    assert list(found.names) == ["=one", "two"]
    assert (found.polarity == UNKNOWN).all()
    assert any("1 of 2 rows have no fixed_type" in note for note in found.notes)
    table = input_table(list_chromosomes(tmp_path / "corrections.csv", DATA), "auto")
    assert table["fixed_type"].to_pylist() == ["X", None]
    assert table["image"].to_pylist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def test_what_predict_is_sent_holds_no_type(tmp_path):
    place(tmp_path, "c/1_1.png", 1)
    table = input_table(list_chromosomes(tmp_path, DATA), "auto")
    assert table.column_names == ["case", "chromosome", "image", "fixed_type"]
    chromosomes, problems = chromosomes_of_table(table, "auto")
    assert problems == {}
    assert np.array_equal(chromosomes.images[0], drawn(1))


def test_rows_of_a_table_are_read_by_themselves(tmp_path):
    good = png_bytes(drawn(3))
    table = pa.table(
        {
            "case": ["c", None, "c"],
            "image": pa.array([good, b"?", png_bytes(255 - drawn(4))]),
            "fixed_type": ["Y", None, None],
        }
    )
    chromosomes, problems = chromosomes_of_table(table, "auto")
    assert list(problems) == [1]
    assert "image of '2'" in problems[1]
    assert list(chromosomes.names) == ["1", "3"]
    assert list(chromosomes.fixed) == [23, UNKNOWN]
    assert np.array_equal(chromosomes.images[1], drawn(4))
    assert chromosomes.notes == ("1 of 3 images had a black background and were inverted",)


# ---- ragged npz


def ragged(images, **arrays_):
    return {
        "pixels": np.concatenate([image.ravel() for image in images]),
        "offsets": np.cumsum([0, *(image.size for image in images)]),
        "height": np.array([image.shape[0] for image in images], dtype=np.int16),
        "width": np.array([image.shape[1] for image in images], dtype=np.int16),
        **arrays_,
    }


def saved(folder, arrays_):
    np.savez(folder / "cells.npz", **arrays_)
    return folder / "cells.npz"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(-1, 23), st.integers(-1, 2), st.integers(-1, 1)), min_size=1, max_size=8)
)
def test_a_ragged_npz_gives_back_what_was_put_in(tmp_path, rows):
    images = [drawn(number) for number in range(len(rows))]
    label, case, polarity = (np.array(column) for column in zip(*rows, strict=True))
    cells = {"case_ids": ["p.1", "p.2", "q.1"], "specimen": ["p", "p", "q"]}
    path = saved(tmp_path, ragged(images, label=label, case=case, polarity=polarity, **cells))
    found = read_chromosomes(path, DATA)
    assert all(np.array_equal(a, b) for a, b in zip(found.images, images, strict=True))
    assert list(found.labels) == list(label)
    assert list(found.polarity) == list(polarity)
    assert list(found.cases) == [None if cell < 0 else cells["case_ids"][cell] for cell in case]
    assert list(found.specimens) == [None if cell < 0 else cells["specimen"][cell] for cell in case]
    assert len(set(zip(found.cases, found.names, strict=True))) == len(rows)


def test_a_bare_npz_is_unlabelled_and_bytes_go_to_predict(tmp_path):
    path = saved(tmp_path, ragged([drawn(1), 255 - drawn(2)]))
    found = read_chromosomes(path, DATA)
    assert (found.labels == UNKNOWN).all()
    assert set(found.cases) == {None}
    assert "1 of 2 images had a black background and were inverted" in found.notes
    for background in ("auto", "white", "black"):
        table = input_table(list_chromosomes(path, DataConfig(background=background)), background)
        back, problems = chromosomes_of_table(table, background)
        assert not problems
        same = read_chromosomes(path, DataConfig(background=background)).images
        assert all(np.array_equal(a, b) for a, b in zip(back.images, same, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels": None}, "there is no array 'pixels'"),
        ({"pixels": np.zeros(4)}, "'pixels': float64"),
        ({"offsets": np.array([0, 5])}, r"'offsets': shape \(2,\)"),
        ({"offsets": np.array([0, 5, 261])}, "'offsets', image 0: 5 pixels, and height x width are 135"),
        ({"offsets": np.array([1, 136, 280])}, "'offsets': from 1 to 280"),
        ({"height": np.array([-14, 15])}, "'height', image 0: -14 px"),
        ({"height": np.array([14.0, 15.0])}, "'height': fractions"),
        ({"label": np.array([1, 2, 3])}, r"'label': shape \(3,\)"),
        ({"label": np.array(["1", "2"])}, "'label': text"),
        ({"case": np.array([0, -2])}, "'case': -2"),
        ({"case": np.array([0, 1]), "case_ids": np.array(["a"])}, "'case_ids'"),
        ({"case": np.array([0, 1]), "case_ids": np.array(["a", "a"])}, "'case_ids': 'a' stands twice"),
        ({"case": np.array([0, 1]), "split": np.array(["train", "odd"])}, "'split', cell 1: 'odd'"),
        ({"label": np.array([{}, {}], dtype=object)}, "cells.npz: cannot be read"),
    ],
)
def test_every_contradiction_in_an_npz_is_named(tmp_path, change, said):
    values = ragged([drawn(1), drawn(2)]) | change
    path = saved(tmp_path, {key: value for key, value in values.items() if value is not None})
    with pytest.raises(DataError, match=said):
        read_chromosomes(path, DATA)


def test_a_damaged_npz_is_refused(tmp_path):
    path = saved(tmp_path, ragged([drawn(1)]))
    for content in (path.read_bytes()[:-40], b"", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cells.npz: cannot be read"):
            read_chromosomes(path, DATA)
    with pytest.raises(DataError, match="no chromosome"):
        read_chromosomes(
            saved(
                tmp_path,
                {"pixels": np.zeros(0, np.uint8), "offsets": np.zeros(1, int)}
                | dict.fromkeys(("height", "width"), np.zeros(0, int)),
            ),
            DATA,
        )


# ---- COCO


def counts_of(mask):
    runs = [0] if mask.T.ravel()[0] else []
    return runs + [len(list(group)) for _, group in groupby(mask.T.ravel().tolist())]


def text_of_counts(counts):
    """Write run lengths as COCO's own tools do."""
    text = ""
    for place_, count in enumerate(counts):
        value = count - (counts[place_ - 2] if place_ > 2 else 0)
        while True:
            code, value = value & 31, value >> 5
            last = value == (-1 if code & 16 else 0)
            text += chr(48 + code + (0 if last else 32))
            if last:
                break
    return text


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_run_lengths_give_back_their_mask(mask):
    counts = counts_of(mask)
    assert np.array_equal(mask_of_counts(counts, *mask.shape), mask)
    assert list(counts_of_text(text_of_counts(counts))) == counts
    assert np.array_equal(mask_of_counts(text_of_counts(counts), *mask.shape), mask)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=12))
def test_long_run_lengths_survive_their_text(counts):
    assert list(counts_of_text(text_of_counts(counts))) == counts


@pytest.mark.parametrize("counts", [[1, 2], [-1, 5], "P", "~", "1"])
def test_run_lengths_of_another_size_are_refused(counts):
    with pytest.raises(RleError):
        mask_of_counts(counts, 2, 2)


def coco(folder, annotations, page=None, **more):
    if page is None:
        page = np.full((60, 80), 255, dtype=np.uint8)
        page[10:30, 10:16] = 60
        page[12:32, 17:22] = 90
    (folder / "meta-1.png").write_bytes(png_bytes(page))
    document = {
        "images": [{"id": 1, "file_name": "meta-1.png"}],
        "categories": [{"id": 5, "name": "21"}, {"id": 6, "name": "chromosome"}],
        "annotations": [
            {"id": 9 + number, "image_id": 1, "category_id": 5} | item
            for number, item in enumerate(annotations)
        ],
    }
    (folder / "cells.json").write_text(json.dumps(document | more))
    return folder / "cells.json"


def test_masks_and_boxes_are_cut_out_of_a_metaphase(tmp_path):
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:30, 10:16] = True
    polygon = [10, 10, 15, 10, 15, 29, 10, 29]
    path = coco(
        tmp_path,
        [
            {"segmentation": {"size": [60, 80], "counts": counts_of(mask)}},
            {"segmentation": {"size": [60, 80], "counts": text_of_counts(counts_of(mask))}},
            {"segmentation": [polygon]},
            {"bbox": [10, 10, 6, 20], "category_id": 6},
        ],
    )
    found = read_chromosomes(path, DATA)
    expected = np.full((24, 10), 255, dtype=np.uint8)
    expected[2:22, 2:8] = 60
    assert all(np.array_equal(image, expected) for image in found.images[:3])
    boxed = expected.copy()
    boxed[4:, 9] = 90
    assert np.array_equal(found.images[3], boxed)
    assert list(found.labels) == [20, 20, 20, UNKNOWN]
    assert (found.polarity == UNKNOWN).all()
    assert list(found.cases) == ["meta-1"] * 4
    assert list(found.names) == ["9", "10", "11", "12"]
    said = " ".join(found.notes)
    assert "polarity is not known" in said
    assert "unlabelled: chromosome" in said
    assert "cut out as boxes" in said


def test_a_black_metaphase_is_inverted_before_it_is_cut(tmp_path):
    page = np.zeros((60, 80), dtype=np.uint8)
    page[10:30, 10:16] = 200
    path = coco(tmp_path, [{"segmentation": [[10, 10, 15, 10, 15, 29, 10, 29]]}], page)
    assert read_chromosomes(path, DATA).images[0][2, 2] == 55


def test_a_metaphase_that_cannot_be_opened_leaves_the_others(tmp_path):
    images = [{"id": 1, "file_name": "meta-1.png"}, {"id": 2, "file_name": "gone.png"}]
    annotations = [{"bbox": [10, 10, 6, 20]}] * 40 + [{"bbox": [1, 1, 2, 2], "image_id": 2}]
    path = coco(tmp_path, annotations, images=images)
    found = read_chromosomes(path, DATA)
    assert len(found) == 40
    assert any("annotation 49: no such file" in note for note in found.notes)
    table = input_table(list_chromosomes(path, DATA), "auto")
    assert list(chromosomes_of_table(table, "auto")[1]) == [40]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({}, "annotation 9: its box or mask cannot be read"),
        (
            {"bbox": [500, 5, 10, 10]},
            r"annotation 9: its box \[500, 5, 510, 15\] lies outside its image of 80 x 60",
        ),
        ({"bbox": [5, 5, 0, 10]}, "lies outside"),
        ({"bbox": [5, "x", 1, 1]}, "cannot be read"),
        ({"bbox": [5, float("inf"), 1, 1]}, "cannot be read"),
        ({"segmentation": [[1, 2, 3]]}, "cannot be read"),
        ({"segmentation": [[1, 2, 3, 4]]}, "three points"),
        ({"segmentation": [[500, 500, 510, 500, 510, 510]]}, "covers no pixel"),
        ({"segmentation": {"size": [60, 81], "counts": [4860]}}, "mask of 81 x 60 px"),
        ({"segmentation": {"size": [60, 80], "counts": [1, 2]}}, "run lengths of 3 pixels"),
        ({"segmentation": 5}, "cannot be read"),
        ({"image_id": 7}, "annotation 9: there is no image 7"),
    ],
)
def test_every_defect_of_an_annotation_is_named_with_its_id(tmp_path, item, said):
    with pytest.raises(DataError, match=said):
        read_chromosomes(coco(tmp_path, [item]), DATA)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "there is no list 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            "images, item 1: there is no 'file_name'",
        ),
        ('{"images": [3], "annotations": [], "categories": []}', "images, item 1"),
        ('{"images": [], "annotations": [], "categories": []}', "there is no chromosome"),
    ],
)
def test_a_json_that_is_no_coco_file_is_refused(tmp_path, text, said):
    path = tmp_path / "cells.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_chromosomes(path, DATA)
