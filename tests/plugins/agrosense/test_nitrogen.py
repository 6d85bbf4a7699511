"""Total nitrogen: grids and units of spectra, regressions as arrays, intervals, replicates, the clip."""

from __future__ import annotations

import lzma
import struct

import numpy as np
import pyarrow as pa
import pytest

from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.model import FitContext
from appliedpapers.core.tables import read_table, write_table
from appliedpapers.plugins.agrosense.nitrogen.baselines import DateMean, PaperModel
from appliedpapers.plugins.agrosense.nitrogen.config import ModelConfig, NitrogenConfig, PreprocessingConfig
from appliedpapers.plugins.agrosense.nitrogen.data import DATASETS
from appliedpapers.plugins.agrosense.nitrogen.estimators import fit_learner, predict_learner
from appliedpapers.plugins.agrosense.nitrogen.intervals import Interval
from appliedpapers.plugins.agrosense.nitrogen.model import NitrogenModel
from appliedpapers.plugins.agrosense.nitrogen.rdata import read_frames, write_nirsoil
from appliedpapers.plugins.agrosense.nitrogen.scoring import Estimate, score
from appliedpapers.plugins.agrosense.nitrogen.spectra import preprocess, resampled, wavelength_columns

CONFIG = NitrogenConfig().replace(
    simulator={"sites": 8, "fields_from": 12, "fields_to": 16},
    model={"learners": ("svr", "pls"), "components": 4},
)


@pytest.fixture(scope="module")
def dataset():
    return DATASETS.simulated(CONFIG)


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    return NitrogenModel(CONFIG).fit(dataset.train, dataset.valid, FitContext(tmp_path_factory.mktemp("fit")))


def spectra_csv(path, rows=30, first=1100, step=10, points=60, header="A{}", scale=1.0):
    rng = np.random.default_rng(0)
    nitrogen = rng.uniform(0.5, 3, rows)
    grid = first + step * np.arange(points)
    values = (
        0.3
        + 0.05 * nitrogen[:, None] * np.exp(-(((grid - 1400) / 60) ** 2))
        + rng.normal(0, 1e-3, (rows, points))
    )
    columns = {header.format(int(one)): scale * values[:, place] for place, one in enumerate(grid)}
    write_table(pa.table({"nt": nitrogen, **columns}), path)
    return path


@pytest.mark.parametrize("name", ["pls", "svr", "gpr", "mlp", "ridge", "mean"])
def test_a_regression_learns_and_its_arrays_are_all_there_is(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 12))
    y = x @ rng.normal(size=12) * 0.3 + 2
    options = ModelConfig(seeds=2)
    arrays = fit_learner(name, x[:60], y[:60], options, 0)
    told = predict_learner(name, arrays, x[60:])
    error = np.sqrt(((told - y[60:]) ** 2).mean())
    assert error < (1.5 if name == "mean" else 0.6) * y.std()
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
    again = predict_learner(name, fit_learner(name, x[:60], y[:60], options, 0), x[60:])
    np.testing.assert_array_equal(again, told)
    alone = np.concatenate([predict_learner(name, arrays, x[[row]]) for row in range(60, 65)])
    np.testing.assert_allclose(alone, told[:5], atol=1e-10)


def test_columns_that_are_wavelengths_are_found_and_wave_numbers_turned():
    names = ["nt", "sample", *(f"X{one}" for one in range(1100, 1300, 2))]
    assert list(wavelength_columns(names, "nm").values())[:2] == [1100.0, 1102.0]
    numbers = wavelength_columns([str(one) for one in range(4000, 9000, 100)], "cm-1")
    assert min(numbers.values()) == pytest.approx(1e7 / 8900)
    assert wavelength_columns(["red", "nir", "1100"], "nm") == {}


def test_another_grid_is_read_inside_its_range_and_refused_outside():
    grid = np.arange(1100.0, 1300, 2)
    wide = np.arange(1090.0, 1320, 5)
    np.testing.assert_allclose(resampled(wide, wide * 2, grid), grid * 2)
    with pytest.raises(ValueError, match="covers 1150 to 1315 nm, 1100 to 1298 nm are needed"):
        resampled(wide[12:], wide[12:], grid)
    with pytest.raises(ValueError, match="gap of"):
        resampled(np.array([1090.0, 1200.0, 1310.0]), np.ones(3), grid)


def test_preprocessing_takes_offset_and_scale_away():
    rng = np.random.default_rng(0)
    values = rng.random((3, 50)).cumsum(axis=1)
    shifted = preprocess(values + 5, PreprocessingConfig())
    np.testing.assert_allclose(shifted, preprocess(values, PreprocessingConfig()), atol=1e-9)
    snv = preprocess(values, PreprocessingConfig(method="snv"))
    np.testing.assert_allclose(preprocess(3 * values + 5, PreprocessingConfig(method="snv")), snv, atol=1e-9)
    np.testing.assert_array_equal(preprocess(values, PreprocessingConfig(method="none")), values)


def test_a_wide_table_of_spectra_is_read_learned_from_and_judged_in_folds(tmp_path):
    dataset = DATASETS.from_user(spectra_csv(tmp_path / "lab.csv"), CONFIG)
    assert dataset.protocol == "random-5-fold"
    assert sum(sample.test.num_rows for sample in dataset.folds) == 30
    sample = dataset.folds[0]
    model = NitrogenModel(CONFIG).fit(sample.train, sample.valid, FitContext(tmp_path))
    told = model.estimate(sample.test.table)
    assert np.corrcoef(told.value, sample.test.nitrogen)[0, 1] > 0.9


def test_reflectance_becomes_absorbance_and_is_asked_for(tmp_path):
    path = spectra_csv(tmp_path / "percent.csv", scale=100)
    with pytest.raises(DataError, match="is no absorbance"):
        DATASETS.from_user(path, CONFIG)
    with pytest.raises(DataError, match="is no reflectance"):
        DATASETS.from_user(path, CONFIG.replace(data={"quantity": "reflectance"}))
    shares = spectra_csv(tmp_path / "shares.csv")
    found = DATASETS.inputs(shares, CONFIG.replace(data={"quantity": "reflectance"}))
    plain = DATASETS.inputs(shares, CONFIG)
    np.testing.assert_allclose(
        found.column("absorbance")[0].as_py(), -np.log10(plain.column("absorbance")[0].as_py())
    )


def test_a_spectrum_that_does_not_cover_the_grid_costs_its_own_row(model, dataset):
    table = dataset.test.inputs().slice(0, 2)
    short = table.column("wavelength")[1].as_py()[300:]
    cells = [table.column("wavelength")[0].as_py(), short]
    values = [table.column("absorbance")[0].as_py(), table.column("absorbance")[1].as_py()[300:]]
    table = table.set_column(1, "wavelength", pa.array(cells)).set_column(2, "absorbance", pa.array(values))
    found = predict_usable(model, table)
    assert found.rejected.tolist() == [1]
    assert "1100 to 2498 nm are needed" in found.violations[0].rule


def test_another_instrument_that_covers_the_grid_gives_nearly_the_same(model, dataset):
    table = dataset.test.inputs().slice(0, 5)
    grid = np.array(table.column("wavelength")[0].as_py())
    finer = np.arange(1100.0, 2499, 1.0)
    rows = [np.interp(finer, grid, row.as_py()) for row in table.column("absorbance")]
    other = table.set_column(1, "wavelength", pa.array([finer.tolist()] * 5))
    other = other.set_column(2, "absorbance", pa.array([row.tolist() for row in rows]))
    one, two = (np.array(predict_all(model, each).column("nitrogen").to_pylist()) for each in (table, other))
    np.testing.assert_allclose(one, two, rtol=0.02)


def test_answers_stay_inside_training_however_far_the_spectrum(model, dataset):
    x = model.matrix(dataset.test.table)
    told = np.expm1(model.answered(model.learners, 5 * x))
    assert told.max() <= model.top + 1e-9
    assert told.min() >= 0


def test_the_stored_model_says_the_same(model, dataset, tmp_path):
    state = model.write_parts(tmp_path)
    again = NitrogenModel.read_parts(CONFIG, state, tmp_path, "cpu")
    table = dataset.test.inputs()
    assert predict_all(again, table).equals(predict_all(model, table))


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        told = rng.normal(size=200)
        truth = told + rng.normal(size=200)
        interval = Interval.fit(told[:100], truth[:100], 0.1, normalised=False)
        low, high = interval(told[100:])
        inside.append(((truth[100:] >= low) & (truth[100:] <= high)).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.015)


def test_normalised_intervals_are_wider_where_errors_are_larger():
    rng = np.random.default_rng(0)
    told = rng.uniform(0, 5, 2000)
    truth = told + rng.normal(size=2000) * np.exp(0.4 * told - 1)
    interval = Interval.fit(told, truth, 0.1, normalised=True)
    low, high = interval(np.array([0.5, 4.5]))
    assert (high - low)[1] > 2 * (high - low)[0]
    again = Interval.from_json(interval.to_json())
    np.testing.assert_array_equal(again(told)[0], interval(told)[0])


def test_too_few_rows_have_no_finite_interval():
    assert np.isinf(Interval.fit(np.zeros(5), np.ones(5), 0.1, normalised=False).radius)
    assert np.isinf(Interval.from_json(Interval(np.inf).to_json()).radius)


def test_scores_use_the_variance_of_the_whole_table_where_parts_are_small(dataset):
    split = dataset.test
    told = Estimate(split.nitrogen + 0.1, split.nitrogen - 1, split.nitrogen + 1)
    found = score(told, split, None)
    assert found.metrics["rmse"].value == pytest.approx(0.1)
    assert found.metrics["coverage"].value == 1
    assert found.units["rmse"] == "g/kg"
    expected = 1 - 0.01 / split.nitrogen.var()
    assert found.metrics["r2"].value == pytest.approx(expected)


BAD = {
    "no target": ({"red": [1.0] * 12, "nir": [2.0] * 12}, "no column with total nitrogen"),
    "no inputs": ({"nt": [1.0] * 12, "note": ["x"] * 12}, "neither a spectrum nor bands"),
    "text": (
        {"nt": ["1"] * 11 + ["much"], "red": [1.0] * 12},
        "column 'nt', row 12: expected a number, not 'much'",
    ),
    "missing target": ({"nt": [1.0, *[2.0] * 10, None], "red": [1.0] * 12}, "column 'nitrogen', row 12"),
    "constant": ({"nt": [1.0] * 12, "red": list(range(12))}, "every row is 1"),
    "few": ({"nt": [1.0, 2.0], "red": [1.0, 2.0]}, "2 rows of 2 groups or single rows are too few"),
    "negative band": ({"nt": list(range(12)), "red": [-1.0] * 12}, "column 'red', row 1: -1.0 is below 0"),
    "unit": ({"nt (bushel)": list(range(12)), "red": [1.0] * 12}, "'bushel' is no unit of total nitrogen"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_gets_one_line(tmp_path, case):
    columns, message = BAD[case]
    path = tmp_path / "lab.csv"
    write_table(pa.table(columns), path)
    with pytest.raises(DataError) as caught:
        DATASETS.from_user(path, CONFIG)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_simulated_spectra_keep_sites_apart(dataset):
    assert leakage_audit(dataset) == []
    assert dataset.provenance.synthetic
    assert len(dataset.train.table.column("wavelength")[0]) == 700


def frame_bytes() -> bytes:
    """A data frame with two soils and three wavelengths, as R would save it."""

    def number(value):
        return struct.pack(">i", value)

    def text(value):
        return number(0x00040009) + number(len(value)) + value.encode()

    def texts(*values):
        return number(16) + number(len(values)) + b"".join(map(text, values))

    def symbol(name):
        return number(1) + text(name)

    def pair(name, value):
        return number(0x402) + symbol(name) + value

    def reals(*values, more=b""):
        flags = 14 | (0x200 if more else 0)
        return number(flags) + number(len(values)) + b"".join(struct.pack(">d", one) for one in values) + more

    end = number(254)
    dimnames = number(19) + number(2) + texts("1", "2") + texts("1100", "1102", "1104")
    dim = number(13) + number(2) + number(2) + number(3)
    matrix = reals(1, 4, 2, 5, 3, 6, more=pair("dim", dim) + pair("dimnames", dimnames) + end)
    train = number(13) + number(2) + number(1) + number(0)
    columns = [reals(0.5, float("nan")), reals(1, 2), reals(3, 4), train, matrix]
    names = pair("names", texts("Nt", "Ciso", "CEC", "train", "spc"))
    frame = number(19 | 0x200 | 0x100) + number(5) + b"".join(columns) + names + end
    return (
        b"RDX3\nX\n" + number(3) + number(0) + number(0) + number(5) + b"UTF-8" + pair("NIRsoil", frame) + end
    )


def test_the_r_file_becomes_our_table(tmp_path):
    path = tmp_path / "NIRsoil.RData"
    path.write_bytes(lzma.compress(frame_bytes()))
    write_nirsoil(path, tmp_path / "made" / "nirsoil.parquet")
    rows = read_table(tmp_path / "made" / "nirsoil.parquet").to_pylist()
    assert rows[0]["A1100"] == 1
    assert rows[1]["A1104"] == 6
    assert (rows[0]["Nt_g_per_kg"], rows[1]["Nt_g_per_kg"]) == (0.5, None)
    assert [row["train"] for row in rows] == [1, 0]


@pytest.mark.parametrize("content", [b"", b"RDX3", lzma.compress(b"RDX3\nX\n\0\0")])
def test_a_damaged_r_file_is_refused(tmp_path, content):
    path = tmp_path / "NIRsoil.RData"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_frames(path)


def ums(shared, monkeypatch, **data):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))
    from appliedpapers.core.sources import load_dataset

    config = NitrogenConfig().replace(data=data)
    return load_dataset(DATASETS, "agrosense", config, dataset="ums-tn")


@pytest.mark.shared
def test_the_papers_defaults_are_reproduced_on_its_split(shared, monkeypatch, tmp_path):
    dataset = ums(shared, monkeypatch, protocol="paper")
    truth = dataset.test.nitrogen
    for kind, printed in (("mlp", 190.61), ("svm", 215.84)):
        told = PaperModel(kind).fit(dataset.train, dataset.valid, FitContext(tmp_path)).predict(dataset.test)
        assert np.sqrt(((told.value - truth) ** 2).mean()) == pytest.approx(printed, abs=0.5)


@pytest.mark.shared
def test_replicates_stay_together_and_the_date_says_as_much_as_any_model(shared, monkeypatch, tmp_path):
    dataset = ums(shared, monkeypatch)
    assert len(dataset.folds) == 18
    assert leakage_audit(dataset) == []
    errors = []
    for sample in dataset.folds:
        told = DateMean().fit(sample.train, sample.valid, FitContext(tmp_path)).predict(sample.test)
        errors.append((told.value - sample.test.nitrogen) ** 2)
    assert np.sqrt(np.concatenate(errors).mean()) == pytest.approx(181, abs=1)


@pytest.mark.shared
def test_the_audit_names_ladder_codes_and_the_index_that_deviates(shared, monkeypatch):
    dataset = ums(shared, monkeypatch)
    said = " | ".join(DATASETS.remarks(dataset, NitrogenConfig()))
    assert "0.950 times the first" in said
    assert "in 15 of 18 samples" in said
    assert "'humidity' has 3 values, one a date" in said
    assert "'temperature' has 3 values, one a date" in said
    assert "by up to 0.277, at date-2" in said
    assert "621.4 nm: correlation 0.74, 120 ppm" in said
    assert "668.1 nm: correlation 0.86, 86 ppm" in said


def test_more_folds_learn_from_more_rows_each(dataset, tmp_path, monkeypatch):
    sizes = []

    def counted(self, names, x, y, seed):
        sizes.append(len(y))
        return fitted(self, names, x, y, seed)

    fitted = NitrogenModel.fitted
    monkeypatch.setattr(NitrogenModel, "fitted", counted)
    config = NitrogenConfig().replace(model={"learners": ("ridge",)}, interval={"folds": 3})
    NitrogenModel(config).fit(dataset.train, dataset.valid, FitContext(tmp_path))
    assert len(sizes) == 4
    assert max(sizes[:3]) < sizes[3] == dataset.train.num_rows + dataset.valid.num_rows
