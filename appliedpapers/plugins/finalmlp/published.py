"""Figures that others printed, with where and under which protocol."""

from __future__ import annotations

from appliedpapers.core.evaluation import PublishedFigure

_BENCHMARK = "public leaderboard of open CTR benchmarks, single runs on the official split"
_PAPER = "arXiv 2304.00902, comparison on four sets"
_OTHERS = "papers of the methods, as compared on the official split"

# dataset, protocol -> model -> AUC, logloss
_LEADERBOARD: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("frappe", "frappe-x1"): {
        "FinalMLP": (0.986072, 0.148415),
        "DCNv2": (0.9845, 0.1491),
        "DeepFM": (0.9842, 0.1482),
        "FM": (0.9671, 0.2065),
        "LR": (0.9356, 0.3076),
        "FinalNet": (0.9857, 0.1311),
    },
    ("movielens", "movielenslatest-x1"): {
        "FinalMLP": (0.971968, 0.196645),
        "DCNv2": (0.9691, 0.2147),
        "DeepFM": (0.9685, 0.2130),
        "FM": (0.9434, 0.2729),
        "LR": (0.9342, 0.3201),
        "FinalNet": (0.9725, 0.1941),
    },
    ("criteo", "criteo-x1"): {
        "FinalMLP": (0.814902, 0.437025),
        "DCNv2": (0.8142, 0.4378),
        "DeepFM": (0.8137, 0.4381),
        "FM": (0.8022, 0.4491),
        "LR": (0.7886, 0.4609),
        "FinalNet": (0.8154, 0.4365),
    },
    ("avazu", "avazu-x1"): {
        "FinalMLP": (0.766566, 0.365803),
        "DCNv2": (0.7656, 0.3664),
        "DeepFM": (0.7648, 0.3667),
        "FM": (0.7613, 0.3677),
        "LR": (0.7516, 0.3735),
        "FinalNet": (0.7672, 0.3653),
    },
    ("criteo", "criteo-x4"): {"FinalMLP": (0.814584, 0.437353)},
    ("avazu", "avazu-x4"): {"FinalMLP": (0.793537, 0.371862)},
}
_COMPARED = {"xDeepFM": (0.9845, 0.1466), "DESTINE": (0.9856, 0.1434)}

# AUC in per cent on Criteo, Avazu, MovieLens and Frappe, as the paper prints it
_TABLE = {
    "DCN": (81.39, 76.47, 96.87, 98.39),
    "DCNv2": (81.42, 76.54, 96.91, 98.45),
    "EDCN": (81.47, 76.52, 96.71, 98.50),
    "DualMLP": (81.42, 76.57, 96.98, 98.47),
    "FinalMLP": (81.49, 76.66, 97.20, 98.61),
}
_TABLE_SETS = (
    ("criteo", "criteo-x1"),
    ("avazu", "avazu-x1"),
    ("movielens", "movielenslatest-x1"),
    ("frappe", "frappe-x1"),
)


def _figures() -> list[PublishedFigure]:
    found = []

    def add(model: str, metric: str, value: float, about: tuple[str, str], source: str) -> None:
        # nobody has repeated them here on the published split
        found.append(PublishedFigure(model, metric, value, *about, {}, source, verified=False))

    for about, rows in _LEADERBOARD.items():
        for model, (area, loss) in rows.items():
            add(model, "auc", area, about, _BENCHMARK)
            add(model, "logloss", loss, about, _BENCHMARK)
    for model, (area, loss) in _COMPARED.items():
        add(model, "auc", area, ("frappe", "frappe-x1"), _OTHERS)
        add(model, "logloss", loss, ("frappe", "frappe-x1"), _OTHERS)
    for model, areas in _TABLE.items():
        for about, percent in zip(_TABLE_SETS, areas, strict=True):
            add(f"{model} (paper)", "auc", round(percent / 100, 4), about, _PAPER)
    return found


PUBLISHED_FIGURES = _figures()
