from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from tinyplugins.bundles import make_bundle

from appliedpapers.core import bundle as bundles
from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.errors import BundleError, ConfigError, GateError
from appliedpapers.pipelines import registry
from appliedpapers.pipelines.locate import locate
from appliedpapers.pipelines.registry_promotion import compare
from appliedpapers.pipelines.registry_versions import Version
from appliedpapers.pipelines.tracking_store import open_store

NAME = "apps.tiny-rows"


def results(value, *, fingerprint="f" * 64, higher=False, metric="mse"):
    row = {"selected": True, "slice": {}, "seed": None, "higher_is_better": higher}
    rows = [
        row | {"metric": metric, "value": value, "low": value - 0.01, "high": value + 0.01},
        row | {"metric": "r2", "value": 1 - value, "low": None, "high": None, "higher_is_better": True},
    ]
    facts = {"plugin": "tiny-rows", "task": "regression", "dataset": "simulated", "synthetic": True}
    return facts | {"protocol": "p", "preset": "quick", "test_fingerprint": fingerprint, "rows": rows}


@pytest.fixture
def add(store, tiny):
    """Register another version with this test error."""

    def _add(value, *, model=tiny, name=NAME, **more):
        with model.start(store) as run:
            uri = run.log_model(model.bundle, name)
        tags = registry.results_tags(results(value, **more), "mse")
        return registry.register(store, name=name, model_uri=uri, run_id=run.run_id, tags=tags)

    return _add


def aliases(store, name=NAME):
    return {alias: int(number) for alias, number in store.client.get_registered_model(name).aliases.items()}


def test_the_first_version_is_champion_and_later_ones_challenge(store, add):
    assert [add(0.3), add(0.2), add(0.1)] == [(1, "champion"), (2, "challenger"), (3, "challenger")]
    assert aliases(store) == {"champion": 1, "challenger": 3}


@pytest.mark.parametrize(
    ("ref", "version", "alias"),
    [
        ("tiny-rows", 1, "champion"),
        ("tiny-rows@champion", 1, "champion"),
        ("tiny-rows@challenger", 2, "challenger"),
        ("tiny-rows@2", 2, None),
        ("apps.tiny-rows@champion", 1, "champion"),
        ("models:/apps.tiny-rows@champion", 1, "champion"),
        ("models:/apps.tiny-rows/2", 2, None),
    ],
)
def test_every_way_to_name_a_model_finds_it(two_versions, tiny, ref, version, alias):
    found = registry.resolve(ref, two_versions)
    assert (found.name, found.version, found.alias) == (NAME, version, alias)
    assert found.uri == f"models:/{NAME}/{version}"
    assert two_versions.client.get_run(found.run_id).info.run_id == found.run_id
    model, _ = load_bundle(found.bundle)
    table = tiny.dataset.test.example(3)
    assert model.predict(table).equals(tiny.model.predict(table))


@pytest.fixture(scope="module")
def two_versions(tiny, tmp_path_factory, first_store):
    folder = tmp_path_factory.mktemp("two") / "mlruns"
    folder.mkdir()
    shutil.copyfile(first_store.folder / "mlflow.db", folder / "mlflow.db")
    store = open_store(folder)
    with tiny.start(store) as run:
        uri = run.log_model(tiny.bundle)
    for name in (NAME, NAME, "apps.farm.crop", "apps.farm.soil"):
        tags = registry.results_tags(results(0.3), "mse")
        registry.register(store, name=name, model_uri=uri, run_id=run.run_id, tags=tags)
    return store


@pytest.mark.parametrize(
    ("ref", "words", "hint"),
    [
        ("tiny-row", "no registered model is called 'tiny-row'", "Did you mean 'tiny-rows'?"),
        ("nothing-like-it", "no registered model", "apps run ID registers a first version"),
        ("tiny-rows@champoin", "no alias 'champoin'", "Did you mean 'champion'?"),
        ("tiny-rows@9", "no version 9", "Versions: 1, 2"),
        ("farm", "several models", "farm.crop, farm.soil"),
        ("no/such/folder", "not a bundle", "NAME@ALIAS"),
        ("@champion", "does not name a model", "NAME@ALIAS"),
    ],
)
def test_unknown_names_are_one_line_with_a_remedy(two_versions, ref, words, hint):
    with pytest.raises(ConfigError, match=words) as caught:
        registry.resolve(ref, two_versions)
    assert hint in caught.value.hint


def test_a_plugin_with_several_models_is_named_with_its_task(two_versions):
    assert registry.resolve("farm.crop@champion", two_versions).name == "apps.farm.crop"


def test_a_bundle_outside_the_registry_is_named_by_its_path(store, tiny):
    found = locate(str(tiny.bundle), store.folder)
    assert (found.name, found.version, found.bundle) == (NAME, None, tiny.bundle)
    assert found.digest.startswith(found.edition)


def test_a_bundle_of_a_plugin_with_several_tasks_is_named_with_its_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    bundle = make_bundle(tmp_path, "tiny-tasks", "ahead")
    assert locate("tiny-tasks").name == "apps.tiny-tasks.ahead"
    assert locate("~/tiny-tasks").bundle == bundle


def test_a_bundle_is_hashed_once_between_its_name_and_its_model(tiny, monkeypatch):
    hashed = []
    honest = bundles.sha256_file
    monkeypatch.setattr(bundles, "sha256_file", lambda path: hashed.append(path.name) or honest(path))
    found = locate(str(tiny.bundle))
    found.load()
    assert sorted(hashed) == sorted(found.info.files)


def test_a_logged_model_whose_code_was_changed_is_not_used(store, add):
    add(0.3)
    bundle = registry.resolve("tiny-rows", store).bundle
    code = bundle.parents[1] / "mlflow_model.py"
    code.write_text(code.read_text() + "import os\n")
    with pytest.raises(BundleError, match="not the code file"):
        registry.resolve("tiny-rows", store)


def test_a_version_whose_files_are_gone_says_so(store, add):
    add(0.3)
    shutil.rmtree(registry.resolve("tiny-rows", store).bundle.parents[1])
    with pytest.raises(BundleError, match="files are gone"):
        registry.resolve("tiny-rows", store)


def test_a_better_challenger_is_promoted_and_who_when_from_to_is_written(store, add):
    add(0.3)
    add(0.2)
    move = registry.promote(store, "tiny-rows")
    assert (move.before, move.after) == (1, 2)
    assert aliases(store) == {"champion": 2}
    shown = registry.show(store, "tiny-rows")
    tags = shown.versions[1].tags
    assert (tags["apps.promoted_from"], tags["apps.promoted_to"]) == ("1", "2")
    assert tags["apps.promoted_by"] == move.by
    assert tags["apps.promoted_at"] == move.at
    assert [item.action for item in shown.moves] == ["register", "promote"]


def test_a_worse_challenger_is_refused_and_the_champion_stays(store, add):
    add(0.2)
    add(0.3)
    with pytest.raises(GateError, match=r"mse 0\.3 .*against mse 0\.2"):
        registry.promote(store, NAME)
    assert aliases(store) == {"champion": 1, "challenger": 2}


def test_another_test_set_needs_new_benchmark(store, add):
    add(0.2)
    add(0.1, fingerprint="e" * 64)
    with pytest.raises(GateError, match="tested on other rows") as caught:
        registry.promote(store, NAME)
    assert "--new-benchmark" in caught.value.hint
    assert registry.promote(store, NAME, new_benchmark=True).after == 2


def test_rollback_goes_back_one_champion_at_a_time(store, add):
    for value in (0.3, 0.2, 0.1):
        add(value)
    with pytest.raises(ConfigError, match="no previous champion"):
        registry.rollback(store, NAME)
    registry.promote(store, NAME, 2)
    registry.promote(store, NAME, 3)
    assert registry.rollback(store, NAME).after == 2
    assert registry.rollback(store, NAME).after == 1
    assert registry.promote(store, NAME, 3).after == 3
    assert registry.rollback(store, NAME).after == 1
    with pytest.raises(ConfigError, match="no previous champion"):
        registry.rollback(store, NAME)


@pytest.mark.parametrize(
    ("version", "words"), [(1, "champion already"), (7, "no version 7"), (None, "no challenger")]
)
def test_promoting_what_cannot_be_promoted_is_a_usage_error(store, add, version, words):
    add(0.3)
    with pytest.raises(ConfigError, match=words):
        registry.promote(store, NAME, version)


def version(number, value, *, higher=False, **more):
    from datetime import UTC, datetime

    tags = registry.results_tags(results(value, higher=higher, **more), "mse")
    return Version(NAME, number, (), datetime.now(UTC), None, tags)


def test_the_gate_knows_the_direction_of_the_metric():
    compare(version(2, 0.9, higher=True), version(1, 0.8, higher=True))
    with pytest.raises(GateError):
        compare(version(2, 0.7, higher=True), version(1, 0.8, higher=True))
    assert compare(version(2, 0.8), version(1, 0.8))


def test_the_gate_compares_another_metric_when_asked():
    compare(version(2, 0.2), version(1, 0.3), metric="r2")
    with pytest.raises(GateError, match="r2"):
        compare(version(2, 0.3), version(1, 0.2), metric="r2")
    with pytest.raises(GateError, match="no figure for auc"):
        compare(version(2, 0.3), version(1, 0.2), metric="auc")


def test_the_gate_refuses_a_value_that_is_not_finite():
    with pytest.raises(GateError, match="no figure for mse"):
        compare(version(2, float("nan")), version(1, 0.3))


def test_the_list_names_champion_figure_and_data(store, add):
    add(0.3)
    add(0.2)
    store.client.create_registered_model("somebody-elses")
    (row,) = registry.list_models(store)
    assert (row.name, row.versions, row.champion, row.challenger) == (NAME, 2, 1, 2)
    assert (row.standing.metric, row.standing.value) == ("mse", 0.3)
    assert (row.dataset, row.synthetic) == ("simulated", True)


def test_diff_names_options_metrics_and_nothing_that_is_equal(store, add, tiny, tmp_path):
    add(0.3)
    add(0.2, model=type(tiny)(tmp_path, alpha=5.0))
    found = registry.diff(store, "tiny-rows", "champion", 2)
    assert found.config == {"model.alpha": (1.0, 5.0)}
    assert found.metrics["mse"] == (0.3, 0.2)
    assert found.schema == {}
    assert set(found.facts) == {"run_id"}


@pytest.fixture(scope="module")
def exported(two_versions, tmp_path_factory):
    return registry.export_version(two_versions, "tiny-rows@2", tmp_path_factory.mktemp("out") / "model.zip")


def test_an_exported_version_answers_the_same_in_another_store(store, exported, tiny):
    assert registry.import_version(store, exported) == (1, "champion")
    found = registry.resolve("tiny-rows", store)
    model, _ = load_bundle(found.bundle)
    table = tiny.dataset.test.example(3)
    assert model.predict(table).equals(tiny.model.predict(table))
    (row,) = registry.show(store, NAME).versions
    assert row.standing().value == 0.3
    assert row.tags["apps.imported_from"] == f"{NAME} version 2"
    assert store.client.get_run(row.run_id).info.status == "FINISHED"


def test_an_export_carries_the_model_card_of_the_run(store, add, tmp_path):
    add(0.3)
    run_id = registry.resolve("tiny-rows", store).run_id
    store.client.log_text(run_id, "# what it is", "model-card.md")
    file = registry.export_version(store, "tiny-rows", tmp_path / "model.zip")
    assert zipfile.ZipFile(file).read("model-card.md") == b"# what it is"


@pytest.fixture
def cards(tmp_path):
    """A model card and a data card as a run writes them."""
    made = [tmp_path / name for name in ("model-card.md", "data-card.md")]
    for card in made:
        card.write_text(f"# {card.stem}")
    return made


def test_cards_travel_with_the_version_and_with_its_archive(store, tiny, cards, tmp_path):
    with tiny.start(store) as run:
        uri = run.log_model(tiny.bundle, NAME, cards=cards)
    tags = registry.results_tags(results(0.3), "mse")
    registry.register(store, name=NAME, model_uri=uri, run_id=run.run_id, tags=tags)
    (version,) = registry.show(store, NAME).versions
    assert {kind: Path(path).read_text() for kind, path in version.cards.items()} == {
        "model": "# model-card",
        "data": "# data-card",
    }
    file = registry.export_version(store, NAME, tmp_path / "model.zip")
    other = open_store(tmp_path / "other")
    registry.import_version(other, file)
    (imported,) = registry.show(other, NAME).versions
    assert {kind: Path(path).read_text() for kind, path in imported.cards.items()} == {
        "model": "# model-card",
        "data": "# data-card",
    }
    assert str(tmp_path / "other") in imported.cards["data"]


def test_a_version_without_cards_shows_none_and_exports_a_plain_one(store, add, tmp_path):
    add(0.3)
    (version,) = registry.show(store, NAME).versions
    assert version.cards == {}
    archive = zipfile.ZipFile(registry.export_version(store, NAME, tmp_path / "model.zip"))
    assert archive.read("model-card.md").startswith(b"# apps.tiny-rows version 1")
    assert "data-card.md" not in archive.namelist()


def test_an_archive_of_the_first_format_is_still_read(store, exported, tmp_path):
    def older(members, manifest):
        manifest["format_version"] = 1

    assert registry.import_version(store, rewritten(exported, tmp_path / "old.zip", older)) == (1, "champion")


def rewritten(source, target, change):
    """Copy an export, with its members and manifest changed by ``change(members, manifest)``."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def _escape(members, manifest):
    members["bundle/../../evil.json"] = b"{}"
    manifest["files"]["bundle/../../evil.json"] = {"sha256": "0", "size": 2}


def _absolute(members, manifest):
    members["/tmp/evil.json"] = b"{}"
    manifest["files"]["/tmp/evil.json"] = {"sha256": "0", "size": 2}


def _tamper(members, manifest):
    members["bundle/bundle.json"] = members["bundle/bundle.json"].replace(b"tiny", b"TINY")


def _weights(members, manifest):
    name = "bundle/weights.safetensors"
    members[name] = members[name][:-1] + b"\0"
    import hashlib

    manifest["files"][name]["sha256"] = hashlib.sha256(members[name]).hexdigest()


def _extra(members, manifest):
    members["bundle/code.py"] = b"print()"


def _newer(members, manifest):
    manifest["format_version"] = 99


def _other_name(members, manifest):
    manifest["name"] = "apps.frets"


def _bad_tags(members, manifest):
    manifest["tags"] = {"mlflow.user": "root"}


def _lying_size(members, manifest):
    manifest["files"]["bundle/weights.safetensors"]["size"] = 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_escape, "outside the bundle"),
        (_absolute, "outside the bundle"),
        (_tamper, "was changed"),
        (_weights, "was changed"),
        (_extra, "not those of its manifest"),
        (_newer, "format 99 is newer"),
        (_other_name, "holds a model of apps.tiny-rows"),
        (_bad_tags, "bad tags"),
        (_lying_size, "was changed"),
    ],
)
def test_a_doctored_export_is_refused_and_nothing_is_registered(store, exported, tmp_path, change, words):
    file = rewritten(exported, tmp_path / "doctored.zip", change)
    with pytest.raises(BundleError, match=words):
        registry.import_version(store, file)
    assert registry.list_models(store) == []
    assert not (tmp_path.parent / "evil.json").exists()


def test_symbolic_links_in_an_export_are_refused(store, exported, tmp_path):
    def change(members, manifest):
        manifest["files"]["bundle/link"] = {"sha256": "0", "size": 1}

    file = rewritten(exported, tmp_path / "link.zip", change)
    link = zipfile.ZipInfo("bundle/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="outside the bundle"):
        registry.import_version(store, file)


def test_an_export_above_the_limit_is_refused(store, exported):
    with pytest.raises(BundleError, match="larger than 100 bytes"):
        registry.import_version(store, exported, max_bytes=100)


def test_a_cut_off_export_is_refused(store, exported, tmp_path):
    (tmp_path / "half.zip").write_bytes(exported.read_bytes()[:500])
    with pytest.raises(BundleError, match="not an exported model"):
        registry.import_version(store, tmp_path / "half.zip")


def test_a_missing_export_is_a_usage_error(store, tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        registry.import_version(store, tmp_path / "none.zip")


def test_a_remote_model_is_downloaded_once_and_verified(two_versions, tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    client = two_versions.client
    monkeypatch.setattr(
        type(client), "get_model_version_download_uri", lambda *_: "mlflow-artifacts://remote/model"
    )
    downloads = []

    def download(artifact_uri, dst_path, tracking_uri):
        downloads.append(artifact_uri)
        local = client.get_logged_model(client.search_logged_models(["1"])[0].model_id).artifact_location
        shutil.copytree(local.removeprefix("file://"), dst_path, dirs_exist_ok=True)

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    first = registry.resolve("tiny-rows", two_versions)
    assert first.bundle.is_relative_to(tmp_path)
    assert registry.resolve("tiny-rows", two_versions).bundle == first.bundle
    assert downloads == [f"models:/{NAME}/1"]
    assert load_bundle(first.bundle)[1].plugin == "tiny-rows"
