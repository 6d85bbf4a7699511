"""Lists of slides, how they are dealt, the simulator, and the benchmark of real tissue."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_slides import check_config, disc
from PIL import Image

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.data import DATASETS
from appliedpapers.plugins.virtual_inking.evaluation import EVALUATION
from appliedpapers.plugins.virtual_inking.geojson import line_feature, write_features
from appliedpapers.plugins.virtual_inking.model import VirtualInker
from appliedpapers.plugins.virtual_inking.published_data import SVS_SAMPLES
from appliedpapers.plugins.virtual_inking.readers import find_slides
from appliedpapers.plugins.virtual_inking.simulator import simulate_section


@pytest.fixture
def own(tmp_path):
    """Return a list of six annotated slides of three blocks."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 40)
    line = np.stack([209.5 + 178 * np.cos(angles), 209.5 + 178 * np.sin(angles)], axis=1)
    lines = ["slide,block,annotation,mpp"]
    for number in range(6):
        Image.fromarray(np.roll(disc(), number, axis=0)).save(tmp_path / f"s{number}.png")
        write_features(tmp_path / f"s{number}.geojson", [line_feature(line, "Cut", "a", {}, identity="a")])
        lines.append(f"s{number}.png,block-{number // 2},s{number}.geojson,1.0")
    path = tmp_path / "slides.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_own_slides_are_dealt_by_block_and_learned_from(own, tmp_path):
    config = check_config(
        labels={"positive_um": 70.0, "ignore_um": 100.0}, head={"training": {"epochs": 40, "lr": 1e-2}}
    )
    dataset = DATASETS.from_user(own, config)
    assert [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)] == [2, 2, 2]
    assert not leakage_audit(dataset)
    assert not dataset.provenance.synthetic
    model = VirtualInker(config).fit(dataset.train, dataset.valid, FitContext(tmp_path / "fit", seed=1))
    scored = EVALUATION.score(EVALUATION.predict(model, dataset.test), dataset.test, dataset)
    # dark against pink
    assert scored.metrics["tile_auroc"].value > 0.9
    assert scored.metrics["region_balanced_accuracy"].value > 0.8


def test_a_block_may_not_stand_on_both_sides(own):
    text = own.read_text().splitlines()
    parts = ["split", "train", "test", "valid", "valid", "test", "test"]
    own.write_text("\n".join(f"{line},{part}" for line, part in zip(text, parts, strict=True)) + "\n")
    with pytest.raises(DataError, match="'block-0' stands in train and in test"):
        DATASETS.from_user(own, check_config())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("block-1", "block-0").replace("block-2", "block-0"), "1 block to split"),
        (lambda text: text.replace(",annotation", ",note"), "no slide has an annotation"),
        (
            lambda text: text.replace("s3.geojson", "gone.geojson"),
            r"column 'annotation', row 4: gone\.geojson",
        ),
        (lambda text: text.replace("s3.png", "gone.png"), r"gone\.png: no such file"),
        (lambda text: text.replace("s3.geojson", "slides.csv"), r"slides\.csv: "),
        (lambda text: text.replace(",1.0", ",40x"), "'40x' is no resolution"),
        (lambda text: text.replace("slide,", "file,"), "column 'slide' is missing"),
        (lambda text: text.replace("s1.png", "s0.png"), "'s0' stands twice"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(own, change, words):
    own.write_text(change(own.read_text()))
    with pytest.raises(DataError, match=words) as caught:
        DATASETS.from_user(own, check_config())
    assert caught.value.hint


def test_a_folder_is_a_list_with_annotations_beside_the_slides(own):
    found = find_slides(own.parent)
    assert [one.slide_id for one in found] == [f"s{number}" for number in range(6)]
    assert all(one.annotation is not None for one in found)
    assert DATASETS.inputs(own.parent / "s2.png", check_config())["slide_id"].to_pylist() == ["s2"]
    table = DATASETS.inputs(own, check_config())
    assert table.column_names == ["slide_id", "slide", "mpp"]
    (own.parent / "empty").mkdir()
    with pytest.raises(DataError, match="no slide in it"):
        find_slides(own.parent / "empty")


def test_sections_of_a_block_are_alike_and_not_the_same():
    one, other = (simulate_section(7, number, 384) for number in (0, 1))
    assert not np.array_equal(one.rgb, other.rgb)
    both = (one.tissue & other.tissue).sum() / (one.tissue | other.tissue).sum()
    assert 0.85 < both < 1
    assert (one.cut & other.cut).sum() / (one.cut | other.cut).sum() > 0.5
    np.testing.assert_array_equal(simulate_section(7, 0, 384).rgb, one.rgb)
    assert not simulate_section(7, 0, 384, natural=True).cut.any()


def test_cut_tissue_is_darker_than_the_same_tissue_left_alone():
    cut = simulate_section(11, 0, 384, confounders=False)
    lines = np.concatenate(cut.lines)
    assert (lines > 0).all()
    assert (lines < 384).all()
    burnt = cut.rgb[cut.cut].mean()
    rest = cut.rgb[cut.tissue & ~cut.cut].mean()
    assert burnt < rest - 10
    assert cut.rgb[~cut.tissue].mean() > 235


def test_the_benchmark_leaves_each_source_out_in_turn(shared):
    config = resolve(InkingConfig, preset="check").replace(benchmark={"slides": 2, "size": 384})
    dataset = DATASETS.from_published(SVS_SAMPLES, shared / "data" / "virtual-inking", config)
    assert [fold.fold for fold in dataset.folds] == ["cmu", "tcga-cr", "oral-normal", "oral-oscc"]
    for fold in dataset.folds:
        assert all(item.slide_id.startswith(fold.fold) for item in fold.test.items)
        learned = [*fold.train.items, *fold.valid.items]
        assert not any(item.slide_id.startswith(fold.fold) for item in learned)
    assert dataset.provenance.synthetic
    assert any("simulated on real tissue" in note for note in dataset.notes)
    section = dataset.folds[0].test.items[0].section
    assert section.cut.any()
    assert section.rgb[~section.tissue].mean() > 235
    # two sources are local only: without them the benchmark is smaller, and says so
    assert [file.url is not None for file in SVS_SAMPLES.files] == [True, True]
