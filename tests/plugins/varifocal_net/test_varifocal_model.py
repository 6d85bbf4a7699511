"""The whole model on one tiny training: tables in and out, files, cells apart from one another, odd input."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.core.inference import predict_usable
from appliedpapers.core.model import FitContext
from appliedpapers.core.progress import SilentProgress
from appliedpapers.core.tables import write_table
from appliedpapers.core.validation import check
from appliedpapers.pipelines.predict import predict_file
from appliedpapers.pipelines.score import score_run
from appliedpapers.plugins.varifocal_net import readers
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, Chromosomes
from appliedpapers.plugins.varifocal_net.config import DataConfig, KaryotypeConfig
from appliedpapers.plugins.varifocal_net.corrections import plain
from appliedpapers.plugins.varifocal_net.delivery import file_stem
from appliedpapers.plugins.varifocal_net.images import png_bytes
from appliedpapers.plugins.varifocal_net.model import ChromosomeClassifier
from appliedpapers.plugins.varifocal_net.plugin import PLUGIN
from appliedpapers.plugins.varifocal_net.simulator import simulate
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

BAR = np.full((40, 20), 255, np.uint8)
BAR[5:35, 6:14] = np.linspace(30, 180, 30, dtype=np.uint8)[:, None]
WHITE = np.full((20, 20), 255, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config():
    return resolve(KaryotypeConfig, preset="check")


@pytest.fixture(scope="module")
def parts(config):
    """One cell to learn from, one to choose on, two to answer for."""
    train, valid, test = simulate(config)
    return first_cell(train), first_cell(valid), test


def first_cell(chromosomes):
    return chromosomes.take(next(iter(chromosomes.rows_by_case().values())))


def fitted(parts, config, folder, init=None):
    train, valid = (ChromosomeSplit(part, synthetic=True) for part in parts[:2])
    return ChromosomeClassifier(config).fit(train, valid, FitContext(folder, seed=3), init=init)


@pytest.fixture(scope="module")
def model(parts, config, tmp_path_factory):
    return fitted(parts, config, tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "model"
    save_bundle(model, folder, plugin="varifocal-net", task="karyotype")
    return folder


@pytest.fixture
def variant(model, tmp_path):
    """Makes the same networks answer by other options."""

    def make(**changes):
        state = model.write_parts(tmp_path)
        return ChromosomeClassifier.read_parts(model.config.replace(**changes), state, tmp_path, "cpu")

    return make


def table(images, cases=None, names=None, fixed=None):
    """What ``predict`` takes: images as bytes, or paths where they are text."""
    rows = len(images)
    sources = [png_bytes(one) if isinstance(one, np.ndarray) else one for one in images]
    texts = {"case": cases or [None] * rows, "chromosome": names or [f"n{row}" for row in range(rows)]}
    return pa.table(
        {name: pa.array(values, pa.string()) for name, values in texts.items()}
        | {"image": pa.array(sources), "fixed_type": pa.array(fixed or [None] * rows, pa.string())}
    )


def table_of(chromosomes: Chromosomes, **columns):
    return table(
        chromosomes.images, **{"cases": list(chromosomes.cases), "names": list(chromosomes.names), **columns}
    )


@pytest.fixture(scope="module")
def cells(parts):
    return table_of(parts[2])


@pytest.fixture(scope="module")
def answer(model, cells):
    return model.predict(cells)


@pytest.fixture(scope="module")
def delivered(model, cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return model.predict(cells, files=folder), folder


# Rows.


def test_answers_keep_the_schema_and_agree_with_themselves(model, cells, answer):
    assert answer.schema.equals(model.output_schema.arrow_schema())
    assert answer.num_rows == cells.num_rows
    for row in answer.to_pylist():
        top = [row[f"probability_{place}"] for place in (1, 2, 3)]
        assert top == sorted(top, reverse=True)
        assert 0 < sum(top) <= 1 + 1e-9
        assert row["moved"] == (row["type"] != row["type_1"])
        assert row["needs_review"] == (row["probability"] < 0.9)
        assert 0.5 <= row["polarity_probability"] <= 1
        assert row["problem"] is None
        assert row["karyogram_path"] is None


def test_local_boxes_lie_in_the_image(answer, parts):
    for row, image in zip(answer.to_pylist(), parts[2].images, strict=True):
        assert 0 <= row["box_x0"] <= row["box_x1"] <= image.shape[1]
        assert 0 <= row["box_y0"] <= row["box_y1"] <= image.shape[0]


def test_paths_and_bytes_are_the_same_in_any_order(model, cells, answer, tmp_path):
    paths = []
    for row, content in enumerate(cells.column("image").to_pylist()):
        path = tmp_path / f"{row}.png"
        path.write_bytes(content)
        paths.append(str(path))
    by_path = cells.set_column(cells.column_names.index("image"), "image", pa.array(paths))
    order = np.random.default_rng(0).permutation(cells.num_rows)
    found = model.predict(by_path.take(order))
    assert found.select(["case", "chromosome"]).equals(cells.take(order).select(["case", "chromosome"]))
    same(found.to_pylist(), answer.take(order).to_pylist())


def same(found, expected):
    """Rows that differ by rounding alone: other blocks may be summed in another order."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            wanted = pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
            assert one[name] == wanted, name


def test_a_cell_does_not_depend_on_other_cells(model, cells, answer, parts):
    for rows in parts[2].rows_by_case().values():
        assert model.predict(cells.take(rows)).equals(answer.take(rows))


def test_the_same_table_gives_the_same_answer(model, cells, answer):
    assert model.predict(cells).equals(answer)


def test_rows_without_a_case_are_answered_alone(model, cells, answer):
    alone = model.predict(cells.slice(0, 5).drop_columns(["case"]).append_column("case", [[None] * 5]))
    assert all(row["karyotype"] is None for row in alone.to_pylist())
    assert all("cell is not known" in row["warnings"] for row in alone.to_pylist())
    assert not any(alone.column("moved").to_pylist())
    assert alone.column("type").to_pylist() == alone.column("type_1").to_pylist()
    again = table(cells.slice(2, 1).column("image").to_pylist())
    assert model.predict(again).column("probability")[0].as_py() == pytest.approx(
        alone.column("probability")[2].as_py(), abs=1e-5
    )
    assert answer.column("karyotype").null_count == 0


@pytest.mark.parametrize("broken", [b"no image", b"", png_bytes(WHITE), "absent.png"], ids=repr)
def test_a_broken_image_without_a_case_is_named_in_its_row_alone(model, broken, tmp_path):
    good = str(tmp_path / "good.png")
    (tmp_path / "good.png").write_bytes(png_bytes(BAR))
    rows = [good, broken, good] if isinstance(broken, str) else [BAR, broken, BAR]
    asked = table(rows, names=["a", "b", "c"])
    first, second, third = model.predict(asked, files=tmp_path / "out").to_pylist()
    assert first["type"] == third["type"]
    assert second["chromosome"] == "b"
    assert ("'b'" if isinstance(broken, bytes) else "absent.png") in second.pop("problem")
    assert {name for name, value in second.items() if value is not None} == {"chromosome"}
    assert first["problem"] is None


def test_where_no_image_can_be_used_every_row_says_so(model, tmp_path):
    found = model.predict(table([b"x", png_bytes(WHITE)]), files=tmp_path)
    assert found.column("type").null_count == 2
    assert found.column("problem").null_count == 0
    assert found.schema.equals(model.output_schema.arrow_schema())


def test_no_rows_give_no_rows(model, cells, tmp_path):
    assert model.predict(cells.slice(0, 0), files=tmp_path).num_rows == 0


def test_a_broken_image_in_a_cell_is_named_with_its_cell_and_spares_the_others(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "good.png").write_bytes(png_bytes(BAR))
    sources = [str(tmp_path / name) for name in ("good.png", "bad.png", "absent.png", "good.png")]
    asked = table(sources, ["sick", "sick", "sick", "well"])
    with pytest.raises(UnusableGroups, match=r"bad\.png") as caught:
        model.predict(asked)
    (problem,) = caught.value.problems
    assert problem.key == ("sick",)
    assert "bad.png" in problem.rule
    assert "1 more image" in problem.rule
    assert caught.value.hint
    prediction = predict_usable(model, asked)
    assert prediction.rejected.tolist() == [0, 1, 2]
    assert prediction.table.column("case").to_pylist() == ["well"]
    (violation,) = prediction.violations
    assert "sick" in str(violation)
    assert "bad.png" in str(violation)
    assert (violation.row, violation.column, violation.value) == (2, "image", sources[1])


def test_an_absent_image_amid_a_batch_costs_its_own_cell_alone_also_in_the_lists(
    saved, model, cells, tmp_path
):
    rows = pa.concat_tables([_renamed(cells, name) for name in ("one", "two", "three")])
    paths = []
    for number, content in enumerate(rows.column("image").to_pylist()):
        paths.append(f"{number}.png")
        (tmp_path / paths[-1]).write_bytes(content)
    (tmp_path / paths[cells.num_rows + 1]).unlink()
    write_table(rows.set_column(2, "image", pa.array(paths)), tmp_path / "cells.csv")
    out = tmp_path / "scores"
    summary = score_run(str(saved), [str(tmp_path / "cells.csv")], out)
    scored = pq.read_table(out / "predictions.parquet")
    assert summary.rejected > 0
    expected = set(scored.column("case").to_pylist())
    assert {"one", "three"} <= {name.partition("-")[0] for name in expected}
    for name in ("cases.csv", "corrections.csv"):
        assert {plain(line["case"]) for path in out.rglob(name) for line in listed(path)} == expected
    manifest = json.loads((out / "manifest.json").read_text())
    recorded = {file["path"] for part in manifest["parts"] for file in part["files"]}
    assert recorded == {path.relative_to(out).as_posix() for path in (out / "files").rglob("*.*")}
    assert {path.rpartition(".")[2] for path in recorded} == {"csv", "html", "png"}
    assert set(scored.column("karyogram_path").to_pylist()) < recorded


def test_what_a_listing_notes_is_said_before_a_prediction(saved, cells, tmp_path):
    for number, name in enumerate(("1", "2", "3")):
        (tmp_path / "images" / name).mkdir(parents=True)
        content = cells.column("image")[number].as_py()
        (tmp_path / "images" / name / f"{name}_1.png").write_bytes(content)
    said = Said()
    predict_file(str(saved), tmp_path / "images", progress=said)
    assert said.lines == [" note        folders are types, not cells"]


class Said(SilentProgress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def _renamed(cells, name):
    cases = [f"{name}-{case}" for case in cells.column("case").to_pylist()]
    return cells.set_column(0, "case", pa.array(cases))


def test_every_image_of_a_clean_table_is_read_once(model, monkeypatch):
    read = []
    honest = readers.read_images
    monkeypatch.setattr(
        readers, "read_images", lambda sources, *rest: read.extend(sources) or honest(sources, *rest)
    )
    assert predict_usable(model, table([BAR, BAR, BAR], ["c", "c", None])).table.num_rows == 3
    assert len(read) == 3


def test_an_all_white_image_is_named(model):
    asked = table([BAR, WHITE], ["c", "c"], ["good", "blank"])
    with pytest.raises(DataError, match="'blank': 20 x 20 px of background, no chromosome"):
        model.predict(asked)


@pytest.mark.parametrize("level", [0, 90, 200, 255])
def test_one_pixel_is_no_chromosome_and_said_so(model, level):
    found = model.predict(table([np.full((1, 1), level, np.uint8)]))
    assert "1 x 1 px of background" in found.column("problem")[0].as_py()


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 300), (300, 1), (3, 3)], ids=str)
def test_thin_images_are_answered_for(model, shape):
    image = np.full(shape, 255, np.uint8)
    image.flat[image.size // 2] = 0
    row = model.predict(table([image])).to_pylist()[0]
    assert row["problem"] is None or "background" in row["problem"]
    assert row["type"] in (*TYPES, None)


# Cells.


def test_types_that_a_person_has_settled_are_kept(model, parts):
    cell = first_cell(parts[2])
    fixed = [None] * len(cell)
    fixed[0], fixed[5], fixed[6], fixed[7], fixed[8] = "Y", "21", "21", "21", "21"
    rows = model.predict(table_of(cell, fixed=fixed)).to_pylist()
    assert [row["type"] for row, kind in zip(rows, fixed, strict=True) if kind] == ["Y", *["21"] * 4]
    assert not any(rows[place]["moved"] or rows[place]["needs_review"] for place in (0, 5, 6, 7, 8))
    assert "+21" in rows[0]["karyotype"]


def test_every_type_settled_is_the_karyotype(variant, parts):
    cell = first_cell(parts[2])
    fixed = [TYPES[label] for label in cell.labels]
    for dispatch in ("assignment", "paper", "none"):
        found = variant(review={"dispatch": dispatch}).predict(table_of(cell, fixed=fixed))
        assert found.column("type").to_pylist() == fixed


def test_a_settled_type_that_is_none_is_refused_by_the_contract(model):
    asked = table([BAR, BAR], ["a", "b"], fixed=["23", "X"])
    checked = check(asked, model.input_schema)
    assert checked.rejected.tolist() == [0]
    assert "fixed_type" in str(checked.violations[0])


@pytest.mark.parametrize("chromosomes", [1, 2, 100])
def test_a_case_that_is_no_whole_cell_is_answered_with_a_warning(model, chromosomes, tmp_path):
    found = model.predict(table([BAR] * chromosomes, ["c"] * chromosomes), files=tmp_path).to_pylist()
    assert {row["karyotype"] for row in found} == {f"{chromosomes},?"}
    assert all(row["warnings"] for row in found)
    if chromosomes > 72:
        assert "not dispatched" in found[0]["warnings"]
    assert (tmp_path / found[0]["karyogram_path"]).is_file()


@pytest.mark.parametrize("dispatch", ["assignment", "paper", "none"])
def test_cells_are_made_consistent_as_asked(variant, cells, dispatch):
    rows = variant(review={"dispatch": dispatch}).predict(cells.slice(0, 46)).to_pylist()
    assert any(row["moved"] for row in rows) == (dispatch != "none")
    assert {row["case"] for row in rows} == {rows[0]["case"]}
    assert len({row["karyotype"] for row in rows}) == 1
    if dispatch == "assignment":
        counts = np.unique([row["type"] for row in rows], return_counts=True)[1]
        assert counts.max() <= 3


# Files.


def test_karyograms_and_lists_are_there_with_their_checksums(delivered, answer, cells):
    found, folder = delivered
    rows = found.to_pylist()
    cases = list(dict.fromkeys(row["case"] for row in rows))
    paths = {row["case"]: (row["karyogram_path"], row["karyogram_sha256"]) for row in rows}
    for path, sha256 in paths.values():
        content = (folder / path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256
        assert Image.open((folder / path).with_suffix(".png")).size[0] > 200
    expected = {
        "cases.csv",
        "corrections.csv",
        *(f"karyograms/{case}.{end}" for case in cases for end in ("html", "png")),
    }
    written = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {name for name in written if not name.startswith("images/")} == expected
    plain_columns = [name for name in answer.column_names if not name.startswith("karyogram_")]
    assert found.select(plain_columns).equals(answer.select(plain_columns))
    assert "simulated" in (folder / rows[0]["karyogram_path"]).read_text("utf-8")


def listed(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_lists_name_every_cell_and_every_chromosome(delivered):
    found, folder = delivered
    rows = found.to_pylist()
    by_case = {line["case"]: line for line in listed(folder / "cases.csv")}
    assert set(by_case) == {row["case"] for row in rows}
    for row in rows:
        assert by_case[row["case"]]["karyotype"] == row["karyotype"]
        assert plain(by_case[row["case"]]["warnings"]) == row["warnings"]
    lines = listed(folder / "corrections.csv")
    assert [(plain(one["case"]), plain(one["chromosome"]), one["type"]) for one in lines] == [
        (row["case"], row["chromosome"], row["type"]) for row in rows
    ]
    assert {one["fixed_type"] for one in lines} == {""}


def _as_npz(cell, folder):
    np.savez(
        folder / "cells.npz",
        pixels=np.concatenate([image.ravel() for image in cell.images]),
        offsets=np.cumsum([0, *(image.size for image in cell.images)]),
        height=np.array([len(image) for image in cell.images]),
        width=np.array([image.shape[1] for image in cell.images]),
        case=np.zeros(len(cell), dtype=int),
        case_ids=np.array(["p/1"]),
    )
    return folder / "cells.npz"


def _as_coco(cell, folder):
    tall = max(len(image) for image in cell.images)
    left = np.cumsum([0, *(image.shape[1] for image in cell.images)]).tolist()
    page = np.full((tall, left[-1]), 255, np.uint8)
    for x, image in zip(left, cell.images, strict=False):
        page[: len(image), x : x + image.shape[1]] = image
    (folder / "p.png").write_bytes(png_bytes(page))
    boxes = [[x, 0, image.shape[1], len(image)] for x, image in zip(left, cell.images, strict=False)]
    document = {
        "images": [{"id": 1, "file_name": "p.png"}],
        "categories": [{"id": 1, "name": "chromosome"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": b} for n, b in enumerate(boxes)],
    }
    (folder / "cells.json").write_text(json.dumps(document))
    return folder / "cells.json"


@pytest.mark.parametrize("background", ["auto", "black"])
@pytest.mark.parametrize("write", [_as_npz, _as_coco], ids=["npz", "coco"])
def test_corrections_of_images_without_files_are_fed_back(variant, parts, tmp_path, write, background):
    cell = first_cell(parts[2]).take(np.arange(12))
    if background == "black":
        cell = Chromosomes(
            [255 - image for image in cell.images],
            *(getattr(cell, name) for name in ("names", "cases", "specimens", "labels", "polarity", "fixed")),
        )
    data = DataConfig(background=background)
    model = variant(data={"background": background})
    asked = readers.input_table(readers.list_chromosomes(write(cell, tmp_path), data), background)
    # two equal images of equal name are two chromosomes
    asked = pa.concat_tables([asked, asked.slice(0, 1).set_column(1, "chromosome", pa.array(["again"]))])
    first = model.predict(asked, files=tmp_path / "out").to_pylist()
    lines = listed(tmp_path / "out" / "corrections.csv")
    assert len({line["image"] for line in lines}) == len(first) == 13
    lines[3]["fixed_type"] = "Y"
    (tmp_path / "out").rename(tmp_path / "moved")
    with (tmp_path / "moved" / "corrections.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    again = readers.list_chromosomes(tmp_path / "moved" / "corrections.csv", data)
    second = model.predict(readers.input_table(again, background)).to_pylist()
    assert [row["chromosome"] for row in second] == [row["chromosome"] for row in first]
    assert [row["probability_1"] for row in second] == [row["probability_1"] for row in first]
    assert second[3]["type"] == "Y"


def test_without_karyograms_there_are_lists_alone(variant, cells, tmp_path):
    quiet = variant(review={"karyograms": False})
    found = quiet.predict(cells.slice(0, 3), files=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} - {"images"} == {
        "cases.csv",
        "corrections.csv",
    }
    assert found.column("karyogram_path").null_count == 3


HOSTILE = (
    *("../../etc/passwd", "/etc/passwd", "a/b", "a b", "a-b", "a\\b", "..", ".", "", ".hidden", "-rf"),
    *("x" * 300, "x" * 299, "染" * 120, "<script>alert(1)</script>", "=1+1", "a\nb", "a\0b", "{{ 7*7 }}"),
    file_stem("a b"),
)


def test_hostile_case_names_make_files_that_are_apart_and_in_place(model, tmp_path):
    out = tmp_path / "deep" / "out"
    found = model.predict(table([BAR] * len(HOSTILE), list(HOSTILE)), files=out).to_pylist()
    assert [row["case"] for row in found] == list(HOSTILE)
    paths = [row["karyogram_path"] for row in found]
    assert len(set(paths)) == len(HOSTILE)
    for row in found:
        page = out / row["karyogram_path"]
        assert page.resolve().parent == (out / "karyograms").resolve()
        assert hashlib.sha256(page.read_bytes()).hexdigest() == row["karyogram_sha256"]
        assert "<script>alert" not in page.read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert [plain(line["case"]) for line in listed(out / "cases.csv")] == list(HOSTILE)


@given(st.text(), st.text())
@example("a b", file_stem("a b"))
@example("", file_stem(""))
def test_file_names_are_apart_and_short(one, other):
    assume(one != other)
    assert file_stem(one) != file_stem(other)
    stem = file_stem(one)
    assert len(stem.encode()) < 100
    assert stem
    assert stem[0] not in ".-"
    assert not set(stem) & set("/\\:\0\n")


def test_an_ordinary_case_name_is_the_file_name():
    assert file_stem("A17-03") == "A17-03"


# Saved and loaded, and trained on.


def test_saved_and_loaded_it_answers_the_same(model, saved, cells, answer):
    again, info = load_bundle(saved, spec=PLUGIN)
    assert again.predict(cells).equals(answer)
    assert dict(again.describe()) == dict(model.describe())
    assert info.state["reference"] == model.reference
    assert info.state["classes"] == list(TYPES)


def test_a_loaded_model_is_trained_further_with_its_scale(saved, parts, config, tmp_path, cells, answer):
    start, _ = load_bundle(saved, spec=PLUGIN)
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    # one of the two cells is enough to see whether the scale would change
    larger = parts[0].take(np.arange(len(parts[0])))
    doubled = Chromosomes(
        [np.kron(image, np.ones((2, 2), np.uint8)) for image in larger.images],
        *(getattr(larger, name) for name in ("names", "cases", "specimens", "labels", "polarity", "fixed")),
    )
    tuned = fitted((doubled, doubled), config, tmp_path, init=start)
    assert tuned.reference == start.reference
    assert tuned.crop == start.crop
    assert list(tuned.valid_losses) == [start.crop]
    assert not tuned.predict(cells).equals(answer)
    assert all(torch.equal(value, before[name]) for name, value in start.network.state_dict().items())


@pytest.mark.parametrize("change", [{"width": (8, 8, 16, 24)}, {"input_size": 80}, {"head": "fan"}], ids=str)
def test_training_further_refuses_networks_of_another_size(model, parts, config, tmp_path, change):
    (name,) = change
    with pytest.raises(ConfigError, match=f"network.{name}") as caught:
        fitted(parts, config.replace(network=change), tmp_path, init=model)
    assert "--set" in caught.value.hint


# Options.


@pytest.mark.parametrize("crop", ["simple", "varifocal"])
def test_one_crop_and_the_joint_classifiers_alone(parts, config, tmp_path, crop):
    model = fitted(parts, config.replace(network={"crop": crop, "answer": "joint"}), tmp_path)
    assert model.crop == crop
    assert list(model.valid_losses) == [crop]
    assert model.blend.sources == ("joint",)
    assert (model.box_offset is None) == (crop == "simple")
    told = dict(model.describe())
    assert "joint" in told["who answers"]
    assert model.predict(table([BAR], ["c"])).column("type").null_count == 0
    names = model.parts(first_cell(parts[2]), parts[1])
    assert set(names) == {"g-net", "l-net"}


@pytest.mark.parametrize("views", [1, 2, 4])
def test_views_are_averaged(variant, parts, views):
    model, cell = variant(network={"views": views}), first_cell(parts[2]).take(np.arange(6))
    upright = model.predict(table_of(cell))
    turned = model.predict(table([image[::-1].copy() for image in cell.images], list(cell.cases)))
    for one, other in zip(upright.to_pylist(), turned.to_pylist(), strict=True):
        agree = one["polarity_probability"] == pytest.approx(other["polarity_probability"], abs=1e-4)
        if views > 1:
            # what stands on its head is the same chromosome with the other polarity
            assert agree
            assert one["probability_1"] == pytest.approx(other["probability_1"], abs=1e-4)
            assert one["polarity"] != other["polarity"]


def test_a_black_background_is_the_same_as_a_white_one(model, parts, variant):
    cell = first_cell(parts[2])
    white = model.predict(table_of(cell))
    black = table([255 - image for image in cell.images], list(cell.cases), list(cell.names))
    assert model.predict(black).equals(white)
    mixed = [image if row % 2 else 255 - image for row, image in enumerate(cell.images)]
    assert model.predict(table(mixed, list(cell.cases), list(cell.names))).equals(white)
    assert variant(data={"background": "black"}).predict(black).equals(white)


def test_scale_and_background_are_read_as_asked(variant, cells, answer):
    model = variant()
    model.read_as(model.config.replace(data={"scale": 0.5}))
    smaller = model.predict(cells)
    assert not smaller.select(["probability_1"]).equals(answer.select(["probability_1"]))
    model.read_as(model.config.replace(data={"scale": "auto"}))
    assert model.predict(cells).equals(answer)


def test_automatic_scale_makes_up_for_another_microscope(model, parts):
    cell = first_cell(parts[2])
    larger = [np.kron(image, np.ones((2, 2), np.uint8)) for image in cell.images]
    one, other = (
        model.read(
            Chromosomes(
                images,
                *(getattr(cell, name) for name in ("names", "cases", "specimens", "labels", "polarity")),
                cell.fixed,
            )
        )
        for images in (cell.images, larger)
    )
    # few of them change their minds for the edges of larger pixels
    assert np.abs(one.types - other.types).mean() < 0.02
    assert other.boxes == pytest.approx(2 * one.boxes, abs=12)


def test_the_card_tells_what_matters(model):
    told = dict(model.describe())
    assert "nothing here is a diagnosis" in told["intended use"]
    assert told["median area that cells are scaled to"] == f"{model.reference:.0f} px"
    assert told["input"] == "64 px, of a canvas of 128 px"
    assert len(told["who answers"].split(", ")) == len(model.blend.sources)
    assert int(told["parameters"].replace(",", "")) > 10_000
    assert {f"logloss on validation cells, {crop} crop" for crop in ("simple", "varifocal")} <= set(told)
    assert all(isinstance(value, str) and "\n" not in value for value in told.values())


def test_an_unfitted_model_has_a_card_too(config):
    assert "parameters" not in dict(ChromosomeClassifier(config).describe())


def test_parts_are_judged_apart(model, parts):
    found = model.parts(first_cell(parts[2]), parts[1])
    other = "varifocal" if model.crop == "simple" else "simple"
    assert set(found) >= {"g-net", "l-net", "joint", f"{other} crop"}
    for types, q_down in found.values():
        assert types.sum(axis=1) == pytest.approx(np.ones(46))
        assert ((q_down >= 0) & (q_down <= 1)).all()
