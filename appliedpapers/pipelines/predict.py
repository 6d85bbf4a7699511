"""Predictions by hand: one file, or a stream of lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core import config as configs
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import BundleInfo, load_bundle
from appliedpapers.core.device import resolve_device
from appliedpapers.core.errors import DataError
from appliedpapers.core.inference import predict_all
from appliedpapers.core.progress import Progress
from appliedpapers.core.tables import plain_row

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.model import Model, Stream

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
    config = model.config
    for assignment in assignments:
        over = configs.parse_assignment(assignment)
        config = configs.validate(type(config), configs.merge(config.model_dump(), over))
    if assignments:
        model.read_as(config)
    table = task.load("datasets").inputs(source, config)
    if progress is not None:
        model.progress = progress
    return predict_all(model, table, source=source.name, files=files)


def stream_lines(
    reference: str, lines: Iterable[str], *, device: str = "cpu", store_folder: Path = DEFAULT_STORE
) -> Iterator[str]:
    """Feed JSON lines to a model and yield JSON lines; each group has a stream of its own.

    Raises:
        ConfigError: The model does not stream.
        DataError: A line is not a JSON object or breaks the contract; its number is named.
    """
    from appliedpapers.core.validation import check, from_records

    model, info = load_model(reference, device=device, store_folder=store_folder)
    schema = info.input_schema
    unused = model.stream()
    streams: dict[tuple[Any, ...], Stream] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source = f"stdin, line {number}"
        table = from_records([_record(line, source)], schema, source=source)
        (record,) = check(table, schema, source=source).require_clean().to_pylist()
        group = tuple(record[name] for name in schema.group_by)
        if group not in streams:
            streams[group] = model.stream() if streams else unused
        for answer in streams[group].step(record):
            yield json.dumps(plain_row(answer))


def _record(line: str, source: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{source}: not JSON ({error}).", hint='Expected {"column": value}.') from None
    if not isinstance(record, dict):
        raise DataError(f"{source}: not a JSON object.", hint='Expected {"column": value}.')
    return record
