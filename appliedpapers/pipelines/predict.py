"""Predictions by hand, for one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core import config as configs
from appliedpapers.core.device import resolve_device
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.inference import predict_all
from appliedpapers.core.progress import Progress
from appliedpapers.core.tables import notes_of
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.locate import ModelRef, locate

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.bundle import BundleInfo
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.model import Model


def load_model(
    reference: str | ModelRef, *, device: str = "cpu", store_folder: Path = DEFAULT_STORE
) -> tuple[Model, BundleInfo]:
    """Load a model by reference: ``frets``, ``frets@champion``, ``frets@3``, or a bundle's folder.

    Raises:
        ConfigError: No such model, alias or version.
        BundleError: The bundle is corrupt or was changed.
    """
    found = locate(reference, store_folder)
    return found.load(resolve_device(device)), found.info


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


def read_rows_as(model: Model, assignments: Sequence[str]) -> None:
    """Let a model read rows by ``a.b=c`` overrides, where no file of the plugin's own formats is read.

    Raises:
        ConfigError: An override says nothing about how rows are read, or is not legal.
    """
    for assignment in assignments:
        if assignment.partition(".")[0] not in model.reads:
            sections = ", ".join(f"{name}.*" for name in model.reads)
            raise ConfigError(
                f"--set {assignment}: it does not say how rows are read.",
                hint=f"Of this model these do: {sections}." if sections else "Train again with that option.",
            )
    read_as(model, assignments)


def predict_file(
    reference: str | ModelRef,
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
        progress: Where is said what is noteworthy about the file, and where a model whose items are jobs
            reports.

    Raises:
        DataError: The file breaks the contract; file, row and column are named.
    """
    found = locate(reference, store_folder)
    model = found.load(resolve_device(device))
    config = read_as(model, assignments)
    table = found.task.load("datasets").inputs(source, config)
    if progress is not None:
        model.progress = progress
        for note in notes_of(table):
            progress.say(f" note        {note}")
    return predict_all(model, table, source=source.name, files=files)
