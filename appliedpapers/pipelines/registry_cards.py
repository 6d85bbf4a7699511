"""The cards of a registered version: what the model is, and what it was made from."""

from __future__ import annotations

from pathlib import Path

from appliedpapers.core.files import whole_folder
from appliedpapers.pipelines.registry_versions import Version, cache_folder, place_on_disk
from appliedpapers.pipelines.report import DATA_CARD, MODEL_CARD
from appliedpapers.pipelines.tracking_store import Store, store_errors

CARDS = {"model": MODEL_CARD, "data": DATA_CARD}
"""File names by kind; they lie beside ``MLmodel`` of the version."""


def cards_of(store: Store, version: Version) -> dict[str, str]:
    """Return the files of a version's cards on this disk, by kind; those of a server are fetched once.

    A version that was registered before cards travelled with it has those of its run, if any.

    Raises:
        RunError: The store cannot be read.
    """
    with store_errors(store.tracking_uri):
        location = store.client.get_model_version_download_uri(version.name, str(version.number))
        folder = place_on_disk(location)
        if folder is None:
            folder = _fetched(store, version, location)
        found = {kind: folder / name for kind, name in CARDS.items()}
        if version.run_id is not None and not any(path.is_file() for path in found.values()):
            run = place_on_disk(str(store.client.get_run(version.run_id).info.artifact_uri))
            found = {kind: run / name for kind, name in CARDS.items()} if run is not None else {}
    return {kind: str(path) for kind, path in found.items() if path.is_file()}


def _fetched(store: Store, version: Version, location: str) -> Path:
    from mlflow.artifacts import download_artifacts, list_artifacts

    cached = cache_folder(store, "cards", version.name, version.number, location)
    if not cached.is_dir():
        uri = f"models:/{version.name}/{version.number}"
        stored = {item.path for item in list_artifacts(artifact_uri=uri, tracking_uri=store.tracking_uri)}
        with whole_folder(cached) as aside:
            for name in stored.intersection(CARDS.values()):
                download_artifacts(
                    artifact_uri=f"{uri}/{name}", dst_path=str(aside), tracking_uri=store.tracking_uri
                )
    return cached
