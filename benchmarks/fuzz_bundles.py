"""Fuzzing of stored and exported models, with the checksums that a forger would state."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from appliedpapers.core.config import resolve
from benchmarks.fuzz_cases import changed_ends, changed_members, changed_words, json_bytes, mutated, nearly
from benchmarks.fuzz_target import BUNDLE, Fuzzing, Target


def _sealed(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a small bundle and its manifest, without the seal."""
    from appliedpapers.core.bundle import save_bundle
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.frets.config import FretsConfig
    from appliedpapers.plugins.frets.data import DATASETS
    from appliedpapers.plugins.frets.model import FretsForecaster

    small = ["model.lookback=24", "model.horizon=4", "training.epochs=1", "simulator.days=40"]
    config = resolve(
        FretsConfig, preset="quick", assignments=[word for word in small if _known(FretsConfig, word)]
    )
    dataset = DATASETS.simulated(config)
    (folder / "fit").mkdir()
    model = FretsForecaster(config).fit(dataset.train, dataset.valid, FitContext(folder / "fit"))
    save_bundle(model, folder / "bundle", plugin="frets", task="forecasting")
    document = json.loads((folder / "bundle" / "bundle.json").read_text())
    document.pop("sha256")
    return folder / "bundle", document


def _known(config: Any, assignment: str) -> bool:
    from appliedpapers.core.config import option_paths

    return assignment.partition("=")[0] in option_paths(config)


def _bundle(folder: Path) -> Fuzzing:
    """Change the manifest, and seal it again as a forger would."""
    from appliedpapers.core.bundle import _digest, load_bundle

    bundle, document = _sealed(folder)

    def attempt(case: Any) -> None:
        changed = case
        if isinstance(case, dict):
            changed = {**case, "sha256": _digest(case)}
        (bundle / "bundle.json").write_bytes(json_bytes(changed))
        load_bundle(bundle)

    return Fuzzing(nearly(document), attempt)


def _weights(folder: Path) -> Fuzzing:
    """Change a part of a bundle, and state its new checksum as a forger would."""
    import hashlib

    from appliedpapers.core.bundle import _digest, load_bundle

    bundle, document = _sealed(folder)
    parts = {name: (bundle / name).read_bytes() for name in document["files"]}
    names = sorted(parts)

    def attempt(case: tuple[int, int]) -> None:
        name, rng = names[case[0]], random.Random(case[1])
        content = (
            changed_ends(parts[name], rng)
            if name.endswith("safetensors")
            else changed_words(parts[name], rng)
        )
        (bundle / name).write_bytes(content)
        sealed = {**document, "files": {**document["files"], name: hashlib.sha256(content).hexdigest()}}
        (bundle / "bundle.json").write_bytes(json_bytes({**sealed, "sha256": _digest(sealed)}))
        try:
            load_bundle(bundle)
        finally:
            (bundle / name).write_bytes(parts[name])

    return Fuzzing(st.tuples(st.integers(0, len(names) - 1), st.integers(0, 2**63 - 1)), attempt)


def _archive(folder: Path) -> Fuzzing:
    import hashlib
    import zipfile

    from appliedpapers.pipelines.registry_transfer import MODEL_CARD, _unpack

    sink = io.BytesIO()
    names = (MODEL_CARD, "bundle/bundle.json")
    files = {name: {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()} for name in names}
    manifest = {
        "format_version": 1,
        "name": "apps.frets",
        "version": 1,
        "files": files,
        "tags": {"apps.a": "b"},
    }
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name in names:
            archive.writestr(name, "{}")

    def attempt(content: bytes) -> None:
        path, place = folder / "model.zip", folder / "unpacked"
        path.write_bytes(content)
        place.mkdir(exist_ok=True)
        _unpack(path, place, 2**24)

    return Fuzzing(mutated([sink.getvalue()], changed_members), attempt)


TARGETS = (
    Target("bundle-manifest", "manifests of stored models, sealed again", _bundle, BUNDLE),
    Target("bundle-parts", "parts of stored models, with their new checksums", _weights, BUNDLE),
    Target("exported-model", "archives of apps registry export", _archive, BUNDLE),
)
