"""Log counts of cells, of which a few at a time are read: from memory or a temporary file."""

from collections.abc import Iterator
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike

from scmetaq._parallel import in_parts
from scmetaq.data._cells import BLOCK, canonical
from scmetaq.data._containers import Rows, Span
from scmetaq.data._dispersion import normalised_dispersion

_IN_MEMORY = 1 << 27  # bytes of a temporary file that are kept in memory
_GAP = 8  # cells that are read and dropped rather than making one more read


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
    first to the last, and kept normalised in a temporary file, 6 bytes per count other than
    zero (8 with more than 65,536 genes).
    """

    def __init__(self, counts: Any, codes: np.ndarray, genes: np.ndarray | None = None):
        self.genes, self._codes = genes, codes
        self.shape = (counts.shape[0], counts.shape[1] if genes is None else len(genes))
        is_read = sp.issparse(counts) or isinstance(counts, np.ndarray | _SortedRows)
        counts = counts.tocsr() if sp.issparse(counts) else counts
        self._rows = counts if is_read else _SortedRows(counts, codes)

    def __getitem__(self, rows: np.ndarray | slice) -> sp.csr_array:
        found = self._rows[rows]
        if not isinstance(self._rows, _SortedRows):
            found = log_normalise(canonical(found))
        return sp.csr_array(found if self.genes is None else found[:, self.genes])

    @cached_property
    def totals(self) -> np.ndarray:
        """Counts of each cell, of all genes, ``(n_cells,)``."""
        if isinstance(self._rows, _SortedRows):
            return self._rows.totals
        starts = range(0, self.shape[0], BLOCK)  # sums in double precision copy what they add
        sums = [self._rows[at : at + BLOCK].sum(axis=1, dtype=np.float64) for at in starts]
        return np.concatenate([np.asarray(of).ravel() for of in sums])

    def raw(self, rows: np.ndarray) -> sp.csr_array:
        """Counts of these cells, in single precision; from a file to three decimals."""
        if not isinstance(self._rows, _SortedRows):
            found = sp.csr_array(canonical(self._rows[rows]), dtype=np.float32)
            return found if self.genes is None else found[:, self.genes]
        found = self[rows]
        per_10k = np.repeat(self.totals[rows] / 1e4, np.diff(found.indptr))
        counts = np.round(np.expm1(found.data.astype(np.float64)) * per_10k, 3)
        found.data = counts.astype(np.float32)
        return found

    def blocks(self, cells: np.ndarray | None = None) -> Iterator[sp.csr_array]:
        """All cells, or some of them by ascending positions, some thousand at a time."""
        cells = np.arange(self.shape[0]) if cells is None else cells
        return (self[cells[start : start + BLOCK]] for start in range(0, len(cells), BLOCK))

    def most_variable(self, n_top: int, cells: np.ndarray | None = None) -> "LogCounts":
        """Keep the genes of largest dispersion in these cells, as scanpy ranks them by default."""
        if (n_genes := self.shape[1]) <= n_top:
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
        return self.of_genes(np.flatnonzero(ranking >= least))

    def of_genes(self, genes: np.ndarray) -> "LogCounts":
        """Keep the genes at these positions."""
        genes = genes if self.genes is None else self.genes[genes]
        return LogCounts(self._rows, self._codes, genes)


class _SortedRows:
    """Normalised rows in a temporary file, each block sorted by metacell.

    The cells of some metacells are then one run of rows in every block, so that all cells are read
    metacell by metacell in few reads, however the cells are ordered.
    """

    def __init__(self, counts: Any, codes: np.ndarray):
        self.shape = counts.shape
        gene = "u2" if self.shape[1] <= 1 << 16 else "i4"
        self._entry = np.dtype([("gene", gene), ("value", "f4")])
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._place = np.empty(len(codes), np.int64)  # row of each cell in the file
        self.totals = np.empty(len(codes))
        lengths, start = [np.zeros(1, np.int64)], 0
        spans = Rows(counts).spans(BLOCK)
        of_spans = np.split(codes, range(BLOCK, len(codes), BLOCK))
        parts = zip(spans, of_spans, strict=True)
        options: dict[str, Any] = {"n_parts": len(spans), "shown_as": "Sorting log counts"}
        options["is_local"] = True  # to send what is found takes as long as to find it
        found = in_parts(_sorted_entries, self._entry, parts, **options)
        for order, entries, of_rows, totals in found:
            self.totals[start : start + len(order)] = totals
            self._place[start + order] = np.arange(start, start + len(order))
            self._file.write(entries.tobytes())
            lengths.append(of_rows)
            start += len(order)
        self._ends = np.cumsum(np.concatenate(lengths))  # of the entries of each row in the file

    def __getitem__(self, rows: np.ndarray | slice) -> sp.csr_matrix:
        place = self._place[rows]
        there = np.unique(place)
        runs = np.split(there, np.flatnonzero(np.diff(there) > _GAP) + 1)
        read = np.concatenate([np.arange(run[0], run[-1] + 1) for run in runs])
        entries = np.concatenate([self._read(run[0], run[-1] + 1) for run in runs])
        ends = np.concatenate([[0], np.cumsum(self._ends[read + 1] - self._ends[read])])
        found = (entries["value"].copy(), entries["gene"].astype(np.int32), ends)
        return sp.csr_matrix(found, (len(read), self.shape[1]))[np.searchsorted(read, place)]

    def _read(self, start: int, stop: int) -> np.ndarray:
        first, last = self._ends[[start, stop]] * self._entry.itemsize
        self._file.seek(first)
        return np.frombuffer(self._file.read(last - first), self._entry)


def _sorted_entries(entry: np.dtype, part: tuple[Span, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Order by metacell of some rows, their normalised entries and how many each has; totals."""
    span, codes = part
    order = np.argsort(codes, kind="stable")
    (block,) = map(canonical, span.blocks(len(span)))
    totals = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
    rows = log_normalise(block)[order]
    entries = np.empty(rows.nnz, entry)
    entries["gene"], entries["value"] = rows.indices, rows.data
    return order, entries, np.diff(rows.indptr), totals
