"""Stores and models that are made once and copied, because MLflow takes seconds to make a store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tinyplugins.bundles import make_bundle

from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.model import FitContext


@pytest.fixture(scope="session")
def first_store(tmp_path_factory):
    """The store that the first command makes; not to be written to."""
    from appliedpapers.pipelines.tracking_store import open_store

    folder = tmp_path_factory.mktemp("template") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return open_store(folder)


@pytest.fixture
def store_folder(first_store, tmp_path, monkeypatch) -> Path:
    """A folder with an empty store, as the first command leaves it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copyfile(first_store.folder / "mlflow.db", folder / "mlflow.db")
    return folder


@pytest.fixture
def store(store_folder):
    """An empty store of this test's own."""
    from appliedpapers.pipelines.tracking_store import open_store

    return open_store(store_folder)


class TinyRun:
    """A fitted tiny-rows model: config, dataset and bundle."""

    def __init__(self, folder: Path, alpha: float = 1.0) -> None:
        from tinyplugins.rows.config import RowsConfig
        from tinyplugins.rows.data import DATASETS
        from tinyplugins.rows.model import RowsModel

        self.config = RowsConfig().replace(data={"rows": 60}, model={"alpha": alpha})
        self.dataset = DATASETS.simulated(self.config)
        context = FitContext(folder / "scratch")
        self.model = RowsModel(self.config).fit(self.dataset.train, self.dataset.valid, context)
        self.bundle = folder / f"bundle-{alpha}"
        facts = {"name": "simulated", "synthetic": True}
        save_bundle(self.model, self.bundle, plugin="tiny-rows", task="regression", dataset=facts)

    def start(self, store, **tags):
        """Start the run that would have made it."""
        from appliedpapers.pipelines.tracking import start_run

        return start_run(
            store,
            plugin="tiny-rows",
            task="regression",
            config=self.config,
            preset="quick",
            dataset=self.dataset,
            tags=tags,
        )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> TinyRun:
    """The fitted tiny-rows model."""
    return TinyRun(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def place(tmp_path):
    """A ledger, a clock that the test moves, and commands that take no time."""
    from scheduled_jobs import FakeApps, FakeClock, Place

    clock = FakeClock()
    return Place(tmp_path, clock, FakeApps(clock))


@pytest.fixture(scope="module")
def rows_bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("rows"), "tiny-rows")


@pytest.fixture(scope="module")
def ahead_bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("tasks"), "tiny-tasks", "ahead")
