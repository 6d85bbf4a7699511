"""EXP: the coarse image on the fine grid (specification of R-PNN, 2.2).

Interpolation is linear and the same for rows and columns, so it is held as one matrix an axis. A window of
the fine image is then a product of a few rows of each with the coarse samples they touch: tiles equal the
whole image to rounding, edges included.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.degradation import Phase, sample_offset

Boundary = Literal["symmetric", "circular"]

_HALF_BAND = 2 * np.array(
    [
        *(0.5, 0.305334091185, 0, -0.072698593239, 0, 0.021809577942),
        *(0, -0.005192756653, 0, 0.000807762146, 0, -0.000060081482),
    ]
)
_SINC_REACH = 30


class Interpolator:
    """Brings a coarse image to the fine grid.

    Args:
        shape: Height and width of the coarse image.
        ratio: Fine pixels per coarse pixel, 2 to 8.
        phase: Where coarse samples lie on the fine grid.
        boundary: ``"symmetric"``, or ``"circular"`` for power-of-two steps as in public code, which lets the
            opposite edge leak in.
    """

    def __init__(
        self, shape: tuple[int, int], ratio: int, phase: Phase = "centre", boundary: Boundary = "symmetric"
    ) -> None:
        self.ratio = ratio
        self.shape = (shape[0] * ratio, shape[1] * ratio)
        self._rows = _matrix(shape[0], ratio, phase, boundary)
        self._columns = _matrix(shape[1], ratio, phase, boundary)

    def __call__(self, coarse: NDArray[np.floating]) -> NDArray[Any]:
        """Return the whole fine image, shape ``(..., R h, R w)``, in the dtype of ``coarse`` (a float)."""
        return self.window(coarse, Window(0, 0, *self.shape))

    def window(self, coarse: NDArray[np.floating], window: Window) -> NDArray[Any]:
        """Return a window of the fine image.

        Args:
            coarse: The whole coarse image, shape ``(..., h, w)``, finite; only what is needed is read.
            window: Window on the fine grid.
        """
        rows, row_span = _part(self._rows, window.top, window.bottom)
        columns, column_span = _part(self._columns, window.left, window.right)
        block = np.asarray(coarse[..., row_span, column_span])
        kind = np.result_type(block.dtype, np.float32)
        fine: NDArray[Any] = rows.astype(kind) @ block.astype(kind, copy=False) @ columns.T.astype(kind)
        return fine


def _part(matrix: Any, first: int, last: int) -> tuple[NDArray[np.float64], slice]:
    """Return rows of a sparse matrix as a dense block, and the span of columns that it covers."""
    rows = matrix[first:last]
    span = slice(int(rows.indices.min()), int(rows.indices.max()) + 1)
    return rows[:, span].toarray(), span


@lru_cache(maxsize=32)
def _matrix(size: int, ratio: int, phase: Phase, boundary: Boundary) -> Any:
    """Return the ``(ratio * size, size)`` interpolation matrix of one axis, as CSR."""
    from scipy.sparse import csr_array, identity

    if not 2 <= ratio <= 8:
        raise ValueError(f"the ratio is a whole number from 2 to 8, not {ratio}")
    if phase == "centre" and ratio % 2 == 0:
        return _sinc_step(size, ratio, (ratio - 1) / 2)
    odd, doublings = ratio, 0
    while odd % 2 == 0:
        odd, doublings = odd // 2, doublings + 1
    matrix = csr_array(identity(size)) if odd == 1 else _sinc_step(size, odd, sample_offset(odd, "reference"))
    # the first doubling puts samples on odd places, later ones on even ones: together ratio // 2
    for number in range(doublings):
        matrix = _doubling(matrix.shape[0], 1 if number == 0 else 0, boundary) @ matrix
    return csr_array(matrix)


def _doubling(size: int, offset: int, boundary: Boundary) -> Any:
    """Return the matrix of zero insertion and the 23-tap half-band filter; sample k goes to 2k + offset."""
    taps = np.concatenate([_HALF_BAND[:0:-1], _HALF_BAND])
    half = taps.size // 2
    fine = np.arange(2 * size)
    place = fine[:, None] + np.arange(-half, half + 1)[None, :] - offset
    used = place % 2 == 0
    source = np.where(used, place // 2, 0)
    folded = source % size if boundary == "circular" else _mirrored(source, size)
    return _assemble(folded, np.where(used, taps[None, :], 0.0), size)


def _sinc_step(size: int, ratio: int, offset: float) -> Any:
    """Return the matrix of sinc interpolation over 61 samples, weights normalised, symmetric edges.

    Fine index i lies at coarse place ``(i - offset) / ratio``; each of the ``ratio`` fractions has its taps.
    """
    place = (np.arange(ratio * size) - offset) / ratio
    before = np.floor(place + 1e-9).astype(int)
    reach = np.arange(-_SINC_REACH, _SINC_REACH + 1)
    weights = np.sinc((place - before)[:, None] - reach[None, :])
    weights /= weights.sum(axis=1, keepdims=True)
    return _assemble(_mirrored(before[:, None] + reach[None, :], size), weights, size)


def _mirrored(index: NDArray[np.int_], size: int) -> NDArray[np.int_]:
    """Return indices folded at the edges, which are repeated: -1 is 0 and ``size`` is ``size - 1``."""
    folded = index % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _assemble(columns: NDArray[np.int_], weights: NDArray[np.float64], size: int) -> Any:
    from scipy.sparse import coo_array

    rows = np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)
    kept = weights != 0
    matrix = coo_array((weights[kept], (rows[kept], columns[kept])), shape=(len(columns), size))
    return matrix.tocsr()
