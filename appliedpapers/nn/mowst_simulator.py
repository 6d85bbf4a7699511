"""The simulator ``twoexperts``: rows and graphs on which the right routing is known. Synthetic, seeded.

*Rows:* half of them can be told by the weak expert's own features, all of them by the strong one's.
*Graph:* of half of the nodes the features tell the class, of the others the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from appliedpapers.nn.graph.container import Graph, clean_edges
from appliedpapers.nn.graph.sparse import SparseMatrix
from appliedpapers.nn.module import check_choice

GRAPH_VARIANTS = ("complementary", "weak_useless", "strong_useless")
_TEACHER_WIDTH = 8


@dataclass(frozen=True)
class TwoExpertRows:
    """Rows for a cascade.

    Attributes:
        own: ``(rows, 8)`` float32, what the weak expert sees.
        both: ``(rows, 40)`` float32, what the strong expert sees: ``own`` and 32 more.
        y: ``(rows,)`` int64.
        hard: ``(rows,)`` bool; ``own`` is noise here, so that these rows should be routed.
        bayes: Accuracy of the best possible classifier of ``both`` on these rows, in expectation over y.
        split: ``(rows,)`` int64: 0 train (60 %), 1 valid, 2 test (20 % each).
    """

    own: Tensor
    both: Tensor
    y: Tensor
    hard: Tensor
    bayes: float
    split: Tensor

    @property
    def best_share(self) -> float:
        """Share of rows that the best routing rule sends to the strong expert."""
        return float(self.hard.double().mean())

    def part(self, name: str) -> tuple[dict[str, Tensor], Tensor]:
        """Return inputs and labels of ``train``, ``valid`` or ``test``."""
        check_choice("TwoExpertRows", "part", name, ("train", "valid", "test"))
        chosen = self.split == ("train", "valid", "test").index(name)
        return {"weak": self.own[chosen], "strong": self.both[chosen]}, self.y[chosen]


@dataclass(frozen=True)
class TwoExpertGraph:
    """A graph for two experts.

    Attributes:
        graph: The graph as the strong expert reads it; its features are ``own`` and a column for each node,
            as is usual where a graph network must be able to learn from the edges alone.
        own: ``(nodes, features)`` float32, what the weak expert reads.
        by_features: ``(nodes,)`` bool; the nodes whose features tell the class.
    """

    graph: Graph
    own: Tensor
    by_features: Tensor

    def part(self, name: str) -> tuple[dict[str, Any], Tensor]:
        """Return inputs and labels of ``train``, ``valid`` or ``test``."""
        check_choice("TwoExpertGraph", "part", name, ("train", "valid", "test"))
        rows: Tensor = getattr(self.graph.split(0), name)
        return {"weak": self.own[rows], "strong": self.graph.at(rows)}, self.graph.labels[rows]


def simulate_rows(
    rows: int = 5000, *, classes: int = 4, hard: float = 0.5, noise: float = 0.1, seed: int = 0
) -> TwoExpertRows:
    """Simulate rows in two regimes.

    Class and regime are drawn first. The own features are Gaussian around the class's corner of a simplex of
    radius 3 in the easy regime and around 0 in the hard one. The other features are Gaussian, drawn so that a
    random two-layer teacher gives the class, or with probability ``noise`` another one.

    Args:
        rows: 500 to 1,000,000.
        classes: 2 to 9, as many corners as a simplex in 8 dimensions has.
        hard: Share of rows whose own features are noise.
        noise: 0 to 0.4.
        seed: Of everything random.

    Raises:
        ValueError: An option is out of range.
    """
    _within(rows=(rows, 500, 1_000_000), classes=(classes, 2, 9), hard=(hard, 0, 1), noise=(noise, 0, 0.4))
    random = np.random.default_rng(seed)
    other = random.normal(size=(rows, 32))
    taught = _teacher(other, classes, random)
    wrong = (taught + random.integers(1, classes, rows)) % classes
    y = np.where(random.random(rows) < noise, wrong, taught)
    in_hard = random.random(rows) < hard
    corners = _simplex(classes, 8, 3.0)
    own = random.normal(size=(rows, 8)) + np.where(in_hard[:, None], 0, corners[y])
    # p(y | own, other) ~ p(own | y) p(y | other)
    log_easy = -0.5 * ((own[:, None] - corners) ** 2).sum(-1)
    log_hard = -0.5 * (own**2).sum(-1, keepdims=True)
    evidence = (1 - hard) * np.exp(log_easy - log_hard) + hard
    posterior = evidence * np.where(np.arange(classes) == taught[:, None], 1 - noise, noise / (classes - 1))
    posterior /= posterior.sum(1, keepdims=True)
    split = np.searchsorted([0.6, 0.8], random.permutation(rows) / rows, side="right")
    first = torch.from_numpy(own.astype(np.float32))
    second = torch.from_numpy(other.astype(np.float32))
    return TwoExpertRows(
        own=first,
        both=torch.cat([first, second], dim=1),
        y=torch.from_numpy(y.astype(np.int64)),
        hard=torch.from_numpy(in_hard),
        bayes=float(posterior.max(1).mean()),
        split=torch.from_numpy(split.astype(np.int64)),
    )


def simulate_graph(
    nodes: int = 3000,
    *,
    variant: str = "complementary",
    classes: int = 4,
    degree: float = 12.0,
    share: float = 0.5,
    seed: int = 0,
) -> TwoExpertGraph:
    """Simulate a contextual stochastic block model with two kinds of nodes.

    Of the first kind (``1 - share``), 90 % of the edges lead to the node's own class and its features tell
    little (class means .3 apart); of the second kind 10 % do and its features tell much (1.5 apart).

    Args:
        nodes: Number of nodes.
        variant: ``complementary``; ``weak_useless``: the features tell nothing; ``strong_useless``: every
            node's edges lead to each class alike.
        classes: Number of classes.
        degree: Mean degree, 2 to 50.
        share: Share of nodes of the second kind.
        seed: Of everything random.

    Returns:
        The graph, with one split of 50 / 25 / 25 %.

    Raises:
        ValueError: An option is out of range.
    """
    check_choice("simulate_graph", "variant", variant, GRAPH_VARIANTS)
    _within(
        nodes=(nodes, 100, 1_000_000), classes=(classes, 2, 20), degree=(degree, 2, 50), share=(share, 0, 1)
    )
    from scipy.sparse import csr_matrix, hstack, identity

    random = np.random.default_rng(seed)
    y = random.integers(0, classes, nodes)
    by_features = random.random(nodes) < share
    homophily = np.where(by_features, 0.1, 0.9)
    if variant == "strong_useless":
        homophily = np.full(nodes, 1 / classes)
    apart = np.where(by_features, 1.5, 0.3)
    if variant == "weak_useless":
        apart = np.zeros(nodes)
    corners = _simplex(classes, max(classes, 8), 1.0)
    distance = np.linalg.norm(corners[0] - corners[1])
    features = random.normal(size=(nodes, corners.shape[1])) + corners[y] * (apart / distance)[:, None]
    edges, dropped = clean_edges(_wire(y, homophily, degree, random), nodes, "simulated")
    parts = np.searchsorted([0.5, 0.75], random.permutation(nodes) / nodes, side="right").astype(np.int8)
    graph = Graph(
        features=SparseMatrix.of(hstack([csr_matrix(features), identity(nodes)])),
        edges=edges,
        labels=torch.from_numpy(y.astype(np.int64)),
        classes=tuple(range(classes)),
        splits=parts[None],
        dropped=dropped,
    )
    own = torch.from_numpy(features.astype(np.float32))
    return TwoExpertGraph(graph, own, torch.from_numpy(by_features))


def _wire(y: np.ndarray, homophily: np.ndarray, degree: float, random: np.random.Generator) -> np.ndarray:
    """Give each node ends of both sorts by its own homophily, and join ends at random."""
    pairs = []
    same = np.repeat(np.arange(len(y)), random.poisson(degree * homophily))
    for label in np.unique(y):
        ends = random.permutation(same[y[same] == label])
        pairs.append(ends[: len(ends) // 2 * 2].reshape(2, -1))
    left = np.repeat(np.arange(len(y)), random.poisson(degree * (1 - homophily)))
    for _ in range(20):  # ends that met their own class try again
        left = random.permutation(left)
        left = left[: len(left) // 2 * 2]
        met = left.reshape(2, -1)
        apart = y[met[0]] != y[met[1]]
        pairs.append(met[:, apart])
        left = met[:, ~apart].ravel()
    return np.concatenate(pairs, axis=1)


def _teacher(x: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """Return the class that a random two-layer network gives, all classes about equally often."""
    first = random.normal(size=(x.shape[1], _TEACHER_WIDTH)) / np.sqrt(x.shape[1])
    hidden = np.tanh(2 * x @ first)
    answer = hidden @ random.normal(size=(_TEACHER_WIDTH, classes))
    taught: np.ndarray = ((answer - answer.mean(0)) / answer.std(0)).argmax(1)
    return taught


def _simplex(corners: int, dimensions: int, radius: float) -> np.ndarray:
    centred = np.eye(corners) - 1 / corners
    # the corners span one dimension less than there are of them
    basis = np.linalg.svd(centred)[2][: corners - 1]
    points = centred @ basis.T
    points *= radius / np.linalg.norm(points[0])
    return np.pad(points, ((0, 0), (0, dimensions - corners + 1)))


def _within(**options: tuple[float, float, float]) -> None:
    for name, (value, low, high) in options.items():
        if not low <= value <= high:
            raise ValueError(f"twoexperts: {name} must be from {low} to {high}, not {value}")
