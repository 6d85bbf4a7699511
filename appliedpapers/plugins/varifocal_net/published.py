"""Figures that the paper printed. Its data are private: none of them is of a protocol that we can run."""

from __future__ import annotations

from appliedpapers.core.evaluation import PublishedFigure

_PAPER = "arXiv 1810.05943, tables of section IV: 1,909 private cases, five folds by case"
_PROTOCOL = "five-fold-private"

# types, polarity, and types per case by argmax and after dispatch
_FIGURES: dict[str, tuple[float, float, float, float]] = {
    "Varifocal-Net": (0.989, 0.992, 0.989, 0.992),
    "L-Net": (0.984, 0.992, 0.984, 0.989),
    "G-Net": (0.978, 0.990, 0.978, 0.982),
    "Varifocal-Net, simple crop": (0.965, 0.983, 0.965, 0.966),
    "DenseNet-STN": (0.973, 0.990, 0.973, 0.979),
    "ResNet-101": (0.969, 0.989, 0.969, 0.975),
}
_METRICS = ("type_accuracy", "polarity_accuracy", "case_accuracy_argmax", "case_accuracy_dispatch")


def published_figures(dataset: str) -> list[PublishedFigure]:
    """Return the paper's figures, of another protocol than any that can be run on ``dataset``."""
    return [
        PublishedFigure(
            model=model,
            metric=metric,
            value=value,
            dataset=dataset,
            protocol=_PROTOCOL,
            setting={},
            source=_PAPER,
            verified=False,
        )
        for model, values in _FIGURES.items()
        for metric, value in zip(_METRICS, values, strict=True)
    ]
