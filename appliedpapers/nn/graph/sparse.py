"""Sparse matrices in compressed rows, and their exact product with dense tensors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor


class SparseMatrix:
    """A constant float32 matrix in compressed sparse rows (CSR).

    It is never made dense. Products are differentiable in the dense factor, to any order: the gradient of
    ``S M`` is ``S^T`` times what comes back, and that is a product of the same kind.

    Args:
        pointers: ``(rows + 1,)`` int32; where each row starts.
        columns: ``(nonzeros,)`` int32.
        values: ``(nonzeros,)`` float32.
        width: Number of columns.
        symmetric: The matrix is its own transpose, so that none is made.
    """

    def __init__(
        self, pointers: Tensor, columns: Tensor, values: Tensor, width: int, *, symmetric: bool = False
    ) -> None:
        self.pointers, self.columns, self.values = pointers, columns, values
        self.shape = (pointers.numel() - 1, width)
        self.symmetric = symmetric
        self._transposed: SparseMatrix | None = None
        self._order: Tensor | None = None
        with warnings.catch_warnings():
            # torch calls its sparse rows a beta; the product that we use is stable
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
            self._torch = torch.sparse_csr_tensor(
                pointers, columns, values, size=self.shape, check_invariants=False
            )

    @classmethod
    def of(cls, matrix: Any, *, symmetric: bool = False) -> SparseMatrix:
        """Return a matrix from one of SciPy; equal places are summed."""
        rows = matrix.tocsr()
        rows.sum_duplicates()
        return cls(
            torch.from_numpy(rows.indptr.astype(np.int32)),
            torch.from_numpy(rows.indices.astype(np.int32)),
            torch.from_numpy(rows.data.astype(np.float32)),
            rows.shape[1],
            symmetric=symmetric,
        )

    def scipy(self) -> Any:
        """Return the matrix as one of SciPy, sharing memory where it can."""
        from scipy.sparse import csr_matrix

        parts = tuple(part.cpu().numpy() for part in (self.values, self.columns, self.pointers))
        return csr_matrix(parts, shape=self.shape)

    @property
    def nonzeros(self) -> int:
        """Number of stored values."""
        return int(self.values.numel())

    @property
    def T(self) -> SparseMatrix:
        """The transpose, made once."""
        if self.symmetric:
            return self
        if self._transposed is None:
            pointers, columns, order = self._structure_of_transpose()
            self._transposed = SparseMatrix(pointers, columns, self.values[order], self.shape[0])
            self._transposed._transposed = self
        return self._transposed

    def __matmul__(self, dense: Tensor) -> Tensor:
        """Return the product with ``(columns, n)``, shape ``(rows, n)``.

        Raises:
            ValueError: The inner sizes differ.
        """
        if dense.ndim != 2 or dense.shape[0] != self.shape[1]:
            raise ValueError(f"a matrix {self.shape} cannot be multiplied by {tuple(dense.shape)}")
        product: Tensor = _Product.apply(self, dense)  # type: ignore[no-untyped-call]
        return product

    def take(self, rows: Any) -> SparseMatrix:
        """Return the given rows, as an int64 array or tensor, in that order."""
        index = rows.cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
        return SparseMatrix.of(self.scipy()[index]).to(self.values.device)

    def row_normalised(self) -> SparseMatrix:
        """Return the matrix with rows that sum to 1; empty rows stay empty."""
        from scipy.sparse import diags

        sums = np.asarray(self.scipy().sum(axis=1), dtype=np.float64).ravel()
        factors = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums != 0)
        return SparseMatrix.of(diags(factors) @ self.scipy())

    def dropped(self, share: float) -> SparseMatrix:
        """Return the matrix with a share of its values at zero and the others scaled up: dropout."""
        keep = torch.rand_like(self.values) >= share
        values = self.values * keep / (1 - share)
        kept = SparseMatrix(self.pointers, self.columns, values, self.shape[1])
        pointers, columns, order = self._structure_of_transpose()
        kept._transposed = SparseMatrix(pointers, columns, values[order], self.shape[0])
        return kept

    def to(self, device: Any) -> SparseMatrix:
        """Return the matrix on a device."""
        if torch.device(device) == self.values.device:
            return self
        pointers, columns, values = (part.to(device) for part in (self.pointers, self.columns, self.values))
        return SparseMatrix(pointers, columns, values, self.shape[1], symmetric=self.symmetric)

    def _structure_of_transpose(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._order is None:
            self._order = torch.argsort(self.columns.long(), stable=True)
        counts = torch.bincount(self.columns.long(), minlength=self.shape[1])
        pointers = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        lengths = (self.pointers[1:] - self.pointers[:-1]).long()
        owners = torch.repeat_interleave(torch.arange(self.shape[0], device=lengths.device), lengths)
        return pointers, owners[self._order].int(), self._order


class _Product(torch.autograd.Function):
    """``S M`` with the gradient ``S^T G``."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        if matrix.nonzeros == 0:
            return dense.new_zeros(matrix.shape[0], dense.shape[1])
        stored = matrix._torch
        return (stored if stored.dtype == dense.dtype else stored.to(dense.dtype)) @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.matrix.T @ gradients[0]
