"""What was printed about photos of soil, and why it does not stand beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from appliedpapers.core.evaluation import PublishedFigure

_LEAKY = "4 classes, all 341 test files are in train, too"
_CODE = "public code of AgroSense (arXiv 2509.01344)"
_RANDOM = "random split, generated images of the originals in train"
_CYAUG = "doi 10.1016/j.engappai.2025.111425"


def published_figures(dataset: str) -> Sequence[PublishedFigure]:
    """Return the printed figures of a dataset; none is of a protocol that keeps copies together."""
    if dataset != "soil7":
        return ()
    printed = (
        ("AgroSense CNN", 0.8882, _LEAKY, _CODE),
        ("AgroSense ResNet-18", 1.0, _LEAKY, _CODE),
        ("AgroSense EfficientNet-B0", 1.0, _LEAKY, _CODE),
        ("AgroSense ViT-B/16", 0.9824, _LEAKY, _CODE),
        ("CyAUG, originals", 0.893, _RANDOM, _CYAUG),
    )
    return tuple(
        PublishedFigure(model, "accuracy", value, dataset, protocol, {}, source, verified=False)
        for model, value, protocol, source in printed
    )
