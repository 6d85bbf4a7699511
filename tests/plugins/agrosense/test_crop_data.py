"""Tables of crops: any header and unit, folds that hold, and one clear line for what cannot be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.tables import notes_of, write_table
from appliedpapers.plugins.agrosense.config import SimulatorConfig
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.data import DATASETS, SOIL_TEST
from appliedpapers.plugins.agrosense.simulator import simulate
from appliedpapers.plugins.agrosense.simulator_crops import CROPS, ENVELOPES, suitability
from appliedpapers.plugins.agrosense.simulator_grounds import TEXTURES, ground_ratings
from appliedpapers.plugins.agrosense.soils import SOILS

CONFIG = CropConfig()
SMALL = CropConfig().replace(simulator={"sites": 6, "fields_from": 10, "fields_to": 15})


def table(rows: int = 40, **changes) -> dict[str, list]:
    rng = np.random.default_rng(0)
    columns = {
        "crop": ["rice", "maize"] * (rows // 2),
        "pH": rng.uniform(5, 7, rows).tolist(),
        "P (mg/kg)": rng.uniform(5, 30, rows).tolist(),
        "Temp (F)": rng.uniform(60, 80, rows).tolist(),
        "humidity": rng.uniform(40, 90, rows).tolist(),
        "rain [inch]": rng.uniform(10, 40, rows).tolist(),
    }
    return {**columns, **changes}


def opened(tmp_path, columns, config=CONFIG, name="fields.csv"):
    path = tmp_path / name
    write_table(pa.table(columns), path)
    return DATASETS.from_user(path, config)


def test_headers_become_our_names_and_units_our_units(tmp_path):
    dataset = opened(tmp_path, table())
    features = {one.name: one.unit for one in dataset.train.features}
    assert features == {
        **{"ph": "pH", "phosphorus": "mg/kg", "temperature": "°C", "humidity": "%", "rainfall": "mm"}
    }
    warm = np.array(dataset.train.table.column("temperature").to_pylist())
    assert 15 < warm.min() < warm.max() < 27
    assert any("turned from inch to mm" in note for note in dataset.notes)
    assert dataset.protocol == "stratified-5-fold"
    assert sum(sample.test.num_rows for sample in dataset.folds) == 40


def test_groups_stay_on_one_side(tmp_path):
    columns = table(farm=[f"farm-{row % 8}" for row in range(40)])
    dataset = opened(tmp_path, columns)
    assert dataset.protocol == "groups-5-fold"
    assert leakage_audit(dataset) == []
    for sample in dataset.folds:
        assert not set(sample.test.groups) & set(sample.train.groups) | set(sample.test.groups) & set(
            sample.valid.groups
        )


def test_a_named_label_and_group_are_taken(tmp_path):
    columns = table(best=["rice", "maize"] * 20, owner=[str(row % 10) for row in range(40)])
    columns.pop("crop")
    dataset = opened(tmp_path, columns, CONFIG.replace(data={"label": "best", "group": "owner"}))
    assert dataset.train.classes == ("maize", "rice")
    with pytest.raises(DataError, match="column 'absent' is missing"):
        opened(tmp_path, columns, CONFIG.replace(data={"label": "absent"}))


def test_spreadsheets_are_read_like_tables(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    columns, book = table(), openpyxl.Workbook()
    for row in [list(columns), *zip(*columns.values(), strict=True)]:
        book.active.append(row)
    book.save(tmp_path / "fields.xlsx")
    dataset = DATASETS.from_user(tmp_path / "fields.xlsx", CONFIG)
    assert dataset.test_size == 40


def test_a_unit_in_the_cell_counts(tmp_path):
    path = tmp_path / "row.csv"
    path.write_text("temperature,P\n77 °F,20 mg/kg\n")
    read = DATASETS.inputs(path, CONFIG)
    assert read.column("temperature").to_pylist() == pytest.approx([25])
    assert read.column("phosphorus").to_pylist() == [20]


def test_a_nutrient_without_unit_is_noted(tmp_path):
    path = tmp_path / "row.csv"
    path.write_text("N,ph\n90,6.5\n")
    assert any("unit is not stated" in note for note in notes_of(DATASETS.inputs(path, CONFIG)))
    with_unit = DATASETS.inputs(path, CONFIG.replace(data={"units": {"N": "g/kg"}}))
    assert with_unit.column("nitrogen").to_pylist() == [90_000]


ONE = [1.0] * 39
BAD = {
    "text in a number field": ({"pH": [*ONE, "acid"]}, "column 'pH', row 40: expected a number, not 'acid'"),
    "negative rain": ({"rain [inch]": [*ONE, -2.0]}, "column 'rainfall', row 40: -50.8 is below 0 mm"),
    "pH 65": ({"pH": [*ONE, 65.0]}, "column 'ph', row 40: 65.0 is above 14 pH"),
    "percent as fraction": ({"humidity": [0.5] * 40}, "column 'humidity', row 1: 0.5 % looks like a share"),
    "all missing": ({"pH": [None] * 40}, "column 'ph': every value is missing"),
    "one class": ({"crop": ["rice"] * 40}, "column 'crop': every row is 'rice'"),
    "a class with one row": ({"crop": ["rice"] * 39 + ["teff"]}, "'teff' has 1 row, 5 folds need at least 5"),
    "no crop in a row": ({"crop": ["rice", "maize"] * 19 + ["rice", None]}, "column 'crop', row 40: no crop"),
    "twice the same": ({"temperature": [20.0] * 40}, "means temperature, which another column is already"),
    "a strange unit": ({"K (bushel)": [1.0] * 40}, "the unit 'bushel' is not known"),
    "units that do not fit": ({"K (mm)": [1.0] * 40}, "mm cannot become mg/kg"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_gets_one_line_with_field_and_remedy(tmp_path, case):
    changes, message = BAD[case]
    columns = {
        name: [str(cell) for cell in cells] if "acid" in cells else cells
        for name, cells in table(**changes).items()
    }
    with pytest.raises(DataError) as caught:
        opened(tmp_path, columns)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("header", ["pH (H2O)", "pH (CaCl2)", "Soil pH (1:2.5)", "pH [KCl]"])
def test_how_ph_was_measured_may_stand_beside_it(tmp_path, header):
    columns = table()
    columns = {header if name == "pH" else name: cells for name, cells in columns.items()}
    found = opened(tmp_path, columns)
    assert "ph" in [feature.name for feature in found.test.features]


def test_a_table_without_a_crop_says_what_to_name(tmp_path):
    columns = table()
    columns.pop("crop")
    with pytest.raises(DataError, match="no column with the crop") as caught:
        opened(tmp_path, columns)
    assert "--label" in (caught.value.hint or "")


def test_few_groups_and_absent_groups_are_refused(tmp_path):
    with pytest.raises(DataError, match="2 groups in column 'group'"):
        opened(tmp_path, table(farm=["a", "b"] * 20))
    with pytest.raises(DataError, match="no column of groups"):
        opened(tmp_path, table(), CONFIG.replace(data={"split": "groups"}))


def test_the_simulator_repeats_itself_and_hides_what_it_is_told_to():
    one, again = (DATASETS.simulated(SMALL) for _ in range(2))
    assert one.fingerprint() == again.fingerprint()
    assert one.provenance.synthetic
    assert leakage_audit(one) == []
    hidden = DATASETS.simulated(SMALL.replace(fusion={"hidden": ("clay", "phosphorus")}))
    assert {one.name for one in hidden.train.features}.isdisjoint({"clay", "phosphorus"})
    assert set(SOIL_TEST) < {one.name for one in one.train.features}
    with pytest.raises(ConfigError, match=r"fusion\.hidden") as caught:
        DATASETS.simulated(SMALL.replace(fusion={"hidden": ("cley",)}))
    assert "clay" in (caught.value.hint or "")


def test_simulated_truth_is_a_probability_that_nobody_beats():
    fields = simulate(SimulatorConfig(), 3)
    np.testing.assert_allclose(fields.chances.sum(axis=1), 1)
    best = fields.bayes_accuracy
    assert 0.3 < best < 0.9
    assert best == pytest.approx(float(fields.chances.max(axis=1).mean()), abs=0.04)
    assert np.corrcoef(np.log(fields.nitrogen), fields.organic_score)[0, 1] > 0.6


def test_fields_may_have_soils_of_their_own_which_change_no_other_number_of_the_draw():
    one, own = (simulate(SimulatorConfig(sites=8, mixed_soils=share), 3) for share in (0.0, 1.0))
    for site in range(8):
        assert len(set(one.soil_class[one.site == site])) == 1
        assert len(set(own.soil_class[own.site == site])) > 3
    np.testing.assert_array_equal(one.temperature, own.temperature)
    np.testing.assert_array_equal(one.phosphorus, own.phosphorus)


def test_a_field_in_the_middle_of_an_envelope_suits():
    for crop, (acid, warm, wet) in ENVELOPES.items():
        middle = [np.array([(part[1] + part[2]) / 2]) for part in (acid, warm, wet)]
        clay = np.array([sum(TEXTURES[crop][1:3]) / 2])
        enough = {name: np.array([500.0]) for name in ("nitrogen", "phosphorus", "potassium")}
        values = {"ph": middle[0], "clay": clay, "organic_carbon": np.array([5.0]), **enough}
        alluvial = np.array([SOILS.index("alluvial")])
        found = suitability(values, alluvial, *middle[1:])
        assert found[0, CROPS.index(crop)] == pytest.approx(1.0)


def test_the_ground_limits_crops_as_agronomy_has_it():
    ratings = ground_ratings(CROPS)
    best = {soil: dict(zip(CROPS, ratings[place], strict=True)) for place, soil in enumerate(SOILS)}
    assert set(best["alluvial"].values()) == {1.0}
    assert best["black"]["cotton"] > best["black"]["wheat"] > best["black"]["groundnut"]
    assert best["arid"]["barley"] > best["arid"]["wheat"] > best["arid"]["bean"]
    assert best["laterite"]["coffee"] > best["laterite"]["maize"] > best["laterite"]["barley"]
    assert best["mountain"]["teff"] > best["mountain"]["maize"] > best["mountain"]["groundnut"]
    assert TEXTURES["groundnut"][2] < TEXTURES["maize"][2] < TEXTURES["rice"][2]
