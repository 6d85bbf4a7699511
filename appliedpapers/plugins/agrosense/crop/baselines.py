"""Who a crop recommender is held against: the commonest crop, and each family by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from appliedpapers.core.evaluation import Baseline, Kind
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.family import Lesson, family_class
from appliedpapers.plugins.agrosense.crop.matrix import Encoder
from appliedpapers.plugins.agrosense.crop.model import CropRecommender, joined
from appliedpapers.plugins.agrosense.crop.recommender import out_of_fold
from appliedpapers.plugins.agrosense.crop.scoring import Told
from appliedpapers.plugins.agrosense.crop.trust import Calibration
from appliedpapers.plugins.agrosense.splits import group_folds, inner_folds

if TYPE_CHECKING:
    from appliedpapers.core.data import Split
    from appliedpapers.plugins.agrosense.crop.data import CropSplit

ALWAYS = ("gaussian-nb", "logistic", "random-forest", "lightgbm", "xgboost")
NETWORKS = ("mlp",)
FUSIONS = {"late": "photos in every row", "mowst": "photos where the table is unsure"}

_FLOOR = 1e-6


class Commonest(Baseline):
    """How common each crop is, whatever the field."""

    name = "commonest-crop"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Count."""
        rows = joined(cast("CropSplit", train), cast("CropSplit", valid))
        counts = np.bincount(rows.labels, minlength=len(rows.classes)) + _FLOOR
        self._shares = counts / counts.sum()
        return self

    def predict(self, split: Split) -> Told:
        """Return the same shares for every row."""
        return Told(np.tile(self._shares, (split.num_rows, 1)))


class FamilyAlone(Baseline):
    """One family on the table alone, calibrated in the same way as ours.

    Args:
        family: Its name.
        config: Of the run.
    """

    def __init__(self, family: str, config: CropConfig) -> None:
        self.name, self._config = family, config
        self.kind: Kind = "paper" if family in ("mlp", "tabnet") else "baseline"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on both parts; folds inside them calibrate."""
        rows = joined(cast("CropSplit", train), cast("CropSplit", valid))
        self._encoder = Encoder(rows.features)
        matrix = self._encoder.matrix(rows.table)
        lesson, kind = Lesson(matrix, rows.labels, len(rows.classes), self.name), family_class(self.name)
        folds = inner_folds(rows.labels, rows.together, self._config.model.inner_folds, run.seed)
        quiet = replace(run, log_metrics=lambda metrics, step, /: None)
        unseen = out_of_fold(kind, lesson, folds, self._config, quiet)
        method = self._config.model.calibration
        if method == "auto" and not kind.is_tree:
            method = "temperature"
        self._calibration = Calibration.fit(method, unseen, rows.labels, seed=run.seed)
        self._family = kind.fit(lesson.with_gaps(self._config.model.masked, run.seed), self._config, run)
        return self

    def predict(self, split: Split) -> Told:
        """Return calibrated probabilities."""
        matrix = self._encoder.matrix(cast("CropSplit", split).table)
        return Told(self._calibration(self._family.logits(matrix)))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield how it was calibrated."""
        shown = f" {self._calibration.temperature:.3f}" if self._calibration.method == "temperature" else ""
        yield "calibration", f"{self._calibration.method}{shown}"


class Arm(Baseline):
    """Our model with an input left out or shuffled among rows: what that input is worth.

    Args:
        name: In the table.
        config: Of the run; fusion is off.
        without: Inputs that are left out.
        shuffled: Inputs whose values are dealt to other rows, in training and in the test.
        elsewhere: Judge each row by a fit that did not see its group.
    """

    kind: Kind = "ours"

    def __init__(
        self,
        name: str,
        config: CropConfig,
        *,
        without: Sequence[str] = (),
        shuffled: Sequence[str] = (),
        elsewhere: bool = False,
    ) -> None:
        self.name, self._config = name, config.replace(fusion={"images": False}, candidates={})
        self._without, self._shuffled, self._elsewhere = without, shuffled, elsewhere

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit the changed model, or one a group of rows to be left out."""
        rows = joined(cast("CropSplit", train), cast("CropSplit", valid))
        self._models: list[tuple[frozenset[str], CropRecommender]] = []
        parts = [(np.arange(rows.num_rows), frozenset[str]())]
        if self._elsewhere and rows.groups is not None:
            cuts = group_folds(rows.groups, self._config.data.folds, 0)
            parts = [(learned, frozenset(rows.groups[judged])) for learned, judged in cuts]
        quiet = replace(run, log_metrics=lambda metrics, step, /: None)
        for number, (learned, held) in enumerate(parts):
            part = self.changed(cast("CropSplit", rows.take(learned)), run.seed)
            model = CropRecommender(self._config)
            model.classes = part.classes
            model.learn(part, None, replace(quiet, folder=run.folder / str(number)))
            self._models.append((held, model))
        self._seed = run.seed
        return self

    def predict(self, split: Split) -> Told:
        """Ask each model about the rows of the groups that it did not see."""
        rows = self.changed(cast("CropSplit", split), self._seed + 1)
        found = np.zeros((rows.num_rows, len(rows.classes)))
        groups = rows.groups
        for held, model in self._models:
            own = np.isin(groups, list(held)) if held and groups is not None else np.ones(len(found), bool)
            assert model.recommender is not None
            if own.any():
                part = cast("CropSplit", rows.take(own))
                found[own] = model.recommender.probabilities(model.matrix(part.table))
        return Told(found)

    def changed(self, rows: CropSplit, seed: int) -> CropSplit:
        """Return rows without the inputs that are left out, and with those shuffled that are to be."""
        from appliedpapers.plugins.agrosense.crop.data import CropSplit as Made

        table = with_shuffled(rows, self._shuffled, seed).table
        features = [feature for feature in rows.features if feature.name not in self._without]
        grouped = rows.grouped or self._elsewhere
        return Made(table, features, rows.classes, synthetic=rows.synthetic, grouped=grouped)


class PhotoArm(Baseline):
    """Our model without photos, with those of other rows, or with the other fusion: what photos are worth.

    Args:
        name: In the table.
        config: Of the run; fusion is on.
        images: Whether photos are read at all.
        shuffled: Photos are dealt to other rows, with their soils, in training and in the test.
        kind: Another fusion than that of the run.
    """

    kind: Kind = "ours"

    def __init__(
        self,
        name: str,
        config: CropConfig,
        *,
        images: bool = True,
        shuffled: bool = False,
        kind: str | None = None,
    ) -> None:
        self.name, self._shuffled = name, shuffled
        changes = {"images": images, "kind": kind or config.fusion.kind}
        self._config = config.replace(fusion=changes, candidates={})

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit the changed model."""
        parts = [self._changed(cast("CropSplit", part), run.seed) for part in (train, valid)]
        quiet = replace(run, log_metrics=lambda metrics, step, /: None)
        self._model = CropRecommender(self._config).fit(parts[0], parts[1], quiet)
        self._seed = run.seed
        return self

    def predict(self, split: Split) -> Told:
        """Ask about rows that were changed in the same way."""
        rows = self._changed(cast("CropSplit", split), self._seed + 1)
        answers = self._model.answers(rows.table, attributions=False)
        return Told(answers.probabilities, looked=answers.looked)

    def _changed(self, rows: CropSplit, seed: int) -> CropSplit:
        return with_shuffled(rows, ("image", "soil"), seed) if self._shuffled else rows


def with_shuffled(rows: CropSplit, names: Sequence[str], seed: int) -> CropSplit:
    """Return rows of which some columns are those of other rows, all of one row together."""
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.crop.data import CropSplit as Made

    table = rows.table
    order = pa.array(np.random.default_rng(seed).permutation(rows.num_rows))
    for name in names:
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, table.column(name).take(order))
    return Made(table, rows.features, rows.classes, synthetic=rows.synthetic, grouped=rows.grouped)


def usual_baselines(config: CropConfig, split: CropSplit) -> list[Baseline]:
    """Return the baselines of a table; where it holds the colour of the soil or photos, arms of them, too."""
    own = config.model.family
    found: list[Baseline] = [Commonest()]
    found += [FamilyAlone(name, config) for name in (*ALWAYS, *NETWORKS) if name != own]
    if config.fusion.images:
        found += [
            PhotoArm("without photos", config, images=False),
            PhotoArm("photos shuffled", config, shuffled=True),
            *(
                PhotoArm(name, config, kind=kind)
                for kind, name in FUSIONS.items()
                if kind != config.fusion.kind
            ),
        ]
    names = [feature.name for feature in split.features]
    if "soil_colour" in names and len(names) > 1:
        found += [
            Arm("without soil colour", config, without=("soil_colour",)),
            Arm("soil colour shuffled", config, shuffled=("soil_colour",)),
        ]
        if split.groups is not None:
            held = "locations held out"
            found += [
                Arm(f"{held}", config, elsewhere=True),
                Arm(f"{held}, without soil colour", config, without=("soil_colour",), elsewhere=True),
            ]
    return found
