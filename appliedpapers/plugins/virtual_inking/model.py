"""The inker: a frozen encoder, a head, and the way from tiles to a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.progress import SilentProgress
from appliedpapers.core.schema import OutputSchema, TableSchema
from appliedpapers.plugins.virtual_inking import schemas
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.encoders import COLOUR_TEXTURE
from appliedpapers.plugins.virtual_inking.heads import Head
from appliedpapers.plugins.virtual_inking.inputs import reference_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.virtual_inking.answers import SlideAnswer
    from appliedpapers.plugins.virtual_inking.cascade import Cascade
    from appliedpapers.plugins.virtual_inking.cases import Case
    from appliedpapers.plugins.virtual_inking.encoders import TileEncoder
    from appliedpapers.plugins.virtual_inking.splits import SlideSplit

Floats = NDArray[np.float64]

_HEAD = "head.safetensors"
_FILES = ("torchscript:", "onnx:")
_DECISIONS = ("otsu", "fixed", "viterbi")


class VirtualInker(Model):
    """Classifies tiles of slides and draws the margin.

    Attributes:
        head: Over the encoder's features; None before it is fitted.
        cascade: The cheap expert and the gate, where the configuration asks for them.
        identity: What the features of the training were made with.
        synthetic: Whether it was taught by simulated cuts.
    """

    config: InkingConfig
    cost: ClassVar[Literal["instant", "job"]] = "job"
    needs_files: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("slide", "output")

    def __init__(self, config: InkingConfig) -> None:
        super().__init__(config)
        self.head: Head | None = None
        self.cascade: Cascade | None = None
        self.identity: dict[str, Any] = {}
        self.synthetic = False
        self.device = "cpu"

    @property
    def input_schema(self) -> TableSchema:
        """One row a slide."""
        return schemas.INPUT

    @property
    def output_schema(self) -> OutputSchema:
        """Rows of stretches of the outline, and where the slide's files are."""
        return schemas.OUTPUT

    @property
    def slope(self) -> float:
        """Probabilities are sigmoid(slope * logit); 1 in a cascade, whose logits are calibrated."""
        assert self.head is not None
        return 1.0 if self.cascade is not None else self.head.calibration.slope

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Encode the annotated slides, train the head, and calibrate it on ``valid``.

        Args:
            train: Slides to learn from.
            valid: Slides of other blocks to stop and calibrate on.
            run: Seed, device, scratch folder (features are kept there), progress and metric sink.
            init: A model to go on from, of the same encoder.

        Raises:
            DataError: No tile is cut, or none natural; or a slide cannot be read.
            ConfigError: ``init`` has another encoder.
            RunError: Training diverged.
        """
        from appliedpapers.plugins.virtual_inking.cases import cases_of, identity_of, inputs_of
        from appliedpapers.plugins.virtual_inking.learner import Tiles

        self.device, self.synthetic = run.device, cast("SlideSplit", train).synthetic
        encoder = self.encoder()
        self.identity = identity_of(self.config, encoder)
        start = None if init is None else self._start(cast("VirtualInker", init))
        cache = Path(self.config.encoder.cache or run.folder / "features").expanduser()
        parts = {"train": cast("SlideSplit", train), "valid": cast("SlideSplit", valid)}
        cases = {name: cases_of(split, self.config) for name, split in parts.items()}

        def tiles(encoder: TileEncoder) -> tuple[Tiles, Tiles]:
            train_tiles, valid_tiles = (
                Tiles.of(
                    [
                        inputs_of(case, self.config, encoder, progress=run.progress, cache=cache)
                        for case in own
                    ],
                    [case.labels for case in own],
                    name,
                )
                for name, own in cases.items()
            )
            return train_tiles, valid_tiles

        strong = tiles(encoder)
        self.head = Head.fit(*strong, self.config.head, run, "head", start)
        if self.config.cascade.mode == "mowst":
            from appliedpapers.plugins.virtual_inking.cascade import Cascade

            cheap = tiles(self.cheap())
            weak = Head.fit(*cheap, self.config.head, run, "weak")
            self.cascade = Cascade.fit(
                weak,
                self.head,
                (cheap[0], strong[0]),
                (cheap[1], strong[1]),
                self.config.cascade.most_calls,
                derive_seed(run.seed, "gate"),
            )
        return self

    def encoder(self) -> TileEncoder:
        """Return the frozen encoder, and refuse one that the head was not trained on.

        Raises:
            DataError: Its weights or its preprocessing are others.
        """
        from appliedpapers.plugins.virtual_inking.cases import encoder_of, identity_of

        encoder = encoder_of(self.config, self.device)
        if self.head is not None and self.identity:
            own = identity_of(self.config, encoder)
            for key, value in self.identity.items():
                if own.get(key) != value:
                    raise DataError(
                        f"the encoder has another {key.replace('_', ' ')} ({own.get(key)}) than the one "
                        "that the model was trained with.",
                        hint=f"Expected {value}; give that file of weights, or train anew.",
                    )
        return encoder

    def answers(self, split: SlideSplit) -> list[SlideAnswer]:
        """Return what is said of the slides of a part."""
        from appliedpapers.plugins.virtual_inking.answers import answer
        from appliedpapers.plugins.virtual_inking.cases import cases_of

        found = []
        for case in cases_of(split, self.config):
            logits, share = self._case_logits(case)
            found.append(answer(case, logits, self.config.margin, slope=self.slope, encoded=share))
        return found

    def parts(self, split: SlideSplit) -> dict[str, list[SlideAnswer]]:
        """Return the same tiles under other decisions, and both experts of a cascade alone."""
        from appliedpapers.plugins.virtual_inking.answers import answer, decided_otherwise
        from appliedpapers.plugins.virtual_inking.cascade import around
        from appliedpapers.plugins.virtual_inking.cases import cases_of, inputs_of

        own, quiet = self.answers(split), SilentProgress()
        margin = self.config.margin
        found = {
            f"decision {name}": decided_otherwise(
                own, margin.model_copy(update={"decision": name}), self.slope
            )
            for name in _DECISIONS
            if name != margin.decision
        }
        if self.cascade is None:
            return found
        assert self.head is not None
        names = ("encoder alone", "encoder alone, averaged", "colour-texture alone")
        found |= {name: [] for name in names}
        for case in cases_of(split, self.config):
            seen = inputs_of(case, self.config, self.encoder(), progress=quiet)
            strong = self.head.calibration.slope * self.head.logits(seen)
            weak = self.cascade.calibrated(inputs_of(case, self.config, self.cheap(), progress=quiet))
            places = case.found.centres
            beside = around(places, places, strong, self.config.tiles.stride_um)
            averaged = np.where(np.isfinite(beside), (strong + beside) / 2, strong)
            for name, logits, share in zip(names, (strong, averaged, weak), (1.0, 1.0, 0.0), strict=True):
                found[name].append(answer(case, logits, margin, encoded=share))
        return found

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Draw the margins of slides.

        Args:
            table: One row a slide.
            files: Where GeoJSON, tables, pictures and the viewer are written. Finished slides and finished
                features of an interrupted try are kept there until all are done.

        Returns:
            A row for each stretch of each outline: cut, natural, or not assessable.

        Raises:
            UnusableGroups: Slides cannot be opened, are smaller than a tile, or show no tissue.
            RunError: The disk is full.
        """
        from appliedpapers.plugins.virtual_inking.delivery import Delivery, orders_of

        with Delivery(self, files) as delivery:
            orders = orders_of(table)
            if problems := delivery.review(orders):
                raise UnusableGroups(problems, hint="Leave the slide out, or mend it.")
            rows = [row for order in orders for row in delivery.deliver(order)]
            delivery.done()
        return schemas.output_table(rows)

    def review(self, table: pa.Table, *, files: Path) -> Sequence[GroupProblem]:
        """Name the slides that cannot be opened, are smaller than a tile, or show no tissue."""
        from appliedpapers.plugins.virtual_inking.delivery import Delivery, orders_of

        with Delivery(self, files) as delivery:
            return delivery.review(orders_of(table))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield (
            "intended use",
            "research: a proposal for an expert to confirm; no diagnosis, no substitute for ink",
        )
        yield (
            "taught by",
            "simulated cuts: not clinical evidence" if self.synthetic else "the user's annotations",
        )
        yield "comparable with the paper's 73.3 %", "no: its definition of a region is not known"
        for key in ("encoder", "weights_sha256", "dim", "mpp", "pixels"):
            if key in self.identity:
                yield key.replace("_", " "), str(self.identity[key])
        if self.head is not None:
            from appliedpapers.core.weights import parameter_count

            yield "head", self.config.head.head
            yield "parameters of the head", parameter_count(self.head.network)
            yield "temperature", f"{1 / max(self.head.calibration.slope, 1e-9):.3f}"
        if self.cascade is not None:
            yield "share of a slide's tiles that the encoder sees", f"{100 * self.cascade.most_calls:.0f} %"

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write the head, and the cascade's gate and cheap expert; the encoder is named by its checksum."""
        assert self.head is not None
        if self.config.encoder.name.startswith(_FILES):
            raise ConfigError(
                f"the encoder {self.config.encoder.name} is a file that may execute: no bundle names it.",
                hint="Train on an encoder by name, or on timm:NAME with weights.",
            )
        return {
            "head": self.head.write(folder / _HEAD),
            "cascade": None if self.cascade is None else self.cascade.write(folder),
            "identity": self.identity,
            "synthetic": self.synthetic,
        }

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        model = cls(config)
        model.device, model.synthetic = device, bool(state["synthetic"])
        model.identity = dict(state["identity"])
        model.head = Head.read(folder / _HEAD, state["head"], config.head)
        if state["cascade"] is not None:
            from appliedpapers.plugins.virtual_inking.cascade import Cascade

            model.cascade = Cascade.read(folder, state["cascade"], config.head, model.head)
        return model

    def cheap(self) -> TileEncoder:
        """Return the statistics of colour and texture."""
        from appliedpapers.plugins.virtual_inking.cases import encoder_of

        return encoder_of(self.config, self.device, name=COLOUR_TEXTURE)

    def _case_logits(self, case: Case) -> tuple[Floats, float]:
        """Return logits of a slide's tiles, and the share of them that the encoder counts for."""
        from appliedpapers.plugins.virtual_inking.cascade import joined
        from appliedpapers.plugins.virtual_inking.cases import inputs_of

        assert self.head is not None
        quiet = SilentProgress()
        strong = self.head.logits(inputs_of(case, self.config, self.encoder(), progress=quiet))
        if self.cascade is None:
            return strong, 1.0
        cheap = inputs_of(case, self.config, self.cheap(), progress=quiet)
        chosen = self.cascade.chosen(cheap, case.found.depth, reference_rows(case.found, self.config.head))
        seen = self.head.calibration.slope * strong[chosen]
        logits = joined(
            self.cascade.calibrated(cheap), seen, chosen, case.found.centres, self.config.tiles.stride_um
        )
        return logits, float(chosen.mean()) if chosen.size else 0.0

    def _start(self, init: VirtualInker) -> Head | None:
        if init.identity != self.identity:
            raise ConfigError(
                f"the model to start from has another encoder ({init.identity.get('encoder')}).",
                hint="Use the same encoder, tiles and weights, or start afresh.",
            )
        return init.head
