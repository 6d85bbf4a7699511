"""Which inputs matter: the size of gates and of what they let through, and what is lost without an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.features.encoded import EncodedRows
from appliedpapers.core.metrics import auc

if TYPE_CHECKING:
    from appliedpapers.plugins.finalmlp.network import FinalMLP

Floats = NDArray[np.float64]
Logits = Callable[[EncodedRows], Floats]

SHUFFLES = 5
MOST_ROWS = 20_000
CAUTION = (
    "The size of a gate says little by itself: a small embedding under a large gate, or large weights "
    "behind a small one, give the same output. Inputs are therefore sorted by the AUC that is lost when "
    "their values are shuffled among valid rows. An input can lose little where another carries the same."
)

_ROWS_A_BLOCK = 8_192


@dataclass(frozen=True)
class Importance:
    """What one input column is worth to a model.

    Attributes:
        column: The column; the fields that are made from it count together.
        gates: Mean gate of both streams over rows, fields and dimensions, in (0, 2); None without gates.
        passed: Mean of gate times length of the embedding, for both streams; None without gates.
        drop: Mean loss of AUC when the column is shuffled.
        low: Lower end of the 95 % interval of ``drop`` over shuffles.
        high: Upper end of it.
    """

    column: str
    gates: tuple[float, float] | None
    passed: tuple[float, float] | None
    drop: float
    low: float
    high: float


def importance(
    rows: EncodedRows, logits: Logits, networks: Sequence[FinalMLP] = (), *, seed: int, most: int = MOST_ROWS
) -> list[Importance]:
    """Return what each input column is worth, the most important first.

    The interval is that of the mean over five shuffles of the same rows; it does not hold what other rows
    would change.

    Args:
        rows: Valid rows with labels of both classes.
        logits: What is judged: the whole model, or any other one on the same fields.
        networks: Networks whose gates are shown, on their average; none for other models.
        seed: Of the shuffles, and of the rows where there are more than ``most``.
        most: Rows that are looked at.

    Raises:
        ValueError: The rows have no labels.
    """
    random = np.random.default_rng(seed)
    if len(rows) > most:
        rows = rows.take(np.sort(random.choice(len(rows), most, replace=False)))
    drops = permutation_drops(rows, logits, random)
    gates = {column: (None, None) for column in drops} | gate_sizes(rows, networks)
    found = [_with_interval(column, gates[column], drop) for column, drop in drops.items()]
    return sorted(found, key=lambda one: -one.drop)


def permutation_drops(
    rows: EncodedRows, logits: Logits, random: np.random.Generator, shuffles: int = SHUFFLES
) -> dict[str, Floats]:
    """Return the AUC lost by shuffling each column among the rows, ``(shuffles,)`` by column.

    Fields that are made from one column, such as a number and whether it is missing, move together.

    Args:
        rows: With labels of both classes.
        logits: Scores rows.
        random: Draws the shuffles.
        shuffles: How often each column is shuffled.

    Raises:
        ValueError: The rows have no labels.
    """
    if rows.label is None:
        raise ValueError("importance needs rows with labels")
    whole = auc(rows.label, logits(rows), rows.weight)
    orders = [random.permutation(len(rows)) for _ in range(shuffles)]
    return {
        column: np.array(
            [whole - auc(rows.label, logits(shuffled(rows, column, order)), rows.weight) for order in orders]
        )
        for column in dict.fromkeys(field.column for field in rows.fields)
    }


def shuffled(rows: EncodedRows, column: str, order: NDArray[np.intp]) -> EncodedRows:
    """Return rows whose fields of one column come from other rows.

    Args:
        rows: The rows.
        column: Whose fields move.
        order: Where each row takes them from, ``(rows,)``.
    """
    ids, numbers, sequences = rows.ids.copy(), rows.numbers.copy(), list(rows.sequences)
    taken = {"categorical": 0, "numeric": 0, "sequence": 0}
    for field in rows.fields:
        place = taken[field.kind]
        taken[field.kind] += 1
        if field.column != column:
            continue
        if field.kind == "categorical":
            ids[:, place] = ids[order, place]
        elif field.kind == "numeric":
            numbers[:, place] = numbers[order, place]
        else:
            sequences[place] = sequences[place][order]
    return replace(rows, ids=ids, numbers=numbers, sequences=tuple(sequences))


Sizes = tuple[tuple[float, float], tuple[float, float]]


def gate_sizes(rows: EncodedRows, networks: Sequence[FinalMLP]) -> dict[str, Sizes]:
    """Return mean gate, and mean of gate times length of the embedding, of both streams, by column.

    Empty where no network has gates. The gate of a row and field is the mean over its dimensions.
    """
    import torch

    from appliedpapers.plugins.finalmlp.learner import as_batch

    gated = [network.eval() for network in networks if network.gates is not None]
    if not gated or not len(rows):
        return {}
    fields = len(rows.fields)
    total = np.zeros((2, 2, fields))
    with torch.inference_mode():
        for network in gated:
            assert network.gates is not None
            for start in range(0, len(rows), _ROWS_A_BLOCK):
                batch = as_batch(rows.take(slice(start, start + _ROWS_A_BLOCK)), network.tables.table.device)
                length = network.tables(batch).view(len(batch), fields, -1).norm(dim=2)
                for stream, gate in enumerate(network.gates):
                    mean = gate(batch).view(-1, fields, network.tables.dim).mean(dim=2)
                    mean = mean.expand(len(batch), fields)
                    total[0, stream] += mean.sum(0).double().cpu().numpy()
                    total[1, stream] += (mean * length).sum(0).double().cpu().numpy()
    total /= len(rows) * len(gated)
    columns = [field.column for field in rows.fields]
    found: dict[str, Sizes] = {}
    for column in dict.fromkeys(columns):
        own = total[:, :, [name == column for name in columns]].mean(axis=2)
        found[column] = ((float(own[0, 0]), float(own[0, 1])), (float(own[1, 0]), float(own[1, 1])))
    return found


def _with_interval(column: str, sizes: Sizes | tuple[None, None], drops: Floats) -> Importance:
    from scipy.stats import t

    mean = float(drops.mean())
    half = 0.0
    if drops.size > 1:
        half = float(t.ppf(0.975, drops.size - 1) * drops.std(ddof=1) / np.sqrt(drops.size))
    return Importance(column, sizes[0], sizes[1], mean, mean - half, mean + half)
