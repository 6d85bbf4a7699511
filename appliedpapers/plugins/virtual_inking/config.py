"""The options of virtual inking and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

Decision = Literal["otsu", "fixed", "viterbi"]


class SlideConfig(Section):
    """How slides are opened."""

    mpp: float | None = Field(
        None,
        gt=0.01,
        lt=100,
        description="micrometres per pixel of images that do not state it; null wants it stated",
        json_schema_extra={"flag": "--mpp"},
    )
    trust_appmag: bool = Field(
        False,
        description="derive a missing resolution from the objective's power: 10 / power um per pixel",
        json_schema_extra={"flag": "--trust-appmag"},
    )
    subtract_bounds: bool = Field(
        False,
        description="shift coordinates in GeoJSON by openslide.bounds-x and -y, as some viewers count",
        json_schema_extra={"flag": "--subtract-bounds"},
    )
    workers: int = Field(0, ge=0, le=64, description="processes that read tiles, each reopens the slide")


class MaskConfig(Section):
    """Where tissue is looked for."""

    mpp: float = Field(8.0, gt=0, le=64, description="micrometres per pixel of the thumbnail")
    median: int = Field(7, ge=1, le=31, description="side of the median filter in pixels; odd")
    closing: int = Field(7, ge=1, le=63, description="diameter of the ellipse that closes gaps, in pixels")
    fill_mm2: float = Field(0.05, ge=0, description="holes below this are filled")
    part_mm2: float = Field(0.2, ge=0, description="parts below this are dropped")
    pen: bool = Field(True, description="leave pen and ink out")
    pen_closing: int = Field(15, ge=1, le=63, description="side of the square that closes pen strokes")
    pen_pixels: int = Field(500, ge=1, description="smallest pen stroke, in pixels of the thumbnail")

    @field_validator("median")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the side of a median filter is odd")
        return value


class TileConfig(Section):
    """Tiles, in micrometres whatever the slide's magnification."""

    pixels: int = Field(224, ge=16, le=2048, description="side in pixels as the encoder sees it")
    mpp: float = Field(0.5, gt=0, le=16, description="micrometres per pixel of those")
    stride: int = Field(112, ge=8, le=2048, description="pixels from tile to tile")
    least_tissue: float = Field(0.3, ge=0, le=1, description="tiles with less tissue are dropped")
    roi: Literal["rim", "all"] = Field("rim", description="score the rim or the whole tissue")
    rim_um: float = Field(600.0, gt=0, description="the rim reaches this far from an outer contour")
    normalise: bool = Field(True, description="bring the colours of each slide to common ones")
    core_um: float = Field(300.0, ge=0, description="tissue deeper than this tells a slide's colours")

    @property
    def side_um(self) -> float:
        """Side of a tile in micrometres."""
        return self.pixels * self.mpp

    @property
    def stride_um(self) -> float:
        """Micrometres from tile to tile."""
        return self.stride * self.mpp


class EncoderConfig(Section):
    """The frozen network that turns a tile into features."""

    name: str = Field(
        "efficientnet-lite0",
        min_length=1,
        description="efficientnet-lite0, colour-texture, a pathology model such as uni, or timm:NAME, "
        "torchscript:FILE, onnx:FILE",
        json_schema_extra={"flag": "--encoder"},
    )
    weights: str | None = Field(
        None,
        description="file with the weights of a pathology model; null looks in the registry and the cache",
        json_schema_extra={"flag": "--weights"},
    )
    allow_download: bool = Field(
        False,
        description="fetch weights that are not on this machine",
        json_schema_extra={"flag": "--allow-download"},
    )
    batch_size: int = Field(32, ge=1, le=4096, description="tiles at once")
    half: bool = Field(False, description="16 bits; on a GPU only")
    cache: str | None = Field(
        None,
        description="folder in which features are kept (h5), by encoder, weights, preprocessing and mpp; "
        "null keeps none",
        json_schema_extra={"flag": "--feature-cache"},
    )


class LabelConfig(Section):
    """What tiles are taught, from annotations."""

    positive_um: float = Field(250.0, gt=0, description="a centre so near to a cut line is positive")
    ignore_um: float = Field(
        400.0, gt=0, description="a centre up to so far from it is neither positive nor negative"
    )
    share: float = Field(
        0.25, ge=0, lt=1, description="share of its tissue in a cut polygon that is positive"
    )
    cut: tuple[str, ...] = Field(
        ("cut", "cautery", "margin", "cut surface", "surgical margin", "inked"),
        description="names of annotations that mean the cut surface, in lower case",
    )
    lesion: tuple[str, ...] = Field(
        ("lesion", "tumor", "tumour", "carcinoma", "scc"), description="names that mean a lesion"
    )
    ignore: tuple[str, ...] = Field(
        ("ignore", "ignore*", "exclude", "artefact", "artifact", "pen"),
        description="names of regions that are left out",
    )


class HeadConfig(Section):
    """The classifier of features."""

    head: HeadSpec = Field(
        "mlp",
        description="what turns a tile's features into its class; mlp is the paper's; any other shared "
        "module, "
        "such as kan(grid=5), takes its place",
    )
    reference: Literal["interior", "none"] = Field(
        "interior", description="see tiles as differences to the slide's interior, or as they are (the paper)"
    )
    interior_um: float = Field(200.0, ge=0, description="tissue deeper than this is the interior")
    colour: bool = Field(True, description="see colour and texture beside the encoder's features")
    hidden: int = Field(256, ge=1, le=8192, description="width of the two layers")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of hidden units dropped while training")
    loss: Literal["bce", "focal"] = Field("bce", description="cross-entropy, or focal loss (gamma 2)")
    training: TrainingConfig = TrainingConfig(
        epochs=40, batch_size=128, lr=1e-3, weight_decay=1e-2, patience=8
    )


class CascadeConfig(Section):
    """Two experts: colour and texture see all tiles, the encoder a part of them."""

    mode: Literal["off", "mowst"] = Field(
        "off", description="mowst asks the encoder for tiles near the outline and uncertain ones only"
    )
    most_calls: float = Field(0.5, gt=0, le=1, description="share of tiles that the encoder may see")


class MarginConfig(Section):
    """From tiles to a continuous line."""

    step_um: float = Field(50.0, gt=0, description="distance of samples on the contour")
    reach_um: float = Field(150.0, gt=0, description="sigma of the weights of tiles about a sample")
    smooth_um: float = Field(150.0, ge=0, description="sigma of the smoothing along the contour")
    outline_um: float = Field(
        16.0, ge=0, description="sigma with which the outline of the mask is smoothed before it is followed"
    )
    decision: Decision = Field("otsu", description="threshold of each slide, a fixed one, or exact Potts")
    least_range: float = Field(
        1.0, ge=0, description="otsu: a profile that spans fewer logits falls back to the fixed threshold"
    )
    band_below: float = Field(
        1.0, ge=0, description="otsu: how far, in logits, a slide's threshold may be below the fixed one"
    )
    band_above: float = Field(1.5, ge=0, description="otsu: how far it may be above the fixed one")
    switch_cost: float = Field(1.5, ge=0, description="viterbi: cost of a change from sample to sample")
    gap_um: float = Field(250.0, ge=0, description="gaps up to this are bridged, before")
    shortest_um: float = Field(300.0, ge=0, description="stretches below this are dropped")
    arc_um: float = Field(1000.0, gt=0, description="length of a region of the contour that is judged")


class OutputConfig(Section):
    """What is delivered for a slide beside GeoJSON, CSV and provenance."""

    overlay: bool = Field(True, description="PNG of the slide with its margin")
    overlay_px: int = Field(1600, ge=64, le=20_000, description="longer side of that PNG")
    viewer: bool = Field(True, description="HTML page with zoomable tiles; works without a server")
    viewer_mpp: float = Field(1.0, gt=0, description="finest resolution in the viewer")
    features: bool = Field(False, description="features of all tiles in the h5 layout of TRIDENT")


class SimulatorConfig(Section):
    """Size and difficulty of the embedded dataset."""

    size: int = Field(896, ge=320, le=4096, description="side of a slide in pixels of 1 um")
    blocks: tuple[int, int, int] = Field((8, 2, 2), description="blocks in train, valid and test")
    slides: int = Field(2, ge=1, le=20, description="serial sections of a block")
    confounders: bool = Field(True, description="drying, folds, crush, epithelium, bubbles, pen, JPEG")
    natural_share: float = Field(
        0.25, ge=0, le=1, description="share of a part's blocks without any cut, rounded down"
    )

    @field_validator("blocks")
    @classmethod
    def _each_part(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1:
            raise ValueError("train, valid and test need a block each")
        return value


class BenchmarkConfig(Section):
    """The leave-source-out benchmark ``svs-samples``: simulated cuts on real tissue."""

    slides: int = Field(8, ge=1, le=100, description="slides a source")
    size: int = Field(896, ge=320, le=2048, description="side of a slide in pixels")
    confounders: bool = Field(False, description="also drying, folds, crush, epithelium, bubbles, pen, JPEG")
    outline: Literal["known", "detected"] = Field("known", description="take the true outline, or find it")


class SplitConfig(Section):
    """How the user's slides are dealt to train, valid and test, by whole blocks or patients."""

    valid_share: float = Field(0.15, gt=0, lt=1, description="share of your own blocks to choose on")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of your own blocks to judge on")


_PROTOCOL: dict[str, Any] = {
    "tiles": {"pixels": 112, "mpp": 1.0, "stride": 80},
    "margin": {"step_um": 20.0, "reach_um": 70.0, "smooth_um": 50.0, "arc_um": 160.0},
}
_TINY: dict[str, Any] = {
    "simulator": {"size": 384, "blocks": [2, 1, 1], "slides": 1},
    "mask": {"part_mm2": 0.02},
    "encoder": {"name": "colour-texture"},
    "head": {"hidden": 16, "training": {"epochs": 3}},
    "output": {"overlay_px": 256, "viewer_mpp": 2.0, "features": True},
}


class InkingConfig(TaskConfig):
    """Everything about a run of virtual inking."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {**_PROTOCOL, "simulator": {"blocks": [3, 1, 1], "slides": 2}, "output": {"viewer": False}},
        "default": _PROTOCOL,
        "published": {"head": {"reference": "none", "colour": False}},
        "cascade": {**_PROTOCOL, "cascade": {"mode": "mowst"}},
        "check": {**_PROTOCOL, **_TINY},
    }
    dataset_presets: ClassVar[Mapping[str, str]] = {"svs-samples": "default"}

    slide: SlideConfig = SlideConfig()
    mask: MaskConfig = MaskConfig()
    tiles: TileConfig = TileConfig()
    encoder: EncoderConfig = EncoderConfig()
    labels: LabelConfig = LabelConfig()
    head: HeadConfig = HeadConfig()
    cascade: CascadeConfig = CascadeConfig()
    margin: MarginConfig = MarginConfig()
    output: OutputConfig = OutputConfig()
    split: SplitConfig = SplitConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
