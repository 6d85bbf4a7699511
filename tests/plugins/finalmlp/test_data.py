"""Logs as users bring them, published samples and the simulator: read, cut, audited, fitted, asked."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from small_clicks import FIELDS, clicks, configured, probabilities

from appliedpapers.core.config import resolve
from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.inference import predict_all
from appliedpapers.core.model import FitContext
from appliedpapers.core.sources import SIMULATED, load_dataset
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig
from appliedpapers.plugins.finalmlp.data import DATASETS, build_dataset, gauc_column
from appliedpapers.plugins.finalmlp.model import FinalMlpModel
from appliedpapers.plugins.finalmlp.simulator_options import VARIANTS

GIVEN = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in FIELDS.items()}


def fit_on(dataset, config, folder):
    return FinalMlpModel(config).fit(dataset.train, dataset.valid, FitContext(folder, seed=config.seed))


def notes_of(dataset):
    return "\n".join(dataset.notes)


def texts(table):
    """Return a log as a text file can hold it: lists as one text."""
    tags = ["|".join(row) or None for row in table["tags"].to_pylist()]
    return table.set_column(table.column_names.index("tags"), "tags", pa.array(tags, pa.string()))


def write(table, folder, form):
    """Write a log in one of the forms that users bring and return the path."""
    if form == "parquet":
        pq.write_table(table, folder / "log.parquet")
        return folder / "log.parquet"
    if form == "pandas":
        table.to_pandas().to_parquet(folder / "log.parquet")
        return folder / "log.parquet"
    if form == "shards":
        (folder / "log").mkdir()
        for number in range(3):
            pq.write_table(table.slice(number * 500, 500), folder / "log" / f"part-{number}.parquet")
        return folder / "log"
    if form == "hive":
        days = pa.array([str(moment)[:10] for moment in table["when"].to_pylist()])
        pq.write_to_dataset(table.append_column("day", days), folder / "log", partition_cols=["day"])
        return folder / "log"
    if form == "csv":
        csv.write_csv(texts(table), folder / "log.csv")
        return folder / "log.csv"
    text = pa.BufferOutputStream()
    csv.write_csv(texts(table), text, csv.WriteOptions(delimiter="\t"))
    (folder / "log.tsv.gz").write_bytes(gzip.compress(text.getvalue().to_pybytes()))
    return folder / "log.tsv.gz"


FORMS = ("parquet", "pandas", "shards", "hive", "csv", "tsv.gz")


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_a_log_is_understood_fitted_and_asked(tmp_path, form):
    table = clicks(1500)
    path = write(table, tmp_path, form)
    config = configured("training.epochs=1")
    dataset = DATASETS.from_user(path, config)
    fields = dataset.train.fields
    roles = {name: fields[name].role for name in table.column_names}
    assert roles == {
        "row_id": "ignore",
        "click": "label",
        "when": "timestamp",
        "user": "categorical",
        "price": "numeric",
        "item": "categorical",
        "tags": "sequence",
        # whole numbers, but with gaps: a text file and pandas make them fractions
        "age": "numeric",
        "past": "sequence",
        "device": "categorical",
    }
    assert (dataset.train.num_rows, dataset.valid.num_rows, dataset.test.num_rows) == (1200, 150, 150)
    assert dataset.protocol == "time 80/10/10"
    assert "roles of columns were inferred" in notes_of(dataset)
    model = fit_on(dataset, config, tmp_path / "run")
    inputs = DATASETS.inputs(path, config)
    answer = predict_all(model, inputs)
    assert answer["row_id"].to_pylist() == inputs["row_id"].to_pylist()
    assert sorted(answer["row_id"].to_pylist()) == sorted(table["row_id"].to_pylist())
    assert np.isfinite(answer["probability"].to_numpy()).all()
    asked = predict_all(model, inputs.take(np.argsort(inputs["row_id"].to_pylist())[:200]))
    assert asked.num_rows == 200


@pytest.mark.parametrize("form", ["parquet", "shards"])
def test_given_roles_are_followed_and_answers_do_not_depend_on_the_form(tmp_path, form):
    table = clicks(1500)
    config = configured(f"data.fields={GIVEN}", "training.epochs=1")
    (tmp_path / "other").mkdir()
    dataset = DATASETS.from_user(write(table, tmp_path, form), config)
    assert dict(dataset.train.fields) == dict(FIELDS)
    assert "inferred" not in notes_of(dataset)
    direct = DATASETS.from_user(write(table, tmp_path / "other", "pandas"), config)
    ours, theirs = (
        fit_on(one, config, tmp_path / f"run-{number}") for number, one in enumerate((dataset, direct))
    )
    np.testing.assert_array_equal(probabilities(ours, table), probabilities(theirs, table))


def test_predictions_of_a_file_are_those_of_the_split_that_it_holds(tmp_path):
    table = clicks(1500)
    path = write(table, tmp_path, "csv")
    config = configured("training.epochs=1")
    dataset = DATASETS.from_user(path, config)
    model = fit_on(dataset, config, tmp_path / "run")
    whole = predict_all(model, DATASETS.inputs(path, config))
    test = model.predict_split(dataset.test)
    places = dataset.test.places
    np.testing.assert_allclose(test.probability, whole["probability"].to_numpy()[places], rtol=0, atol=1e-6)


def test_whole_numbers_with_gaps_are_the_same_tokens_as_floats(tmp_path):
    table = clicks(1000)
    numbers = [int(user[1:]) for user in table["user"].to_pylist()]
    whole = table.set_column(3, "user", pa.array(numbers, pa.int64()))
    gaps = table.set_column(3, "user", pa.array([float(n) if n % 5 else None for n in numbers]))
    fields = f"data.fields={GIVEN}"
    found = {}
    for name, one in (("whole", whole), ("gaps", gaps)):
        (tmp_path / name).mkdir()
        one.to_pandas().to_parquet(tmp_path / name / "log.parquet")
        config = configured(fields, "training.epochs=1")
        dataset = DATASETS.from_user(tmp_path / name / "log.parquet", config)
        found[name] = fit_on(dataset, config, tmp_path / f"run-{name}")
    known = {name: set(model.encoder.vocabulary("user").tokens.to_pylist()) for name, model in found.items()}
    assert known["whole"] == {str(n) for n in range(40)}
    assert known["gaps"] == {str(n) for n in range(40) if n % 5} | {None}
    # rows to predict may hold the ids in any of the types
    ids = [3, 7, 12]
    rows = whole.slice(0, 3)
    answers = [
        probabilities(found["gaps"], rows.set_column(3, "user", values))
        for values in (pa.array(ids), pa.array([float(n) for n in ids]), pa.array([str(n) for n in ids]))
    ]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


# -- cuts


@pytest.mark.parametrize(
    ("role", "method", "named"), [("split", "column", "column part"), ("group", "group", "group")]
)
def test_rows_are_cut_as_their_roles_say(role, method, named):
    table = clicks(900)
    part = np.array(["train", "valid", "test"])[np.repeat([0, 1, 2], [500, 200, 200])]
    values = part if role == "split" else [f"g{row % 45}" for row in range(900)]
    table = table.append_column("part", pa.array(values))
    fields = {**FIELDS, "part": FieldSpec(role=role)}
    dataset = built(table, fields, f"data.split={method}")
    assert dataset.protocol.startswith(named)
    counts = [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)]
    assert sum(counts) == 900
    if role == "split":
        assert counts == [500, 200, 200]
    else:
        groups = [
            set(part.column("part").to_pylist()) for part in (dataset.train, dataset.valid, dataset.test)
        ]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def built(table, fields, *options):
    from appliedpapers.core.data import Provenance
    from appliedpapers.core.features.rows import TableRows

    return build_dataset(
        TableRows(table),
        fields,
        configured(*options),
        name="log",
        provenance=Provenance("test", "none", synthetic=False),
    )


def test_a_random_cut_is_warned_about():
    dataset = built(clicks(600), {name: one for name, one in FIELDS.items() if name != "when"})
    assert dataset.protocol == "random 80/10/10"
    assert "at random" in notes_of(dataset)


@pytest.mark.parametrize(
    ("fields", "wanted", "expected"),
    [
        (FIELDS, "auto", "user"),
        ({**FIELDS, "session": FieldSpec(role="group")}, "auto", "session"),
        ({"click": FieldSpec(role="label"), "x": FieldSpec(role="numeric")}, "auto", None),
        (FIELDS, "device", "device"),
    ],
)
def test_gauc_is_within_groups_else_users(fields, wanted, expected):
    assert gauc_column(fields, wanted) == expected


def test_an_unknown_column_for_gauc_is_named_with_its_neighbour():
    with pytest.raises(ConfigError, match=r"'data\.gauc': no column 'usr'") as caught:
        gauc_column(FIELDS, "usr")
    assert "user" in caught.value.hint


# -- what a fair test must not hold


def test_a_planted_column_that_knows_the_answer_is_named():
    table = clicks(1500)
    truth = table["click"].to_numpy()
    random = np.random.default_rng(0)
    noisy = truth + random.normal(0, 0.05, 1500)
    codes = np.where(truth == 1, random.integers(0, 5, 1500), random.integers(5, 10, 1500))
    table = table.append_column("paid", pa.array(noisy)).append_column(
        "state", pa.array(codes).cast(pa.string())
    )
    fields = {**FIELDS, "paid": FieldSpec(role="numeric"), "state": FieldSpec(role="categorical")}
    found = notes_of(built(table, fields))
    assert "suspected leak: 'paid'" in found
    assert "suspected leak: 'state'" in found
    assert "'item'" not in found
    assert "suspected leak" not in notes_of(built(clicks(1500), FIELDS))


def test_repeated_rows_are_counted_where_nothing_makes_rows_unique():
    fields = {name: FIELDS[name] for name in ("click", "user", "price", "item")}
    table = clicks(600).select(list(fields))
    parts = pa.array(["train"] * 400 + ["valid"] * 100 + ["test"] * 100)
    twins = pa.concat_tables([table.slice(0, 560), table.slice(0, 40)]).append_column("part", parts)
    fields = {**fields, "part": FieldSpec(role="split")}
    assert "40 test rows repeat a train row" in notes_of(built(twins, fields))
    assert "repeat" not in notes_of(built(table.append_column("part", parts), fields))


def test_rows_with_a_time_have_signatures_for_the_audit_unless_the_cut_keeps_equal_rows_together():
    dataset = built(clicks(600), FIELDS, "data.split=random")
    found = [part.signatures().to_pylist() for part in (dataset.train, dataset.valid, dataset.test)]
    assert [len(one) for one in found] == [480, 60, 60]
    assert len(set().union(*found)) == 600
    assert built(clicks(600), FIELDS).train.signatures() is None
    plain = built(clicks(600), {name: FIELDS[name] for name in ("click", "user", "item", "price")})
    assert plain.train.signatures() is None


def test_fingerprints_follow_the_rows_and_the_cut():
    first, again, other = (
        built(clicks(600), FIELDS),
        built(clicks(600), FIELDS),
        built(clicks(600, 1), FIELDS),
    )
    recut = built(clicks(600), FIELDS, "data.shares=[0.7, 0.2, 0.1]")
    assert first.train.fingerprint() == again.train.fingerprint()
    found = {one.train.fingerprint() for one in (first, other, recut)} | {first.test.fingerprint()}
    assert len(found) == 4


def test_codes_number_the_values_of_a_column_over_all_batches(monkeypatch):
    monkeypatch.setattr("appliedpapers.core.features.rows.BATCH_ROWS", 100)
    dataset = built(pa.concat_tables([clicks(600), clicks(600, 1)]).combine_chunks(), FIELDS)
    train = dataset.train
    for name in ("user", "device"):
        codes, values = train.codes(name), train.column(name).to_pylist()
        assert (
            len(set(zip(codes.tolist(), values, strict=True))) == len(set(values)) == len(set(codes.tolist()))
        )


def test_columns_without_a_role_are_said_and_not_used(tmp_path):
    fields = {name: one for name, one in FIELDS.items() if name != "price"}
    dataset = built(clicks(600), fields)
    assert "columns without a role are not used: price" in notes_of(dataset)


# -- the simulator and published logs


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_variant_of_the_simulator_is_a_dataset_with_known_truth(variant):
    # the rarest clicks still need some in each part
    config = configured(f"data.simulator={{variant: {variant}, rows: 8000, users: 200, items: 100}}")
    dataset = load_dataset(DATASETS, "finalmlp", config)
    assert dataset.name == SIMULATED
    assert dataset.provenance.synthetic
    assert dataset.protocol == ("" if variant == "default" else f"{variant}, ") + "time 80/10/10"
    for part in (dataset.train, dataset.valid, dataset.test):
        assert part.truth.shape == (part.num_rows,)
        assert part.labels.mean() == pytest.approx(part.truth.mean(), abs=0.05)
    assert "p_true" not in dataset.train.fields
    assert "nobody can do better" in notes_of(dataset)


def test_the_seed_of_a_run_is_that_of_its_simulation():
    options = "data.simulator={rows: 2000, users: 100, items: 50}"
    one, same, other = (DATASETS.simulated(configured(options, f"seed={seed}")) for seed in (1, 1, 2))
    assert one.train.fingerprint() == same.train.fingerprint() != other.train.fingerprint()


@pytest.fixture
def published(shared, monkeypatch):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))

    def load(name, *options):
        quick = ("training.epochs=1", "model.ensemble=1", *options)
        config = resolve(FinalMlpConfig, preset="published", dataset=name, assignments=quick)
        return load_dataset(DATASETS, "finalmlp", config, dataset=name), config

    return load


SMALLER = ("model.stream1.hidden=[16]", "model.stream2.hidden=[16]", "model.gate_hidden=[8]", "model.heads=2")


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rows"), [("criteo-tiny", 1999), ("avazu-tiny", 2994)])
def test_the_samples_are_read_fitted_and_asked(published, tmp_path, name, rows):
    dataset, config = published(name, *SMALLER)
    assert dataset.train.num_rows + dataset.valid.num_rows + dataset.test.num_rows == rows
    assert not dataset.provenance.synthetic
    model = fit_on(dataset, config, tmp_path)
    found = model.predict_split(dataset.test)
    assert np.isfinite(found.probability).all()
    assert ((found.probability > 0) & (found.probability < 1)).all()
    kinds = {field.name: field.kind for field in model.encoder.fields}
    if name == "criteo-tiny":
        # numbers with gaps have an indicator beside them, texts with gaps a token
        assert kinds["I1"] == "numeric"
        assert kinds["I1_missing"] == "categorical"
        assert None in model.encoder.vocabulary("C3").tokens.to_pylist()
    else:
        assert "hour" in kinds
        assert kinds["C14"] == "categorical"
        ids = [set(part.column("id").to_pylist()) for part in (dataset.train, dataset.valid, dataset.test)]
        assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]


@pytest.mark.shared
@pytest.mark.parametrize(("file", "label"), [("criteo_tiny", "Label"), ("avazu_tiny", "click")])
def test_roles_of_the_samples_are_inferred(shared, tmp_path, file, label):
    path = shared / "data" / "finalmlp" / f"{file}.parquet"
    table = pq.read_table(path)
    if file == "criteo_tiny":
        table = table.filter(pa.compute.equal(table["split"], 0))
    pq.write_table(table.drop_columns("split"), tmp_path / "log.parquet")
    config = configured("data.split=random", f"data.label={label}", "training.epochs=1")
    dataset = DATASETS.from_user(tmp_path / "log.parquet", config)
    assert dataset.train.fields[label].role == "label"
    model = fit_on(dataset, config, tmp_path / "run")
    assert np.isfinite(model.predict_split(dataset.test).probability).all()


@pytest.mark.shared
def test_frappe_has_its_published_cut_and_says_what_differs(published):
    dataset, _ = published("frappe")
    counts = [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)]
    assert counts == [202_027, 57_722, 28_860]
    assert dataset.protocol == "frappe-x1, train negatives resampled"
    assert dataset.suspects == ("cost",)
    assert "research use only" in dataset.provenance.licence
    assert int(dataset.test.labels.sum()) == 9_536


@pytest.mark.shared
def test_a_part_of_frappe_can_be_fitted(shared, tmp_path):
    table = pq.read_table(shared / "data" / "finalmlp" / "frappe_x1_rebuilt.parquet")
    some = table.take(np.sort(np.random.default_rng(0).choice(table.num_rows, 6000, replace=False)))
    pq.write_table(some, tmp_path / "part.parquet")
    config = configured("training.epochs=1")
    dataset = DATASETS.from_user(tmp_path / "part.parquet", config)
    assert dataset.protocol == "column split"
    roles = {one.role for name, one in dataset.train.fields.items() if name not in ("label", "split")}
    assert roles == {"categorical"}
    model = fit_on(dataset, config, tmp_path / "run")
    assert np.isfinite(model.predict_split(dataset.test).probability).all()


def test_a_data_frame_of_pandas_with_an_index_of_its_own_is_read(tmp_path):
    frame = clicks(600).to_pandas().set_index("row_id")
    frame["user"] = pd.Categorical(frame["user"])
    frame.to_parquet(tmp_path / "log.parquet")
    dataset = DATASETS.from_user(tmp_path / "log.parquet", configured())
    assert dataset.train.fields["user"].role == "categorical"
    with pytest.raises(AppsError, match="no such"):
        load_dataset(DATASETS, "finalmlp", configured(), data=tmp_path / "absent.parquet")
