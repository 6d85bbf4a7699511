"""A new store begins as a copy of MLflow's empty database, and is what MLflow itself would have made."""

from __future__ import annotations

import sqlite3

import pytest

from appliedpapers.pipelines import empty_store
from appliedpapers.pipelines.tracking_store import open_store


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tables(folder):
    with sqlite3.connect(folder / "mlflow.db") as connection:
        # the migrations write the constraints of a table in no fixed order
        made = connection.execute(
            "SELECT type, name, length(sql) FROM sqlite_master ORDER BY name"
        ).fetchall()
        held = {
            name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        revision = connection.execute("SELECT * FROM alembic_version").fetchall()
    return made, held, revision


def test_the_second_store_is_the_first_without_the_migrations(tmp_path, monkeypatch):
    open_store(tmp_path / "first")
    monkeypatch.setattr("mlflow.store.db.utils._initialize_tables", lambda engine: pytest.fail("migrated"))
    store = open_store(tmp_path / "second")
    assert tables(tmp_path / "second") == tables(tmp_path / "first")
    root = (tmp_path / "second" / "artifacts").as_uri()
    assert store.client.get_experiment("0").artifact_location == f"{root}/0"
    assert store.experiment("apps.tiny-rows") != "0"


@pytest.mark.parametrize("damaged", [b"", b"no database" * 900])
def test_a_damaged_copy_is_made_anew(damaged, tmp_path, cache):
    open_store(tmp_path / "first")
    (kept,) = cache.rglob("mlflow-*.db")
    kept.write_bytes(damaged)
    open_store(tmp_path / "second")
    assert tables(tmp_path / "second") == tables(tmp_path / "first")
    assert kept.stat().st_size > 100_000
    open_store(tmp_path / "third")
    assert tables(tmp_path / "third") == tables(tmp_path / "first")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, cache):
    cache.write_text("a file where the folder should be")
    open_store(tmp_path / "store")
    assert not empty_store.begin(tmp_path / "copy.db")
    assert tables(tmp_path / "store")[1]["experiments"] == 1
