from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from appliedpapers.core import files
from appliedpapers.core.errors import RunError


def half_written(opened) -> None:
    with opened as aside:
        target = aside / "new.txt" if aside.is_dir() else aside
        target.write_text("new")
        raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_is_not_finished_never_takes_its_name(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        half_written(files.whole_file(target))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_appears_below_folders_that_do_not_exist_yet(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "c.txt", "text ü")
    assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "text ü"
    assert names(tmp_path / "a" / "b") == ["c.txt"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with files.whole_folder(target) as aside:
        (aside / "new.txt").write_text("new")
        assert names(target) == ["old.txt"]
    assert names(target) == ["new.txt"]
    assert names(tmp_path) == ["bundle"]


def test_a_folder_that_is_not_finished_leaves_the_old_one(tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        half_written(files.whole_folder(target))
    assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["bundle"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename = os.replace

    def failing(source, destination):
        if Path(source).suffix == ".part":
            raise OSError(errno.EIO, "input/output error")
        rename(source, destination)

    monkeypatch.setattr(files.os, "replace", failing)
    with pytest.raises(RunError, match="cannot be written"), files.whole_folder(target) as aside:
        (aside / "new.txt").write_text("new")
    assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission to write"),
        (errno.EROFS, "no permission to write"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_a_disk_that_refuses_is_reported_and_leaves_nothing_behind(tmp_path, monkeypatch, number, words):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(RunError, match=words) as caught:
        files.write_text(tmp_path / "a.txt", "text")
    assert caught.value.hint
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_reported(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        files.write_text(tmp_path / "taken" / "a.txt", "text")


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert names(tmp_path) == []


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
