"""The bundle: a fitted model on disk. JSON, safetensors and native formats only; its data never executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import appliedpapers
from appliedpapers.core import config as configs
from appliedpapers.core import plugin as plugins
from appliedpapers.core.errors import AppsError, BundleError
from appliedpapers.core.files import sha256_file, whole_folder, write_json
from appliedpapers.core.schema import OutputSchema, TableSchema

if TYPE_CHECKING:
    from appliedpapers.core.model import Model
    from appliedpapers.core.plugin import PluginSpec

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
_SEAL = "sha256"
_FORBIDDEN = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".py", ".so", ".dll"}


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says about itself.

    Attributes:
        plugin: Plugin id.
        task: Task name.
        config: The resolved configuration.
        state: Small JSON state of the model.
        input_schema: Contract of what ``predict`` takes.
        output_schema: Contract of what ``predict`` returns.
        dataset: Name, fingerprint, test fingerprint, protocol, synthetic.
        package_version: Version of the distribution that wrote it.
        files: sha256 of each part by relative path.
        format_version: Version of this layout.
    """

    plugin: str
    task: str
    config: dict[str, Any]
    state: dict[str, Any]
    input_schema: TableSchema
    output_schema: OutputSchema
    dataset: dict[str, Any] = field(default_factory=dict)
    package_version: str = appliedpapers.__version__
    files: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` is that of a bundle, sound or not."""
    return (folder / MANIFEST).is_file()


def save_bundle(
    model: Model, folder: Path, *, plugin: str, task: str, dataset: Mapping[str, Any] | None = None
) -> BundleInfo:
    """Write ``model`` into ``folder``, which appears whole or not at all.

    Args:
        model: A fitted model.
        folder: Where the bundle goes; an existing one is replaced.
        plugin: Plugin id.
        task: Task name.
        dataset: What the model was fitted on: name, fingerprints, protocol, synthetic.

    Raises:
        BundleError: The model wrote a part in a format that can execute code.
        RunError: The folder cannot be written.
    """
    with whole_folder(folder) as aside:
        state = model.write_parts(aside)
        parts = sorted(path for path in aside.rglob("*") if path.is_file())
        for part in parts:
            if part.suffix.lower() in _FORBIDDEN:
                raise BundleError(
                    f"{part.name}: a bundle may not hold {part.suffix} files.",
                    hint="Use safetensors, JSON, Parquet or a library's native text format.",
                )
        info = BundleInfo(
            plugin=plugin,
            task=task,
            config=model.config.model_dump(mode="json"),
            state=state,
            input_schema=model.input_schema,
            output_schema=model.output_schema,
            dataset=dict(dataset or {}),
            files={str(part.relative_to(aside)): sha256_file(part) for part in parts},
        )
        # through text, so that the seal is over what will be read back
        document = json.loads(json.dumps(_to_json(info)))
        write_json(aside / MANIFEST, {**document, _SEAL: _digest(document)})
    return info


def read_info(folder: Path) -> BundleInfo:
    """Read and verify a bundle's manifest and the checksum of every part.

    Raises:
        BundleError: It is missing, unreadable, of a newer format, or a part was changed.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["format_version"]
    except FileNotFoundError:
        raise BundleError(f"{folder}: not a bundle.", hint=f"Expected a folder with {MANIFEST}.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error}).", hint=_RESTORE) from None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: format {version} is newer than {FORMAT_VERSION}.",
            hint=f"applied-papers {document.get('package_version')} wrote it; upgrade to that version.",
        )
    seal = document.pop(_SEAL, None)
    if seal != _digest(document):
        raise BundleError(f"{path}: it was changed after it was written.", hint=_RESTORE)
    try:
        info = _from_json(document)
    # a seal shows that a manifest is whole, not that its values are what they should be
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path}: incomplete ({error!r}).", hint=_RESTORE) from None
    _verify(folder, info)
    return info


def load_bundle(
    folder: Path,
    device: str = "cpu",
    *,
    spec: PluginSpec | None = None,
    info: BundleInfo | None = None,
) -> tuple[Model, BundleInfo]:
    """Load a model from its bundle; nothing in the bundle is executed.

    Args:
        folder: The bundle.
        device: Where the model is to live.
        spec: The plugin, when it is at hand; the installed one by the bundle's plugin id otherwise.
        info: What :func:`read_info` said a moment ago, so that the parts are not hashed once more.

    Raises:
        BundleError: The bundle is corrupt, tampered with or of a newer format.
        PluginError: Its plugin is not installed here.
    """
    info = info or read_info(folder)
    task = (spec or plugins.find(info.plugin)).task(info.task)
    config = configs.validate(task.load("config"), info.config)
    try:
        model = task.load("model").read_parts(config, info.state, folder, device)
    except AppsError:
        raise
    except Exception as error:
        raise BundleError(f"{folder}: its parts do not fit together ({error}).", hint=_RESTORE) from error
    return model, info


_RESTORE = "Restore the folder from the registry (apps registry export) or train again."


def _verify(folder: Path, info: BundleInfo) -> None:
    root = folder.resolve()
    for name, expected in info.files.items():
        part = (folder / name).resolve()
        if not part.is_relative_to(root):
            raise BundleError(f"{folder}: part '{name}' lies outside the bundle.", hint=_RESTORE)
        if not part.is_file():
            raise BundleError(f"{folder}: part '{name}' is missing.", hint=_RESTORE)
        found = sha256_file(part)
        if found != expected:
            raise BundleError(
                f"{folder}: part '{name}' was changed (sha256 {found[:8]}…, expected {expected[:8]}…).",
                hint=_RESTORE,
            )


def _digest(document: Mapping[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _to_json(info: BundleInfo) -> dict[str, Any]:
    document = {name: getattr(info, name) for name in asdict(info)}
    document["input_schema"] = info.input_schema.to_json()
    document["output_schema"] = info.output_schema.to_json()
    return document


def _from_json(document: Mapping[str, Any]) -> BundleInfo:
    values = dict(document)
    for names, kind in ((("plugin", "task"), str), (("config", "state", "dataset", "files"), dict)):
        for name in names:
            if not isinstance(values[name], kind):
                raise TypeError(f"{name} is a {type(values[name]).__name__}")
    if not all(isinstance(sha256, str) for sha256 in values["files"].values()):
        raise TypeError("files are named with something else than checksums")
    values["input_schema"] = TableSchema.from_json(values["input_schema"])
    values["output_schema"] = OutputSchema.from_json(values["output_schema"])
    return BundleInfo(**values)
