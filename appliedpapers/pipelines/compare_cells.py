"""One cell of a comparison: one choice, fitted with one seed and kept on disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import appliedpapers
from appliedpapers.core import config as configs
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.core.files import write_json
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.core.sources import load_dataset
from appliedpapers.pipelines.run_fit import Fitter

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset

RECORD = "cell.json"
_LABEL_LENGTH = 40


@dataclass(frozen=True)
class Source:
    """Which data a comparison is about; as in :class:`~appliedpapers.pipelines.run_folder.RunRequest`."""

    plugin: str
    task: str
    dataset: str | None = None
    data: str | None = None
    accept_licence: bool = False

    def load(self, config: TaskConfig, progress: Progress | None = None) -> Dataset:
        """Open the data.

        Raises:
            DataError: Files are absent, damaged or break the contract.
        """
        return load_dataset(
            plugins.find(self.plugin).task(self.task).load("datasets"),
            self.plugin,
            config,
            dataset=self.dataset,
            data=self.data,
            accept_licence=self.accept_licence,
            progress=progress,
        )


@dataclass(frozen=True)
class Cell:
    """What one worker is asked for; plain values, so that it can be sent to another machine.

    Attributes:
        source: Where the rows come from.
        label: Of the choice.
        config: Of the choice, with the comparison's first seed: all seeds see the same rows.
        seed: What the fit is seeded with.
        fingerprint: Of the comparison's data.
        test_fingerprint: Of the rows that all cells are tested on.
        root: Folder of all cells.
        device: A resolved one.
        precision: ``32``, ``bf16`` or ``16``.
    """

    source: Source
    label: str
    config: Mapping[str, Any]
    seed: int
    fingerprint: str
    test_fingerprint: str
    root: str
    device: str
    precision: str

    @property
    def id(self) -> str:
        """What the result depends on, as twelve digits."""
        values = {key: value for key, value in asdict(self).items() if key not in ("label", "root")}
        values["version"] = appliedpapers.__version__
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where it lies, named for a person who looks there."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")[:_LABEL_LENGTH]
        return Path(self.root) / f"{slug}-seed{self.seed}-{self.id}"

    @property
    def record(self) -> dict[str, Any] | None:
        """What was written when it was finished; None while it is not."""
        try:
            found = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return dict(found)

    def models(self, device: str) -> list[Model]:
        """Load its fits, one a triple of the protocol.

        Raises:
            BundleError: One was changed since.
        """
        count = len(list((self.folder / "models").iterdir()))
        return [load_bundle(self.folder / "models" / str(number), device)[0] for number in range(count)]


def fit_cell(cell: Cell, progress: Progress | None = None) -> str:
    """Fit a cell and keep its models; what an interrupted fit has learned is gone on with.

    Returns:
        An empty text, or why it could not be fitted: the other cells go on.

    Raises:
        ConfigError: The choice changes the rows that are tested on.
    """
    progress = progress or SilentProgress()
    task = plugins.find(cell.source.plugin).task(cell.source.task)
    base = configs.validate(task.load("config"), cell.config)
    dataset = _opened(cell.source, json.dumps(cell.config, sort_keys=True))
    if dataset.test_fingerprint() != cell.test_fingerprint:
        raise ConfigError(
            f"{cell.label}: changes the rows that are tested on, so that figures cannot be compared.",
            hint="Vary options of the model or of its training; fix those of the data with --set.",
        )
    # seeds differ in what is learned, never in the rows; a cell has no candidates of its own
    config = base.model_copy(update={"seed": cell.seed, "candidates": {}})
    scratch, resume = cell.folder / "fit", cell.folder.exists()

    def context(name: str, given: TaskConfig) -> FitContext:
        return FitContext(
            folder=scratch / name,
            seed=given.seed,
            device=cell.device,
            precision=cell.precision,
            resume=resume,
            progress=progress,
        )

    fitter = Fitter(
        task.load("model"), task.load("evaluation"), cell.source.plugin, config, context, progress
    )
    started = time.monotonic()
    try:
        models = [fitter.fit("model", config, sample) for sample in dataset.resamples()]
        seconds = time.monotonic() - started
        valid = fitter.valid_loss(f"{cell.label}, seed {cell.seed}", models, dataset)
        _keep(cell, models)
    except AppsError as error:
        return error.message
    write_json(
        cell.folder / RECORD,
        {
            "label": cell.label,
            "seed": cell.seed,
            "seconds": round(seconds, 3),
            "valid": valid,
            "parameters": _parameters(models[0]),
        },
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return ""


def _parameters(model: Model) -> str:
    """Return how many numbers a model says that it has learned, whatever part of it the line speaks of."""
    return next((value for name, value in model.describe() if name.startswith("parameters")), "")


def _keep(cell: Cell, models: list[Model]) -> None:
    for number, model in enumerate(models):
        save_bundle(
            model,
            cell.folder / "models" / str(number),
            plugin=cell.source.plugin,
            task=cell.source.task,
            dataset={"fingerprint": cell.fingerprint, "test_fingerprint": cell.test_fingerprint},
        )


@lru_cache(maxsize=4)
def _opened(source: Source, config: str) -> Dataset:
    """Open the data of a choice; its other seeds come back to it."""
    task = plugins.find(source.plugin).task(source.task)
    return source.load(configs.validate(task.load("config"), json.loads(config)))
