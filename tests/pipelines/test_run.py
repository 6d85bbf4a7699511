"""One life of a model on a tiny plugin: what a run leaves behind, refuses, chooses and continues."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import DATASETS, RowsDatasets
from tinyplugins.rows.evaluation import EVALUATION
from tinyplugins.rows.model import RowsModel

from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.config import resolve as resolve_file
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.evaluation import PublishedFigure
from appliedpapers.core.json_rows import plain, records
from appliedpapers.core.results import read_results, validate_results
from appliedpapers.core.tables import write_table
from appliedpapers.core.verdict import selected_rows
from appliedpapers.pipelines.registry import resolve, show
from appliedpapers.pipelines.run import run, start
from appliedpapers.pipelines.run_fit import Fitter
from appliedpapers.pipelines.run_folder import RunRequest, list_runs, resume_request
from appliedpapers.pipelines.serve import load_served

QUICK = RowsConfig().replace(data={"rows": 60})


@pytest.fixture
def live(tmp_path, store_folder):
    def _live(request: RunRequest | None = None, **more):
        made = request or RunRequest(plugin="tiny-rows", config=QUICK, preset="quick")
        return run(made, runs=tmp_path / "runs", store_folder=store_folder, **more)

    return _live


def test_a_run_leaves_report_results_card_and_a_bundle_that_loads(live):
    result = live()
    left = {path.name for path in result.folder.iterdir()}
    cards = {"model-card.md", "data-card.md"}
    assert {"report.html", "results.json", "config.yaml", "model", "request.json"} | cards <= left
    document = read_results(result.folder / "results.json")
    validate_results(document)
    assert document["model_version"] == 1
    assert {row["model"] for row in document["rows"] if row["selected"]} == {"tiny-rows"}
    model, info = load_bundle(result.folder / "model")
    assert info.dataset["test_fingerprint"] == document["test_fingerprint"]
    assert model.predict(DATASETS.simulated(QUICK).test.inputs()).num_rows == document["test_size"]


def test_a_server_tries_the_rows_that_the_bundle_keeps_and_simulates_nothing(live, monkeypatch):
    folder = live().folder / "model"
    kept = load_bundle(folder)[1].dataset["example"]
    assert kept == plain(records(DATASETS.simulated(QUICK).train.example(3)))
    monkeypatch.setattr(RowsDatasets, "simulated", lambda *_: pytest.fail("simulated at the server's start"))
    served = load_served(str(folder))
    assert plain(records(served.example)) == kept


def test_the_first_version_is_champion_and_the_second_challenger(live, store):
    first, second = live(), live()
    assert (first.registered.version, first.registered.alias) == (1, "champion")
    assert (second.registered.version, second.registered.alias) == (2, "challenger")
    history = show(store, "tiny-rows")
    assert [version.number for version in history.versions] == [1, 2]
    assert resolve("tiny-rows", store).version == 1


def test_the_registered_figure_is_the_one_in_the_results(live, store):
    result = live()
    standing = show(store, "tiny-rows").versions[0].standing()
    assert standing.value == pytest.approx(selected_rows(result.results)[0]["value"])


def test_without_registration_nothing_is_registered(live, store):
    request = RunRequest(plugin="tiny-rows", config=QUICK, register=False)
    result = live(request)
    assert result.registered is None
    assert result.results["model_version"] is None
    with pytest.raises(ConfigError):
        resolve("tiny-rows", store)


def test_what_a_dataset_warns_of_stands_beside_the_results(live, monkeypatch):
    made = RowsDatasets.simulated

    def simulated(self, config):
        return dataclasses.replace(made(self, config), warnings=("mind the gap",))

    monkeypatch.setattr(RowsDatasets, "simulated", simulated)
    assert "mind the gap" in live().results["warnings"]


def test_the_same_seed_gives_the_same_figures(live):
    first, second = live(), live()
    assert first.results["rows"] == second.results["rows"]


def test_mlflow_has_the_results_and_the_report_but_not_the_checkpoints(live, store):
    result = live()
    (found,) = store.client.search_runs([store.client.get_experiment_by_name("apps.tiny-rows").experiment_id])
    value = found.data.metrics["test.mse"]
    assert value == pytest.approx(selected_rows(result.results)[0]["value"])
    names = {item.path for item in store.client.list_artifacts(found.info.run_id)}
    assert {"report.html", "results.json"} <= names
    logged = store.client.download_artifacts(found.info.run_id, "results.json")
    assert read_results(Path(logged)) == result.results
    assert not {"model", "fit"} & names
    assert found.info.status == "FINISHED"


@pytest.fixture
def leaky(monkeypatch):
    from dataclasses import replace

    honest = RowsDatasets.simulated

    def simulated(self, config):
        whole = honest(self, config)
        return replace(whole, test=whole.train)

    monkeypatch.setattr(RowsDatasets, "simulated", simulated)


@pytest.mark.usefixtures("leaky")
def test_leaking_rows_are_refused_before_anything_is_fitted(live, tmp_path, monkeypatch):
    monkeypatch.setattr(RowsModel, "fit", lambda *_, **__: pytest.fail("fitted on leaking data"))
    with pytest.raises(DataError, match="rows in both train and test"):
        live()
    assert not list((tmp_path / "runs").glob("*/results.json"))


@pytest.mark.usefixtures("leaky")
def test_allowed_leakage_is_said_in_the_results(live):
    request = RunRequest(plugin="tiny-rows", config=QUICK, allow_leakage=True)
    assert any("leakage" in warning for warning in live(request).results["warnings"])


def test_the_variant_that_is_best_on_valid_is_registered(live, monkeypatch):
    worse = QUICK.replace(model={"alpha": 1e6})
    request = RunRequest(plugin="tiny-rows", config=worse, preset="default")
    monkeypatch.setattr(type(EVALUATION), "variants", lambda *_: {"lighter": QUICK})
    result = live(request)
    selected = {row["model"] for row in result.results["rows"] if row["selected"]}
    assert selected == {"lighter"}
    model, _ = load_bundle(result.folder / "model")
    assert model.config == QUICK


def test_a_candidate_that_wins_is_judged_by_its_own_configuration(live, monkeypatch):
    seeds = {}
    fit = RowsModel.fit

    def recorded(self, train, valid, run, **more):
        seeds[run.folder.name] = run.seed
        return fit(self, train, valid, run, **more)

    protocol = DATASETS.simulated(QUICK).protocol
    printed = [
        PublishedFigure(name, "mse", 1.0, "simulated", protocol, {"model.alpha": alpha}, "a paper", True)
        for name, alpha in (("theirs", 1.0), ("heavy", 1e6))
    ]
    monkeypatch.setattr(RowsModel, "fit", recorded)
    monkeypatch.setattr(type(EVALUATION), "published", lambda *_: printed)
    candidates = {"lighter": {"model": {"alpha": 1.0}, "seed": 7}}
    config = QUICK.replace(model={"alpha": 1e6}, candidates=candidates)
    result = live(RunRequest(plugin="tiny-rows", config=config))
    assert seeds == {"tiny-rows": 2021, "lighter": 7}
    assert result.results["seeds"] == [7]
    rows = {row["model"]: row for row in result.results["rows"] if row["kind"] in ("ours", "published")}
    assert set(rows) == {"lighter", "theirs"}
    assert rows["lighter"]["selected"]
    chosen = QUICK.replace(seed=7)
    assert resolve_file(RowsConfig, file=result.folder / "config.yaml") == chosen
    assert "alpha: 1.0 " in (result.folder / "report.html").read_text()
    assert load_bundle(result.folder / "model")[0].config == chosen


def test_bad_rows_of_a_users_file_are_written_to_quarantine(live, tmp_path):
    rows = DATASETS.simulated(QUICK).train.table.to_pylist()
    rows[3]["heat"] = 900.0
    path = tmp_path / "plots.csv"
    write_table(pa.Table.from_pylist(rows), path)
    request = RunRequest(plugin="tiny-rows", config=QUICK, data=path)
    with pytest.raises(DataError, match="heat") as caught:
        live(request)
    (quarantine,) = (tmp_path / "runs").glob("*/quarantine.parquet")
    assert str(quarantine) in caught.value.hint
    bad = pq.read_table(quarantine).to_pylist()
    assert [(row["column"], row["value"]) for row in bad] == [("heat", "900.0")]


def test_an_interrupted_run_is_continued_from_its_folder(live, tmp_path, store_folder, monkeypatch):
    request = RunRequest(plugin="tiny-rows", config=QUICK)
    started = start(request, runs=tmp_path / "runs", store_folder=store_folder)
    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "baselines", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            started.live()
    assert [item["state"] for item in list_runs(tmp_path / "runs")] == ["interrupted"]
    continued = live(resume_request(started.folder), resume=started.folder)
    assert continued.folder == started.folder
    undisturbed = live(request)
    assert continued.results["rows"] == undisturbed.results["rows"]


def test_a_complete_run_cannot_be_resumed(live):
    folder = live().folder
    with pytest.raises(ConfigError, match="complete"):
        resume_request(folder)


def test_a_folder_that_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(ConfigError, match="not a run's folder"):
        resume_request(tmp_path)


def test_the_request_on_disk_repeats_the_run(live):
    folder = live().folder
    (folder / "results.json").unlink()
    again = resume_request(folder)
    assert (again.plugin, again.config, again.preset) == ("tiny-rows", QUICK, "quick")
    assert json.loads((folder / "request.json").read_text())["register"] is True


def test_a_report_that_fails_registers_nothing(live, store, monkeypatch):
    from appliedpapers.pipelines import report

    def broken(*_, **__):
        raise OSError("no fonts")

    monkeypatch.setattr(report, "write_report", broken)
    with pytest.raises(OSError, match="no fonts"):
        live()
    with pytest.raises(ConfigError):
        resolve("tiny-rows", store)
