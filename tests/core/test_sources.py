"""Downloads run against a server on the loopback interface; nothing here needs a network."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.fetching import data_home, fetch, git_blob_id
from appliedpapers.core.sources import (
    DatasetCatalog,
    PublishedDataset,
    RemoteFile,
    list_datasets,
    load_dataset,
)

CONTENT = b"date,a\n2020-01-01,1\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass(frozen=True)
class Opened:
    how: str
    where: Path | None = None


class Catalog(DatasetCatalog[TaskConfig]):
    def __init__(self, *entries: PublishedDataset) -> None:
        self.published = entries

    def simulated(self, config):
        return Opened("simulated")

    def from_user(self, path, config):
        return Opened("user", path)

    def from_published(self, entry, folder, config):
        return Opened(entry.id, folder)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests += 1
        if self.path.startswith("/cut/"):
            # promises more bytes than it sends, as a broken connection does
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(CONTENT[:10])
            return
        super().do_GET()


@pytest.fixture
def server(tmp_path) -> Iterator[http.server.ThreadingHTTPServer]:
    root = tmp_path / "upstream"
    root.mkdir()
    (root / "a.csv").write_bytes(CONTENT)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=root)
    ) as httpd:
        httpd.requests = 0
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("APPS_DATA_HOME", str(folder))
    return folder


@pytest.fixture
def entry(server) -> PublishedDataset:
    return PublishedDataset(
        id="letters",
        title="letters",
        files=(
            RemoteFile("deep/a.csv", f"http://127.0.0.1:{server.server_port}/a.csv", SHA256, len(CONTENT)),
        ),
        licence="CC0-1.0",
    )


def test_provenance_gives_the_sha256_that_is_known_and_never_another_checksum(entry, tmp_path):
    found = entry.provenance(tmp_path)
    # nothing lies there: what is known is not hashed again
    assert found.sha256 == {"deep/a.csv": SHA256}
    assert (found.source, found.licence, found.synthetic) == (entry.files[0].url, "CC0-1.0", False)
    blob = with_file(entry, sha256=None, git_blob="6a5db57f39284d4b6b2fe36be26e7b833536de6a", url=None)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.csv").write_bytes(CONTENT)
    (tmp_path / "own.csv").write_bytes(CONTENT)
    assert blob.provenance(tmp_path).sha256 == {"deep/a.csv": SHA256}
    assert blob.provenance(tmp_path).source == "letters"
    assert blob.provenance(tmp_path, [tmp_path / "own.csv"], source="x").sha256 == {"own.csv": SHA256}


def with_file(entry: PublishedDataset, **changes) -> PublishedDataset:
    return replace(entry, files=(replace(entry.files[0], **changes),))


def files_below(folder: Path) -> list[str]:
    return (
        sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        if folder.exists()
        else []
    )


def test_data_home_is_the_environment_variable_or_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("APPS_DATA_HOME", str(tmp_path))
    assert data_home() == tmp_path
    monkeypatch.delenv("APPS_DATA_HOME")
    assert "applied-papers" in str(data_home())


def test_a_download_lands_verified_under_the_plugin_and_happens_once(server, home, entry):
    folder = fetch("toy", entry)
    assert folder == home / "toy"
    assert (folder / "deep/a.csv").read_bytes() == CONTENT
    fetch("toy", entry)
    assert server.requests == 1
    assert files_below(home) == ["toy/deep/a.csv"]


def test_a_present_file_needs_neither_network_nor_a_writable_folder(home, entry):
    target = home / "toy/deep/a.csv"
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    with_terms = replace(with_file(entry, url="http://127.0.0.1:9/a.csv"), terms="research only")
    for folder in (target.parent, home / "toy", home):
        folder.chmod(0o555)
    try:
        assert fetch("toy", with_terms) == home / "toy"
        assert fetch("toy", with_terms, accept_licence=True) == home / "toy"
    finally:
        for folder in (home, home / "toy", target.parent):
            folder.chmod(0o755)
    assert files_below(home) == ["toy/deep/a.csv"]


GIT_BLOB = hashlib.sha1(b"blob 20\0" + CONTENT).hexdigest()


def test_a_file_may_be_known_by_what_git_calls_it(server, home, entry, tmp_path):
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # by git hash-object
    known = with_file(entry, sha256=None, git_blob=GIT_BLOB)
    fetch("toy", known)
    assert files_below(home) == ["toy/deep/a.csv"]
    assert fetch("toy", known) == home / "toy"
    (home / "toy/deep/a.csv").write_bytes(b"edited")
    with pytest.raises(DataError, match=f"git blob id is .*, expected {GIT_BLOB}"):
        fetch("toy", known)
    (home / "toy/deep/a.csv").unlink()
    with pytest.raises(DataError, match="expected " + "0" * 40) as caught:
        fetch("toy", with_file(known, git_blob="0" * 40))
    assert GIT_BLOB in caught.value.message
    assert files_below(home) == []


@pytest.mark.parametrize("checksums", [{}, {"sha256": SHA256, "git_blob": GIT_BLOB}])
def test_a_file_has_exactly_one_checksum(checksums):
    with pytest.raises(ValueError, match="one checksum"):
        RemoteFile("a.csv", None, **checksums)


@pytest.fixture
def with_prepared(entry):
    own = RemoteFile("own.parquet", None, hashlib.sha256(b"ours").hexdigest())
    return replace(entry, terms="research only", prepared=own)


def test_the_prepared_form_needs_neither_network_nor_terms(server, home, with_prepared):
    catalog = Catalog(with_prepared)
    assert {row.id: row.state for row in list_datasets(catalog, "toy")}["letters"] == "needs licence"
    (home / "toy").mkdir(parents=True)
    (home / "toy/own.parquet").write_bytes(b"ours")
    assert {row.id: row.state for row in list_datasets(catalog, "toy")}["letters"] == "ready"
    opened = load_dataset(catalog, "toy", TaskConfig(), dataset="letters")
    assert opened == Opened("letters", home / "toy")
    assert server.requests == 0
    assert files_below(home) == ["toy/own.parquet"]


def test_a_prepared_form_that_was_changed_is_named_and_not_needed_beside_the_files(
    server, home, with_prepared
):
    (home / "toy/deep").mkdir(parents=True)
    (home / "toy/own.parquet").write_bytes(b"edited")
    with pytest.raises(DataError, match=r"own\.parquet: sha256 is"):
        fetch("toy", with_prepared, accept_licence=True)
    assert server.requests == 0
    (home / "toy/deep/a.csv").write_bytes(CONTENT)
    assert fetch("toy", with_prepared) == home / "toy"


def test_what_was_downloaded_is_prepared_once(server, home, with_prepared):
    class Preparing(Catalog):
        seen: ClassVar = []

        def prepare(self, entry, folder):
            self.seen.append((entry.id, files_below(folder)))

    catalog = Preparing(with_prepared)
    with pytest.raises(DataError, match="research only"):
        load_dataset(catalog, "toy", TaskConfig(), dataset="letters")
    assert catalog.seen == []
    for _ in range(2):
        load_dataset(catalog, "toy", TaskConfig(), dataset="letters", accept_licence=True)
    assert catalog.seen == [("letters", ["deep/a.csv"])]


def test_a_present_file_with_another_checksum_is_named_with_both_sums(server, home, entry):
    target = home / "toy/deep/a.csv"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"edited")
    with pytest.raises(DataError) as caught:
        fetch("toy", entry)
    assert SHA256 in caught.value.message
    assert hashlib.sha256(b"edited").hexdigest() in caught.value.message
    assert target.read_bytes() == b"edited"
    assert server.requests == 0


def test_a_download_with_another_checksum_is_not_kept(home, entry):
    with pytest.raises(DataError, match="expected " + "0" * 64) as caught:
        fetch("toy", with_file(entry, sha256="0" * 64))
    assert SHA256 in caught.value.message
    assert files_below(home) == []


@pytest.mark.parametrize("route", ["cut/a.csv", "absent.csv"])
def test_a_broken_transfer_leaves_nothing_and_says_how_to_place_the_file_by_hand(server, home, entry, route):
    url = f"http://127.0.0.1:{server.server_port}/{route}"
    with pytest.raises(DataError) as caught:
        fetch("toy", with_file(entry, url=url))
    assert files_below(home) == []
    for part in (url, str(home / "toy/deep"), SHA256):
        assert part in caught.value.hint


def test_no_network_is_a_data_error_with_the_address_the_folder_and_the_checksum(home, entry):
    url = "http://127.0.0.1:9/a.csv"
    with pytest.raises(DataError) as caught:
        fetch("toy", with_file(entry, url=url))
    for part in (url, str(home / "toy/deep"), SHA256):
        assert part in caught.value.hint


def test_terms_are_asked_once_and_again_when_they_change(home, entry):
    limited = replace(entry, terms="research only")
    with pytest.raises(DataError, match="research only") as caught:
        fetch("toy", limited)
    assert "--accept-licence" in caught.value.hint
    assert files_below(home) == []

    fetch("toy", limited, accept_licence=True)
    (home / "toy/deep/a.csv").unlink()
    fetch("toy", limited)

    (home / "toy/deep/a.csv").unlink()
    with pytest.raises(DataError, match="no use on Sundays"):
        fetch("toy", replace(limited, terms="no use on Sundays"))
    assert (
        json.loads((home / "accepted-licences.json").read_text())["toy/letters"]["terms"] == "research only"
    )


def test_a_file_without_address_is_read_when_present_and_else_explained(home, entry):
    local = replace(with_file(entry, url=None), obtain="Ask its owner for it.")
    with pytest.raises(DataError, match="may not be downloaded") as caught:
        fetch("toy", local)
    assert caught.value.hint == "Ask its owner for it."
    (home / "toy/deep").mkdir(parents=True)
    (home / "toy/deep/a.csv").write_bytes(CONTENT)
    assert fetch("toy", local) == home / "toy"


def test_the_list_says_what_can_be_used_now(home, entry):
    catalog = Catalog(
        entry,
        replace(entry, id="limited", terms="research only", files=(replace(entry.files[0], path="b.csv"),)),
        replace(entry, id="local", files=(RemoteFile("c.csv", None, SHA256),)),
    )
    states = {row.id: row.state for row in list_datasets(catalog, "toy")}
    assert states == {
        "simulated": "ready",
        "letters": "download",
        "limited": "needs licence",
        "local": "local only",
    }
    fetch("toy", entry)
    rows = {row.id: row for row in list_datasets(catalog, "toy")}
    assert rows["letters"].state == "ready"
    assert rows["letters"].size == len(CONTENT)
    assert rows["local"].size is None


def test_simulated_is_the_default_and_nothing_falls_back_to_it(home, entry, tmp_path):
    catalog, config = Catalog(entry), TaskConfig()
    assert load_dataset(catalog, "toy", config).how == "simulated"
    assert load_dataset(catalog, "toy", config, dataset="simulated").how == "simulated"
    assert load_dataset(catalog, "toy", config, dataset="letters") == Opened("letters", home / "toy")
    assert load_dataset(catalog, "toy", config, data=str(tmp_path)) == Opened("user", tmp_path)
    with pytest.raises(DataError, match="no such file"):
        load_dataset(catalog, "toy", config, data=tmp_path / "absent.csv")


def test_dataset_and_data_together_are_refused(entry, tmp_path):
    with pytest.raises(ConfigError, match="both"):
        load_dataset(Catalog(entry), "toy", TaskConfig(), dataset="letters", data=tmp_path)


def test_an_unknown_name_is_answered_with_the_closest_one(entry):
    with pytest.raises(ConfigError, match="unknown dataset 'leters'") as caught:
        load_dataset(Catalog(entry), "toy", TaskConfig(), dataset="leters")
    assert caught.value.hint == "Did you mean 'letters'?"
