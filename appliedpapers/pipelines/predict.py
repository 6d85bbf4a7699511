"""Predictions by hand, for one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core import config as configs
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import BundleInfo, load_bundle
from appliedpapers.core.device import resolve_device
from appliedpapers.core.inference import predict_all
from appliedpapers.core.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.model import Model

DEFAULT_STORE = Path("mlruns")


def load_model(
    reference: str, *, device: str = "cpu", store_folder: Path = DEFAULT_STORE
) -> tuple[Model, BundleInfo]:
    """Load a model by reference: ``frets``, ``frets@champion``, ``frets@3``, or a bundle's folder.

    Raises:
        ConfigError: No such model, alias or version.
        BundleError: The bundle is corrupt or was changed.
    """
    folder = Path(reference)
    if not (folder / "bundle.json").is_file():
        from appliedpapers.pipelines.registry import resolve
        from appliedpapers.pipelines.tracking_store import existing_store

        folder = resolve(reference, existing_store(store_folder)).bundle
    return load_bundle(folder, resolve_device(device))


def read_as(model: Model, assignments: Sequence[str]) -> TaskConfig:
    """Let a model read its inputs by ``a.b=c`` overrides, and return its configuration with them.

    Raises:
        ConfigError: An override is not an option, or has no legal value.
    """
    config = model.config
    for assignment in assignments:
        over = configs.parse_assignment(assignment)
        config = configs.validate(type(config), configs.merge(config.model_dump(), over))
    if assignments:
        model.read_as(config)
    return config


def predict_file(
    reference: str,
    source: Path,
    *,
    files: Path | None = None,
    device: str = "cpu",
    store_folder: Path = DEFAULT_STORE,
    assignments: Sequence[str] = (),
    progress: Progress | None = None,
) -> pa.Table:
    """Predict for one file in any format that the plugin reads.

    Args:
        reference: The model.
        source: The user's file.
        files: Where the model may write big results.
        device: ``auto``, ``cpu`` or ``cuda``.
        store_folder: Where MLflow's store lies.
        assignments: ``a.b=c`` overrides that say how to read the file.
        progress: Where a model whose items are jobs reports.

    Raises:
        DataError: The file breaks the contract; file, row and column are named.
    """
    model, info = load_model(reference, device=device, store_folder=store_folder)
    task = plugins.find(info.plugin).task(info.task)
    config = read_as(model, assignments)
    table = task.load("datasets").inputs(source, config)
    if progress is not None:
        model.progress = progress
    return predict_all(model, table, source=source.name, files=files)
