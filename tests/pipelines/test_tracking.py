from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from appliedpapers.core.errors import BundleError, RunError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.validation import check
from appliedpapers.pipelines.packaging import (
    CODE_FILE,
    from_pyfunc,
    requirements,
    signature,
    to_frame,
    verify_model,
    write_model,
)
from appliedpapers.pipelines.tracking_store import open_store


def _row(metric, value, *, selected=True, seed=None, **labels):
    figures = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {"selected": selected, "metric": metric, "slice": labels, "seed": seed, **figures}


RESULTS = {
    "seconds": {"fit": 1.5},
    "rows": [
        _row("mse", 0.2),
        _row("mse", 9.0, soil="clay"),
        _row("mse", 8.0, seed=1),
        _row("mae", 7.0, selected=False),
    ],
}


def test_a_new_store_is_one_sqlite_file_in_wal_mode_with_artifacts_beside_it(first_store):
    folder = first_store.folder
    with sqlite3.connect(folder / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert first_store.tracking_uri == f"sqlite:///{folder}/mlflow.db"
    assert first_store.client.get_experiment("0").artifact_location == f"file://{folder}/artifacts/0"
    assert not list(folder.glob(".mlflow.db*"))


def test_opening_a_store_exports_nothing_to_child_processes(store):
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_REGISTRY_URI" not in os.environ


def test_the_environment_variable_overrides_the_folder(store_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    store = open_store(tmp_path / "elsewhere")
    assert store.folder == store_folder
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_is_no_database_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(RunError, match=r"mlflow\.db") as caught:
        open_store(tmp_path)
    assert "\n" not in caught.value.message


def test_a_run_records_parameters_tags_metrics_dataset_and_results(store, tiny):
    with tiny.start(store, flavour="plain") as run:
        for step in range(3):
            run.log_metrics({"valid_mse": 1.0 / (step + 1)}, step)
        run.log_results(RESULTS)
    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert store.client.get_experiment(found.info.experiment_id).name == "apps.tiny-rows"
    assert found.data.params == {"seed": "2021", "data.rows": "60", "model.alpha": "1.0"}
    assert found.data.tags.items() >= {"flavour": "plain", "apps.preset": "quick"}.items()
    assert [m.step for m in store.client.get_metric_history(run.run_id, "valid_mse")] == [0, 1, 2]
    assert found.data.metrics == pytest.approx(
        {"valid_mse": 1 / 3, "test.mse": 0.2, "test.mse.low": 0.1, "test.mse.high": 0.3, "seconds.fit": 1.5}
    )
    entry = found.inputs.dataset_inputs[0]
    assert entry.dataset.name == "simulated"
    assert tiny.dataset.fingerprint().startswith(entry.dataset.digest)
    assert {tag.key: tag.value for tag in entry.tags}["apps.synthetic"] == "true"


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_ends_early_says_so_and_keeps_its_metrics(store, tiny, error, status):
    with pytest.raises(error), tiny.start(store) as run:  # noqa: PT012
        run.log_metrics({"valid_mse": 1.0})
        raise error
    found = store.client.get_run(run.run_id)
    assert found.info.status == status
    assert found.data.metrics == {"valid_mse": 1.0}


def test_epochs_are_written_in_batches(store, tiny, monkeypatch):
    with tiny.start(store) as run:
        writes = []
        monkeypatch.setattr(store.client, "log_batch", lambda *args, **more: writes.append(more["metrics"]))
        for step in range(2500):
            run.log_metrics({"loss": 1.0}, step)
    assert sum(map(len, writes)) == 2500
    assert len(writes) <= 4


@pytest.fixture(scope="module")
def logged(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged") / "model"
    write_model(tiny.bundle, folder, example=tiny.dataset.test.example(2))
    return folder


def test_a_logged_model_loads_in_a_process_where_pickle_is_forbidden(logged, tiny, tmp_path):
    inputs = tiny.dataset.test.example(4)
    inputs.to_pandas().to_json(tmp_path / "in.json", orient="records")
    script = """
import json, sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
with open(sys.argv[2]) as file:
    print(model.predict(__import__("pandas").DataFrame(json.load(file))).to_json(orient="records"))
"""
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-W", "error::UserWarning:mlflow", "-c", script, logged, tmp_path / "in.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [row["harvest"] for row in json.loads(done.stdout)]
    expected = tiny.model.predict(inputs).column("harvest").to_pylist()
    assert answers == pytest.approx(expected, abs=1e-9)
    assert not [path for path in logged.rglob("*") if path.suffix in {".pkl", ".pickle"}]


@pytest.fixture(scope="module")
def stock_server(logged):
    """MLflow's own scoring server over the logged model."""
    import mlflow
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    with TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(logged)))) as client:
        yield client


RECORDS = [
    {"plot": "a", "heat": 3, "moisture": None, "soil": "clay", "visits": 2},
    {"plot": "b", "heat": 3.5, "moisture": 40, "soil": "sand", "visits": 0},
]
COLUMNS = list(RECORDS[0])


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": RECORDS},
        {"dataframe_split": {"columns": COLUMNS, "data": [list(row.values()) for row in RECORDS]}},
        {"instances": RECORDS},
        {"inputs": {name: [row[name] for row in RECORDS] for name in COLUMNS}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_the_stock_server_gives_the_same_answers_in_every_json_shape(stock_server, tiny, body):
    response = stock_server.post("/invocations", json=body)
    columns = {name: [row[name] for row in RECORDS] for name in COLUMNS}
    typed = pa.table(columns, schema=tiny.model.input_schema.arrow_schema())
    expected = tiny.model.predict(typed).to_pylist()
    assert response.status_code == 200, response.text
    assert response.json() == {"predictions": [pytest.approx(row) for row in expected]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"visits": 3.7}, "3.7 is not a whole number"),
        ({"heat": True}, "heat"),
        ({"soil": "peat"}, "clay, loam"),
    ],
)
def test_the_stock_server_refuses_what_breaks_the_contract_in_our_words(stock_server, change, words):
    body = {"dataframe_records": [RECORDS[0] | change]}
    response = stock_server.post("/invocations", json=body)
    assert response.status_code == 400
    assert words in response.json()["message"]


def test_requirements_are_stated_with_versions_and_without_local_builds(logged):
    lines = (logged / "requirements.txt").read_text().splitlines()
    assert lines == requirements("tiny-rows")
    assert "tiny-plugins==0.1" in lines
    assert "mlflow==3.17.2" in lines
    assert all("==" in line and "+" not in line for line in lines)


def test_the_signature_names_every_column(tiny):
    from appliedpapers.core.bundle import read_info

    made = signature(read_info(tiny.bundle))
    assert made.inputs.input_names() == list(tiny.model.input_schema.names)
    assert made.outputs.input_names() == list(tiny.model.output_schema.names)


def test_frames_carry_missing_cells_whole_numbers_and_nested_arrays():
    schema = TableSchema(
        (
            Column("n", "int64", nullable=True),
            Column("when", "timestamp"),
            Column("said", "timestamp"),
            Column("grid", "float64", shape=(2, 2)),
        )
    )
    frame = pd.DataFrame(
        {
            "n": [1, None],
            "when": pd.to_datetime(["2024-01-31T14:00", "2024-02-01T00:00"]),
            "said": ["2024-01-31T14:00", "2024-02-01"],
            "grid": [np.eye(2), [[1, 2], [3, 4]]],
        }
    )
    checked = check(from_pyfunc(frame, schema), schema).require_clean()
    assert checked.column("n").to_pylist() == [1, None]
    assert checked.column("when").to_pylist() == [datetime(2024, 1, 31, 14), datetime(2024, 2, 1)]
    assert checked.column("said").equals(checked.column("when"))
    assert to_frame(checked)["grid"].tolist() == [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]]


def test_frames_that_leave_hold_iso_timestamps_and_never_nan():
    table = pa.table(
        {"when": [datetime(2024, 1, 31, 14)], "x": [float("nan")], "n": pa.array([None], pa.int64())}
    )
    frame = to_frame(table)
    assert frame.to_dict(orient="records") == [{"when": "2024-01-31T14:00:00", "x": None, "n": None}]


def test_a_model_with_another_code_file_or_loader_is_refused(logged, tmp_path):
    import shutil

    assert (verify_model(logged) / "bundle.json").is_file()
    changed = tmp_path / "changed"
    shutil.copytree(logged, changed)
    (changed / CODE_FILE.name).write_text(CODE_FILE.read_text() + "\n# and more\n")
    with pytest.raises(BundleError, match="not the code file of Applied Papers"):
        verify_model(changed)
    other = tmp_path / "other"
    shutil.copytree(logged, other)
    text = (other / "MLmodel").read_text()
    (other / "MLmodel").write_text(text.replace("mlflow.pyfunc.loaders.code_model", "os"))
    with pytest.raises(BundleError, match="another loader"):
        verify_model(other)
