"""Varifocal-Net with everything around it: scale, calibration, dispatch, karyograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.errors import ConfigError, UnusableGroups
from appliedpapers.core.metrics import logloss
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.schema import OutputSchema, TableSchema
from appliedpapers.core.weights import load_network, parameter_count, save_network
from appliedpapers.plugins.varifocal_net import answers
from appliedpapers.plugins.varifocal_net.band_profile import usual_sizes
from appliedpapers.plugins.varifocal_net.blend import SOURCES, Blend
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, Chromosomes
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.preprocess import prepare, reference_area, scales
from appliedpapers.plugins.varifocal_net.readers import chromosomes_of_table
from appliedpapers.plugins.varifocal_net.reading import Reading

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.varifocal_net.learner import Examples
    from appliedpapers.plugins.varifocal_net.looking import Crop, Looker, Told
    from appliedpapers.plugins.varifocal_net.network import Joint, VarifocalNet
    from appliedpapers.plugins.varifocal_net.profile_trees import ProfileTrees
    from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit
    from appliedpapers.plugins.varifocal_net.steps import Variant

WEIGHTS, TREES = "network.safetensors", "profile-trees.txt"

Floats = NDArray[np.float64]
Labels = tuple[NDArray[np.int64], NDArray[np.int64]]

_WORDS = {"g": "g-net", "local": "l-net", "joint": "joint", "profile": "profile-trees"}
_SIZES = (
    *("input_size", "canvas", "width", "units_per_block", "stem_stride", "local_stem_stride"),
    *("localiser_hidden", "head", "head_hidden"),
)


class ChromosomeClassifier(Model):
    """Gives chromosomes types and polarity, and cells a karyotype.

    Attributes:
        network: All four networks; None before it is fitted.
        crop: Where L-Net looks.
        reference: Median area in pixels that cells are scaled to; None where cells are not known.
        blend: How answers become probabilities; None before it is fitted.
        valid_losses: Logloss of the types on validation cells, by the crops that were tried.
        trees: Trees on band profiles, where they answer, too.
        box_offset: Mean distance of the localiser's boxes from the middle, as a share; None without one.
        synthetic: Whether it was fitted on simulated images.
    """

    config: KaryotypeConfig
    reads: ClassVar[tuple[str, ...]] = ("data", "review")

    def __init__(self, config: KaryotypeConfig) -> None:
        super().__init__(config)
        self.network: VarifocalNet | None = None
        self.crop: Crop = "simple" if config.network.crop == "simple" else "varifocal"
        self.reference: float | None = None
        self.blend: Blend | None = None
        self.valid_losses: dict[str, float] = {}
        self.box_offset: float | None = None
        self.trees: ProfileTrees | None = None
        self.synthetic = False
        self.device = "cpu"
        self._others: dict[str, tuple[Looker, Joint]] = {}

    @property
    def input_schema(self) -> TableSchema:
        """One row a chromosome: its cell, its name, its image, and its type where a person has settled it."""
        return answers.INPUT

    @property
    def output_schema(self) -> OutputSchema:
        """One row a chromosome: types, polarity, local box, and the karyotype of its cell."""
        return answers.OUTPUT

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Train the networks in the paper's steps, choose where L-Net looks, and calibrate on ``valid``.

        Args:
            train: Cells to learn from.
            valid: Cells to choose on.
            run: Seed, device, scratch folder, progress and metric sink.
            init: A model to go on from, such as one that a lab's own corrections shall improve. Its scale is
                kept.

        Raises:
            ConfigError: ``init`` has networks of another size.
            RunError: Training diverged.
        """
        from appliedpapers.plugins.varifocal_net.steps import train as train_steps

        learned = cast("ChromosomeSplit", train).chromosomes
        chosen = cast("ChromosomeSplit", valid).chromosomes
        self.synthetic, self.device = cast("ChromosomeSplit", train).synthetic, run.device
        config, start = self.config, None
        if init is not None:
            config, start = self._going_on_from(cast("ChromosomeClassifier", init))
        else:
            self.reference = reference_area(learned)
        examples = self._examples(learned), self._examples(chosen)
        variants = train_steps(config, *examples, run, start)
        if "profile" in self._sources:
            self._fit_trees(learned, chosen, run, cast("ChromosomeClassifier | None", init))
        self._keep_best(variants, chosen)
        return self

    def read(self, chromosomes: Chromosomes) -> Reading:
        """Return what the networks read of chromosomes; cells must be whole, for they tell the scale."""
        if not len(chromosomes):
            return Reading(np.empty((0, len(TYPES))), np.empty(0), np.empty((0, 4)))
        factors = scales(chromosomes, self.config.data.scale, self.reference)
        options = self.config.network
        images, placements = prepare(chromosomes, factors, options.canvas, options.input_size)
        told = self._ask(chromosomes, images, *self._pair())
        boxes = np.array(
            [
                placement.to_image(corners, image.shape[1], image.shape[0])
                for placement, corners, image in zip(
                    placements, told.corners, chromosomes.images, strict=True
                )
            ]
        ).reshape(-1, 4)
        assert self.blend is not None
        return Reading(*self.blend(told), boxes)

    def parts(self, chromosomes: Chromosomes, valid: Chromosomes) -> dict[str, tuple[Floats, Floats]]:
        """Return what parts of the model say alone, each calibrated on ``valid``, by name: types and q-down.

        These are those who answer together, the networks without the trees and, right after it was fitted,
        the variant whose crop was not chosen.
        """
        turned = _both_ways(valid)
        labels = _labels(turned)

        def told_by(pair: tuple[Looker, Joint]) -> tuple[Told, Told]:
            parts = [(part, self._prepared(part), *pair) for part in (chromosomes, turned)]
            return self._ask(*parts[0]), self._ask(*parts[1])

        told, heard = told_by(self._pair())
        names = {_WORDS[source]: source for source in SOURCES["blend"]}
        found = {
            name: Blend.fit(heard, *labels, [source])(told)
            for name, source in names.items()
            if (source,) != self._sources and getattr(told, source) is not None
        }
        if "profile" in self._sources:
            found["networks"] = Blend.fit(heard, *labels, SOURCES["networks"])(told)
        for name, pair in self._others.items():
            told, heard = told_by(pair)
            found[name] = Blend.fit(heard, *labels, self._sources)(told)
        return found

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Read chromosomes, make the types of each cell consistent, and draw its karyogram.

        Args:
            table: One row a chromosome.
            files: Where karyograms, the table of cells and the corrections file are written.

        Raises:
            UnusableGroups: An image of a cell cannot be used, so that its karyotype would be wrong.
        """
        from appliedpapers.plugins.varifocal_net.delivery import Order, deliver

        chromosomes, unusable = chromosomes_of_table(table, self.config.data.background)
        if problems := _problems(table, unusable):
            raise UnusableGroups(problems, hint="Leave the cell out, or mend the image.")
        reading = self.read(chromosomes)
        order = Order(table, chromosomes, unusable, reading, self.config.review, self.synthetic)
        return deliver(order, files)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        options = self.config.network
        yield "intended use", "research; a person decides, and nothing here is a diagnosis"
        yield "types", f"{', '.join(TYPES)} (24)"
        yield "input", f"{options.input_size} px, of a canvas of {options.canvas} px"
        yield "channels", " ".join(map(str, options.width))
        if self.network is not None:
            yield "parameters", parameter_count(self.network)
        if self.reference is not None:
            yield "median area that cells are scaled to", f"{self.reference:.0f} px"
        yield "crop", self.crop
        for crop, loss in self.valid_losses.items():
            yield f"logloss on validation cells, {crop} crop", f"{loss:.4f}"
        if self.box_offset is not None:
            yield "mean distance of boxes from the middle", f"{self.box_offset:.3f} of half the side"
        if self.blend is not None:
            yield "who answers", ", ".join(_WORDS[source] for source in self.blend.sources)
            yield "temperatures of types, each and together", _listed(self.blend.types)
            yield "temperatures of polarity", _listed(self.blend.polarity)
        if self.trees is not None:
            yield from ((f"profile-trees: {name}", value) for name, value in self.trees.describe())

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write the networks as safetensors, and trees in LightGBM's own text format."""
        assert self.network is not None
        assert self.blend is not None
        save_network(self.network, folder / WEIGHTS)
        if self.trees is not None:
            self.trees.write(folder / TREES)
        trees = self.trees and {"usual": self.trees.usual.tolist(), "facts": self.trees.facts}
        return {
            "classes": list(TYPES),
            "trees": trees,
            "crop": self.crop,
            "reference": self.reference,
            "blend": self.blend.to_json(),
            "valid_losses": self.valid_losses,
            "box_offset": self.box_offset,
            "synthetic": self.synthetic,
        }

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        from appliedpapers.plugins.varifocal_net.steps import new_network, stand_still

        model = cls(config)
        model.device, model.crop, model.synthetic = device, state["crop"], state["synthetic"]
        model.reference, model.box_offset = state["reference"], state["box_offset"]
        model.blend = Blend.from_json(state["blend"])
        model.valid_losses = dict(state["valid_losses"])
        if state["trees"]:
            from appliedpapers.plugins.varifocal_net.profile_trees import ProfileTrees

            model.trees = ProfileTrees.read(folder / TREES, state["trees"]["usual"], state["trees"]["facts"])
        model.network = load_network(new_network(config.network, seed=0), folder / WEIGHTS, device)
        stand_still(model.network)
        return model

    def _going_on_from(self, init: ChromosomeClassifier) -> tuple[KaryotypeConfig, VarifocalNet | None]:
        """Take over the scale of another model, and return options with its crop, and its networks."""
        mine, theirs = self.config.network, init.config.network
        for name in _SIZES:
            if getattr(mine, name) != getattr(theirs, name):
                raise ConfigError(
                    f"option 'network.{name}' is {getattr(mine, name)}, but the model to start from has "
                    f"{getattr(theirs, name)}.",
                    hint=f"Give --set network.{name}={getattr(theirs, name)}, or start afresh.",
                )
        self.reference = init.reference
        return self.config.replace(network={"crop": init.crop}), init.network

    def _keep_best(self, variants: Sequence[Variant], valid: Chromosomes) -> None:
        """Calibrate each variant on validation cells, and keep the one that is best there."""
        turned = _both_ways(valid)
        images, labels, found = self._prepared(turned), _labels(turned), []
        for variant in variants:
            told = self._ask(turned, images, variant.looker, variant.joint)
            blend = Blend.fit(told, *labels, self._sources)
            self.valid_losses[variant.crop] = logloss(labels[0], blend(told)[0])
            found.append((self.valid_losses[variant.crop], variant, blend))
            if variant.crop == "varifocal":
                self.box_offset = variant.box_offset
        _, best, self.blend = min(found, key=lambda one: one[0])
        self.network, self.crop = best.network(), best.crop
        self._others = {
            f"{variant.crop} crop": (variant.looker, variant.joint)
            for variant in variants
            if variant is not best
        }

    def _prepared(self, chromosomes: Chromosomes) -> NDArray[np.uint8]:
        options = self.config.network
        factors = scales(chromosomes, self.config.data.scale, self.reference)
        return prepare(chromosomes, factors, options.canvas, options.input_size)[0]

    def _fit_trees(
        self, train: Chromosomes, valid: Chromosomes, run: FitContext, init: ChromosomeClassifier | None
    ) -> None:
        """Fit trees on band profiles, or keep those of ``init`` where they are better on ``valid``."""
        from appliedpapers.plugins.varifocal_net.profile_trees import Profiles, ProfileTrees, type_loss

        usual = usual_sizes(train)
        learned, chosen = Profiles.of(train, usual), Profiles.of(valid, usual)
        self.trees = ProfileTrees.fit(learned, chosen, usual, run)
        before = None if init is None else init.trees
        if before is not None:
            kept = Profiles.of(valid, before.usual)
            losses = [
                type_loss(trees.chances(profiles.features), profiles.labels)
                for trees, profiles in ((before, kept), (self.trees, chosen))
            ]
            self.trees = before if losses[0] <= losses[1] else self.trees

    def _examples(self, chromosomes: Chromosomes) -> Examples:
        import torch

        from appliedpapers.plugins.varifocal_net.learner import Examples

        return Examples(
            torch.from_numpy(self._prepared(chromosomes)),
            torch.from_numpy(chromosomes.labels.astype(np.int64)),
            torch.from_numpy(chromosomes.polarity.astype(np.int64)),
        )

    def _pair(self) -> tuple[Looker, Joint]:
        from appliedpapers.plugins.varifocal_net.looking import Looker

        network = self.network
        assert network is not None
        looker = Looker(self.config.network, self.crop, network.g, network.l, network.localiser)
        return looker, network.joint

    def _ask(self, chromosomes: Chromosomes, images: NDArray[np.uint8], looker: Looker, joint: Joint) -> Told:
        import torch

        from appliedpapers.plugins.varifocal_net.looking import Logits, ask

        cells = list(chromosomes.rows_by_case().values())
        alone = np.flatnonzero([case is None for case in chromosomes.cases])
        groups = [*cells, alone] if len(alone) else cells
        told = ask(looker, joint, images, self.config.network.views, self.device, groups)
        if self.trees is None:
            return told
        said = self.trees.logarithms(chromosomes)
        return replace(told, profile=Logits(*(torch.from_numpy(one) for one in said)))

    @property
    def _sources(self) -> tuple[str, ...]:
        return SOURCES[self.config.network.answer]


def _problems(table: pa.Table, unusable: Mapping[int, str]) -> list[GroupProblem]:
    """Return the cells that have an image that cannot be used, with the first such image of each."""
    cases = table.column("case").to_pylist() if "case" in table.column_names else [None] * table.num_rows
    found: dict[str, list[int]] = {}
    for row in unusable:
        if (case := cases[row]) is not None:
            found.setdefault(case, []).append(row)
    return [
        GroupProblem((case,), _rule(case, [unusable[row] for row in rows]), rows[0] + 1, "image")
        for case, rows in found.items()
    ]


def _both_ways(chromosomes: Chromosomes) -> Chromosomes:
    """Return chromosomes with every other one upside down."""
    odd = np.arange(len(chromosomes)) % 2 == 1
    images = [image[::-1] if turn else image for image, turn in zip(chromosomes.images, odd, strict=True)]
    turned = odd & (chromosomes.polarity != UNKNOWN)
    polarity = np.where(turned, 1 - chromosomes.polarity, chromosomes.polarity).astype(np.int8)
    return replace(chromosomes, images=images, polarity=polarity)


def _labels(chromosomes: Chromosomes) -> Labels:
    return chromosomes.labels.astype(np.int64), chromosomes.polarity.astype(np.int64)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.3f}" for number in numbers)


def _rule(case: str, problems: Sequence[str]) -> str:
    more = f" (and {len(problems) - 1} more images of this cell)" if len(problems) > 1 else ""
    return f"cell '{case}': {problems[0].removesuffix('.')}{more}"
