"""The sharpener: a method with its settings, and R-PNN's first weights where it needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.errors import UnusableGroups
from appliedpapers.core.fingerprint import arrays_sha256
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.progress import Progress
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.pansharpening.config import CLASSICAL, PansharpeningConfig
from appliedpapers.plugins.pansharpening.delivery import clear_scratch, deliver, orders_of, review_rows
from appliedpapers.plugins.pansharpening.products import Product, Task, sharpen

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.pansharpening.scene import Scene
    from appliedpapers.plugins.pansharpening.splits import SceneSplit

_WEIGHTS = "first-weights.safetensors"


class Pansharpener(Model):
    """Sharpens scenes; a network adapts to each of them within ``predict``."""

    config: PansharpeningConfig
    cost: ClassVar[Literal["instant", "job"]] = "job"
    needs_files: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("data",)

    def __init__(self, config: PansharpeningConfig) -> None:
        super().__init__(config)
        self.weights: dict[str, NDArray[np.float32]] | None = None
        self.provenance: dict[str, str] = {}
        self.device = "cpu"

    @property
    def input_schema(self) -> TableSchema:
        """A manifest of pairs: ``scene_id, hs_path, pan_path``, optionally ``output_path``."""
        return TableSchema(
            (
                Column("scene_id", "string", "name of the scene", example="orchard-7"),
                Column(
                    "hs_path",
                    "string",
                    "hyperspectral raster: GeoTIFF, ENVI, or a product of PRISMA, EnMAP or Hyperion",
                    file="raster",
                ),
                Column("pan_path", "string", "panchromatic raster of the same ground", file="raster"),
                Column(
                    "output_path",
                    "string",
                    "name of the GeoTIFF below the output folder; empty takes the scene's name",
                    nullable=True,
                    required=False,
                ),
            )
        )

    @property
    def output_schema(self) -> OutputSchema:
        """One row a scene: where the GeoTIFF and its quality report are, and what they say."""

        def score(name: str, text: str) -> Column:
            return Column(name, "float64", text, nullable=True)

        return OutputSchema(
            (
                Column("scene_id", "string", "name of the scene"),
                Column("product_path", "string", "GeoTIFF on the panchromatic grid", file="raster"),
                Column("product_sha256", "string", "checksum of the GeoTIFF"),
                Column("quality_path", "string", "quality report (JSON)", nullable=True, file="document"),
                Column("report_path", "string", "quality report (HTML)", nullable=True, file="document"),
                Column("method", "string", "what sharpened the scene"),
                Column("ratio", "int64", "fine pixels per coarse pixel"),
                Column("bands", "int64", "bands of the product"),
                Column("dead_bands", "int64", "bands without signal, which pass through"),
                Column("flagged_bands", "int64", "bands that missed their spectral target"),
                score("ergas", "beside the scene's own cube, one step coarser (Wald)"),
                score("ergas_exp", "the same of the interpolated cube"),
                score("d_lambda", "spectral distortion at full resolution"),
                score("d_sr", "spatial distortion at full resolution"),
                score("qnr", "quality without reference"),
                score("shift_pixels", "misregistration of the pair in panchromatic pixels"),
            ),
            rows="per_row",
            keys=("scene_id",),
        )

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Take R-PNN's first weights, or train them where the configuration asks for it.

        Nothing else is learned before a scene is seen.

        Raises:
            DataError: Weights are to be trained and there is no scene to learn from.
        """
        self.device = run.device
        if self.config.method != "r-pnn":
            return self
        if init is not None:
            other = cast("Pansharpener", init)
            self.weights, self.provenance = other.weights, other.provenance
        if self.config.initial.enabled:
            from appliedpapers.plugins.pansharpening.first_weights import train_first_weights

            trained = train_first_weights(
                cast("SceneSplit", train), cast("SceneSplit", valid), self.config, run
            )
            self.weights, self.provenance = trained
        elif self.weights is None and self.config.adaptation.r.weights == "shipped":
            from appliedpapers.plugins.pansharpening.first_weights import shipped_weights

            self.weights, self.provenance = shipped_weights()
        return self

    def sharpen(
        self, scene: Scene, *, scratch: Path | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the sharpened cube in physical units, shape ``(B, R h, R w)``.

        Args:
            scene: The pair.
            scratch: Folder of finished bands, from which an interrupted try goes on.
            progress: Where progress is shown.

        Raises:
            DataError: The scene is too small for a network or states no wavelengths.
            RunError: The adaptation diverged.
        """
        return self.product(scene, scratch=scratch, progress=progress).whole()

    def product(
        self, scene: Scene, *, scratch: Path | None = None, progress: Progress | None = None
    ) -> Product:
        """Return the product window by window, with reports on its bands; see :meth:`sharpen`."""
        return sharpen(
            Task(scene, self.config, self.weights, self.device, scratch, progress or self.progress)
        )

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Sharpen each scene of a validated manifest into a GeoTIFF with a quality report.

        Args:
            table: ``scene_id``, ``hs_path``, ``pan_path`` and optionally ``output_path``.
            files: Where products go. Finished scenes and finished bands of an interrupted try are kept there
                until all are done.

        Returns:
            One row a scene.

        Raises:
            UnusableGroups: Rasters of a pair cannot be read, do not nest, or are too small for a network.
            RunError: The disk is full, or an adaptation diverged.
        """
        import pyarrow as pa

        assert files is not None
        if problems := self.review(table, files=files):
            raise UnusableGroups(problems, hint="Leave the pair out, or mend it.")
        rows = [deliver(order, self, files) for order in orders_of(table)]
        clear_scratch(files)
        schema = self.output_schema.arrow_schema()
        return pa.table(
            {field.name: [row.get(field.name) for row in rows] for field in schema}, schema=schema
        )

    def review(self, table: pa.Table, *, files: Path) -> Sequence[GroupProblem]:
        """Name the pairs that cannot be opened, do not nest, or are too small; headers alone are read."""
        return review_rows(table, self.config, files)

    def weights_digest(self) -> str:
        """Return the sha256 of the first weights; empty where there are none."""
        return "" if self.weights is None else arrays_sha256(self.weights)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "method", self.config.method
        yield "sensor", self.config.sensor.name
        if self.config.method not in CLASSICAL:
            yield "adds to", self.config.network_base
            yield "parameters", "43,473" if self.config.method == "r-pnn" else "80,849"
        if self.config.back_projections:
            yield "steps of back-projection", str(self.config.back_projections)
        yield from ((f"first weights: {name}", value) for name, value in self.provenance.items())

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write R-PNN's first weights, where there are any."""
        if self.weights is not None:
            from safetensors.numpy import save_file

            save_file(self.weights, folder / _WEIGHTS, metadata=self.provenance)
        return {"weights": self.weights is not None, "provenance": self.provenance}

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        model = cls(config)
        model.device = device
        model.provenance = dict(state["provenance"])
        if state["weights"]:
            from safetensors.numpy import load_file

            model.weights = load_file(folder / _WEIGHTS)
        return model
