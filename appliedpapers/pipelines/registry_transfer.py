"""Moving a version to a machine without network: one zip file with bundle, cards, tags and checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from appliedpapers.core.bundle import BundleInfo, read_info
from appliedpapers.core.errors import BundleError, ConfigError
from appliedpapers.core.files import sha256_file, whole_file, write_error
from appliedpapers.pipelines.registry_cards import CARDS, cards_of
from appliedpapers.pipelines.registry_versions import Version, find_model, resolve, versions_of
from appliedpapers.pipelines.report import MODEL_CARD
from appliedpapers.pipelines.tracking import RunLog
from appliedpapers.pipelines.tracking_store import Store, store_errors

if TYPE_CHECKING:
    from appliedpapers.pipelines.registry import Registered

FORMAT_VERSION = 2
MAX_BYTES = 32 << 30
_MAX_MEMBERS = 10_000
_MAX_MANIFEST = 16 << 20
_MANIFEST = "manifest.json"
_BUNDLE = "bundle/"
_CHUNK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
# what this store says about itself and not about the model
_LOCAL_TAGS = ("apps.promoted_",)
_AGAIN = "Export it again with apps registry export, and copy the file whole."


def export_version(store: Store, ref: str, file: Path) -> Path:
    """Write a registered version as one zip file, whole or not at all.

    Args:
        store: The registry.
        ref: What :func:`resolve` takes.
        file: The zip file.

    Raises:
        ConfigError: The version is unknown.
        RunError: The file cannot be written.
    """
    found = resolve(ref, store)
    with store_errors(store.tracking_uri):
        versions = versions_of(store.client, find_model(store, found.name))
    version = next(item for item in versions if item.number == found.version)
    parts = {f"{_BUNDLE}{path.relative_to(found.bundle).as_posix()}": path for path in _files(found.bundle)}
    cards = {CARDS[kind]: Path(path).read_bytes() for kind, path in cards_of(store, version).items()}
    cards.setdefault(MODEL_CARD, _plain_card(version, found.info).encode())
    files = {name: {"sha256": sha256_file(path), "size": path.stat().st_size} for name, path in parts.items()}
    files |= {
        name: {"sha256": hashlib.sha256(card).hexdigest(), "size": len(card)} for name, card in cards.items()
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": found.name,
        "version": found.version,
        "run_id": found.run_id,
        "tags": {key: text for key, text in version.tags.items() if not key.startswith(_LOCAL_TAGS)},
        "files": files,
    }
    with whole_file(file) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for name, card in cards.items():
            archive.writestr(name, card)
        for name, path in parts.items():
            archive.write(path, name)
    return file


def import_version(store: Store, file: Path, *, max_bytes: int = MAX_BYTES) -> Registered:
    """Register the version in an exported file; it gets the next free number here.

    Nothing from the file is executed: the bundle is verified, and the MLflow model around it is made anew.

    Args:
        store: The registry.
        file: What :func:`export_version` wrote.
        max_bytes: Refuse more than this, unpacked.

    Raises:
        BundleError: The file is damaged, tampered with, too large or of a newer format.
        PluginError: Its plugin is not installed here.
        RunError: There is no room, or the store refused.
    """
    from appliedpapers.core import plugin as plugins
    from appliedpapers.pipelines.registry import register

    aside = Path(tempfile.mkdtemp(prefix="apps-import-"))
    try:
        manifest = _unpack(file, aside, max_bytes)
        info = read_info(aside / _BUNDLE)
        spec = plugins.find(info.plugin)
        expected = spec.registered_name(spec.task(info.task))
        name = manifest["name"]
        if name != expected and name.startswith(plugins.NAME_PREFIX):
            raise BundleError(f"{file}: '{name}' holds a model of {expected}.", hint=_AGAIN)
        tags = manifest["tags"] | {"apps.imported_from": f"{name} version {manifest['version']}"}
        with store_errors(store.tracking_uri):
            experiment = store.experiment(f"{plugins.NAME_PREFIX}{info.plugin}")
            title = f"import-{name}-{manifest['version']}"
            made = store.client.create_run(experiment, run_name=title, tags=_short(tags))
            run = RunLog(store, made.info.run_id, experiment)
            try:
                cards = [aside / card for card in CARDS.values() if card in manifest["files"]]
                uri = run.log_model(aside / _BUNDLE, name, cards=cards)
                for card in cards:
                    store.client.log_artifact(run.run_id, str(card))
                registered = register(store, name=name, model_uri=uri, run_id=run.run_id, tags=tags)
            except BaseException:
                store.client.set_terminated(run.run_id, "FAILED")
                raise
            store.client.set_terminated(run.run_id, "FINISHED")
        return registered
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack(file: Path, folder: Path, max_bytes: int) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = _read_manifest(archive, file)
            _check_members(archive, manifest["files"], file, max_bytes)
            for name, facts in manifest["files"].items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as sink:
                    if _copy(source, sink, facts["size"]) != facts["sha256"]:  # type: ignore[arg-type]
                        raise BundleError(f"{file}: '{name}' was changed.", hint=_AGAIN)
            return manifest
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file.", hint="Check the path.") from None
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, KeyError, zlib.error) as error:
        raise BundleError(f"{file}: not an exported model ({error}).", hint=_AGAIN) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # it points to places that a file cannot have
            raise BundleError(f"{file}: not an exported model ({error}).", hint=_AGAIN) from None
        raise write_error(folder, error) from error


def _read_manifest(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    try:
        if archive.getinfo(_MANIFEST).file_size > _MAX_MANIFEST:
            raise ValueError("its manifest is too large")
        manifest = json.loads(archive.read(_MANIFEST))
        if manifest["format_version"] > FORMAT_VERSION:
            raise BundleError(
                f"{file}: format {manifest['format_version']} is newer than {FORMAT_VERSION}.",
                hint="Upgrade applied-papers here, or export with an older one.",
            )
        _require(isinstance(manifest["name"], str) and _NAME.fullmatch(manifest["name"]), "a bad name")
        _require(isinstance(manifest["version"], int), "a bad version")
        tags = manifest["tags"]
        _require(isinstance(tags, dict), "bad tags")
        _require(all(k.startswith("apps.") and isinstance(v, str) for k, v in tags.items()), "bad tags")
        for facts in manifest["files"].values():
            _require(isinstance(facts["size"], int) and isinstance(facts["sha256"], str), "bad checksums")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"{file}: not an exported model ({error}).", hint=_AGAIN) from None
    return dict(manifest)


def _require(holds: Any, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _check_members(archive: zipfile.ZipFile, files: Mapping[str, Any], file: Path, max_bytes: int) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    for member in members:
        path = PurePosixPath(member.filename)
        inside = (
            not path.is_absolute() and ".." not in path.parts and not re.search(r"[\\:\0]", member.filename)
        )
        if not inside or stat.S_ISLNK(member.external_attr >> 16):
            raise BundleError(f"{file}: '{member.filename}' would lie outside the bundle.", hint=_AGAIN)
    if len(names) > _MAX_MEMBERS or sum(member.file_size for member in members) > max_bytes:
        raise BundleError(f"{file}: larger than {max_bytes:,} bytes or {_MAX_MEMBERS:,} files.", hint=_AGAIN)
    if sorted(names) != sorted([*files, _MANIFEST]) or MODEL_CARD not in files:
        raise BundleError(f"{file}: its files are not those of its manifest.", hint=_AGAIN)
    if any(name not in CARDS.values() and not name.startswith(_BUNDLE) for name in files):
        raise BundleError(f"{file}: it holds more than a bundle and its cards.", hint=_AGAIN)


def _copy(source: BinaryIO, sink: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    left = size
    # a header may lie about the size: never write more than was declared
    while chunk := source.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            return ""
        digest.update(chunk)
        sink.write(chunk)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _short(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if len(value) < 5000}


def _plain_card(version: Version, info: BundleInfo) -> str:
    facts = [f"- {key.removeprefix('apps.')}: {value}" for key, value in sorted(version.tags.items())]
    title = f"# {version.name} version {version.number}"
    return "\n".join([title, "", f"Plugin {info.plugin}, task {info.task}.", "", *facts, ""])
