from __future__ import annotations

import json
import os
import shutil

import pytest
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import DATASETS
from tinyplugins.rows.model import RowsModel

from appliedpapers.core import bundle
from appliedpapers.core.errors import BundleError, PluginError, RunError
from appliedpapers.core.model import FitContext


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    dataset = DATASETS.simulated(RowsConfig())
    return RowsModel(RowsConfig()).fit(
        dataset.train, dataset.valid, FitContext(tmp_path_factory.mktemp("run"))
    )


@pytest.fixture
def folder(fitted, tmp_path):
    save(fitted, tmp_path / "bundle")
    return tmp_path / "bundle"


def save(model, folder, **facts):
    return bundle.save_bundle(model, folder, plugin="tiny-rows", task="regression", **facts)


def rewrite(folder, change, *, sealed: bool = True):
    path = folder / "bundle.json"
    document = json.loads(path.read_text())
    change(document)
    if sealed:
        document.pop("sha256", None)
        document["sha256"] = bundle._digest(document)
    path.write_text(json.dumps(document))


def test_a_bundle_says_what_it_is(fitted, folder, tmp_path):
    info = save(fitted, tmp_path / "other", dataset={"name": "simulated", "synthetic": True})
    read = bundle.read_info(tmp_path / "other")
    assert read == info
    assert (read.plugin, read.task, read.format_version) == ("tiny-rows", "regression", 1)
    assert read.dataset == {"name": "simulated", "synthetic": True}
    assert read.config == RowsConfig().model_dump(mode="json")
    assert list(read.files) == ["weights.safetensors"]
    assert read.input_schema == fitted.input_schema
    assert read.output_schema == fitted.output_schema


def test_saving_again_replaces_the_bundle_whole(fitted, folder):
    (folder / "stray.txt").write_text("left over")
    save(fitted, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    "name", ["weights.pkl", "weights.PT", "model.joblib", "net.pth", "a.npy", "code.py", "x.so"]
)
def test_a_part_that_could_execute_is_refused_and_nothing_is_left(fitted, tmp_path, monkeypatch, name):
    monkeypatch.setattr(
        RowsModel, "write_parts", lambda self, folder: (folder / name).write_bytes(b"x") and {}
    )
    with pytest.raises(BundleError, match=name):
        save(fitted, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_bundle(fitted, folder, monkeypatch):
    before = (folder / "bundle.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        save(fitted, folder)
    assert (folder / "bundle.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_what_is_not_a_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        bundle.read_info(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b'{"format_version": "1"}']
)
def test_a_damaged_manifest_is_refused(folder, content):
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError) as caught:
        bundle.read_info(folder)
    assert caught.value.hint


def test_a_changed_value_in_the_manifest_is_noticed(folder):
    rewrite(folder, lambda document: document["config"].update(seed=1), sealed=False)
    with pytest.raises(BundleError, match="changed after it was written"):
        bundle.load_bundle(folder)


def test_the_state_may_have_numbers_for_keys(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(RowsModel, "write_parts", lambda self, folder: {"counts": {10: 1, 9: 2, 100: 3}})
    save(fitted, tmp_path / "bundle")
    assert bundle.read_info(tmp_path / "bundle").state == {"counts": {"10": 1, "9": 2, "100": 3}}


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(folder):
    rewrite(folder, lambda document: document.update(format_version=2, package_version="9.9"))
    with pytest.raises(BundleError, match="format 2 is newer than 1") as caught:
        bundle.read_info(folder)
    assert "9.9" in caught.value.hint


def test_a_manifest_with_an_unknown_or_missing_entry_is_refused(folder):
    rewrite(folder, lambda document: document.update(surprise=1))
    with pytest.raises(BundleError, match="incomplete"):
        bundle.read_info(folder)
    rewrite(folder, lambda document: (document.pop("surprise"), document.pop("state")))
    with pytest.raises(BundleError, match="incomplete"):
        bundle.read_info(folder)


def test_a_changed_or_missing_part_is_named(folder):
    part = folder / "weights.safetensors"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"'weights.safetensors' was changed"):
        bundle.load_bundle(folder)
    part.unlink()
    with pytest.raises(BundleError, match=r"'weights.safetensors' is missing"):
        bundle.load_bundle(folder)


@pytest.mark.parametrize("place", ["../outside.bin", "/etc/hostname"])
def test_a_part_outside_the_bundle_is_refused(folder, place):
    (folder.parent / "outside.bin").write_bytes(b"x")
    rewrite(folder, lambda document: document["files"].update({place: "0" * 64}))
    with pytest.raises(BundleError, match="lies outside the bundle"):
        bundle.read_info(folder)


def test_a_link_out_of_the_bundle_is_refused(folder):
    part = folder / "weights.safetensors"
    shutil.move(part, folder.parent / "elsewhere")
    part.symlink_to(folder.parent / "elsewhere")
    with pytest.raises(BundleError, match="lies outside the bundle"):
        bundle.read_info(folder)


def test_parts_that_do_not_fit_together_are_a_bundle_error(folder):
    rewrite(folder, lambda document: document.update(state={}))
    with pytest.raises(BundleError, match="do not fit together"):
        bundle.load_bundle(folder)


def test_a_bundle_of_a_plugin_that_is_not_here_names_it(folder):
    rewrite(folder, lambda document: document.update(plugin="elsewhere"))
    with pytest.raises(PluginError, match="elsewhere"):
        bundle.load_bundle(folder)
