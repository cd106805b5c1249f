"""Log counts of cells, of which a few at a time are read: from memory or a temporary file."""

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike

from scmetaq.data._cells import BLOCK, Counts, canonical
from scmetaq.data._dispersion import normalised_dispersion

_IN_MEMORY = 1 << 26
"""Bytes of each temporary file that are kept in memory."""
_GAP = 8
"""Cells that are read and dropped rather than making one more read."""


def is_in_memory(counts: Any) -> bool:
    """Whether any rows are quickly cut from a matrix."""
    return sp.issparse(counts) or isinstance(counts, np.ndarray)


def row_blocks(counts: Any) -> Iterator[sp.csr_matrix]:
    """Read a matrix on disk from its first row to its last, some thousand rows at a time."""
    return Counts(counts).blocks()


def log_normalise(counts: Any, dtype: DTypeLike = np.float32) -> sp.csr_matrix:
    """Return log1p counts per 10k as scanpy does, without its compilation; 0 for empty cells."""
    X = sp.csr_matrix(counts, dtype=dtype, copy=True)
    total = np.asarray(X.sum(axis=1)).ravel()  # N
    per_10k = np.where(total > 0, total, 1) / 1e4
    X.data = np.log1p(X.data / np.repeat(per_10k, np.diff(X.indptr)).astype(dtype))
    return X


class LogCounts:
    """log1p counts per 10k, ``(n_cells, n_genes)``, of which ``[rows]`` are read as CSR.

    Counts in memory are normalised whenever they are read. Counts on disk are read once, from the
    first to the last, and kept normalised in temporary files of 6 bytes per count (8 with more than
    65,536 genes), each block of cells sorted by ``codes``, the metacells.
    """

    def __init__(self, counts: Any, codes: np.ndarray | None = None):
        self.shape: tuple[int, int] = counts.shape
        self._genes: np.ndarray | None = None
        if is_in_memory(counts):
            self._rows = counts.tocsr() if sp.issparse(counts) else counts
        else:
            codes = np.zeros(self.shape[0], np.int64) if codes is None else codes
            self._rows = _SortedRows(row_blocks(counts), codes, self.shape[1])

    def __getitem__(self, rows: np.ndarray | slice) -> sp.csr_array:
        found = self._rows[rows]
        if not isinstance(self._rows, _SortedRows):
            found = log_normalise(canonical(found))
        return sp.csr_array(found if self._genes is None else found[:, self._genes])

    def blocks(self, cells: np.ndarray | None = None) -> Iterator[sp.csr_array]:
        """All cells, or some of them by ascending positions, some thousand at a time."""
        cells = np.arange(self.shape[0]) if cells is None else cells
        return (self[cells[start : start + BLOCK]] for start in range(0, len(cells), BLOCK))

    def most_variable(self, n_top: int, cells: np.ndarray | None = None) -> "LogCounts":
        """Keep the genes of largest dispersion in these cells, as scanpy ranks them by default."""
        n_genes = self.shape[1]
        if n_genes <= n_top:
            return self
        sums, squares = np.zeros(n_genes), np.zeros(n_genes)
        for block in self.blocks(cells):
            values = np.expm1(block.data).astype(np.float64)
            sums += np.bincount(block.indices, values, n_genes)
            squares += np.bincount(block.indices, values**2, n_genes)
        n_cells = self.shape[0] if cells is None else len(cells)
        ranking = normalised_dispersion(sums / n_cells, squares / n_cells, n_cells)
        usable = np.sort(ranking[ranking > -np.inf])[::-1]
        least = usable[min(n_top, len(usable)) - 1] if len(usable) else -np.inf
        chosen = object.__new__(LogCounts)
        chosen._rows, chosen._genes = self._rows, np.flatnonzero(ranking >= least)
        chosen.shape = (self.shape[0], len(chosen._genes))
        return chosen


class _SortedRows:
    """Normalised rows in temporary files, each block sorted by metacell.

    The cells of some metacells are then one run of rows in every block, so that all cells are read
    metacell by metacell in few reads, however the cells are ordered.
    """

    def __init__(self, blocks: Iterator[sp.csr_matrix], codes: np.ndarray, n_genes: int):
        self._types = (np.dtype(np.uint16 if n_genes <= 1 << 16 else np.int32), np.dtype("f4"))
        self._files = [SpooledTemporaryFile(_IN_MEMORY) for _ in self._types]  # noqa: SIM115
        self._place, self._n_genes = np.empty(len(codes), np.int64), n_genes  # of each cell
        lengths, start = [np.zeros(1, np.int64)], 0
        for block in blocks:
            stop = start + block.shape[0]
            order = np.argsort(codes[start:stop], kind="stable")
            self._place[start + order] = np.arange(start, stop)
            rows = log_normalise(block)[order]
            for file, dtype, values in zip(
                self._files, self._types, (rows.indices, rows.data), strict=True
            ):
                file.write(values.astype(dtype, copy=False).tobytes())
            lengths.append(np.diff(rows.indptr))
            start = stop
        self._ends = np.cumsum(np.concatenate(lengths))

    def __getitem__(self, rows: np.ndarray | slice) -> sp.csr_matrix:
        wanted = self._place[rows]
        if len(wanted) == 0:
            return sp.csr_matrix((0, self._n_genes), dtype=np.float32)
        there = np.unique(wanted)
        runs = np.split(there, np.flatnonzero(np.diff(there) > _GAP) + 1)
        read = np.concatenate([np.arange(run[0], run[-1] + 1) for run in runs])
        ends = np.concatenate([[0], np.cumsum(self._ends[read + 1] - self._ends[read])])
        indices, data = (
            np.concatenate([self._read(i, run[0], run[-1] + 1) for run in runs]) for i in (0, 1)
        )
        shape = (len(read), self._n_genes)
        found = sp.csr_matrix((data, indices.astype(np.int32), ends), shape=shape)
        return found[np.searchsorted(read, wanted)]

    def _read(self, i: int, start: int, stop: int) -> np.ndarray:
        file, dtype = self._files[i], self._types[i]
        file.seek(self._ends[start] * dtype.itemsize)
        return np.frombuffer(
            file.read((self._ends[stop] - self._ends[start]) * dtype.itemsize), dtype
        )
