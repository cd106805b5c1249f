from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from ._blocks import by_rows, canonical


class ModalityCounts:
    """Raw counts of one modality, a row for every cell of the data.

    Cells that lack the modality (mosaic data) have rows without counts. Nothing is copied before
    it is asked for.

    Parameters
    ----------
    counts
        Raw counts of the cells that have the modality, ``(n_present, n_features)``: dense, sparse
        or on disk.
    row_of_cell
        Row of each cell there, -1 where it has none, ``(n_cells,)``; by default cells and rows
        are the same.
    """

    def __init__(self, counts: Any, row_of_cell: np.ndarray | None = None):
        self._counts = by_rows(counts)
        self._row_of_cell = row_of_cell
        self.n_cells = counts.shape[0] if row_of_cell is None else len(row_of_cell)
        self.n_features = counts.shape[1]

    @property
    def is_present(self) -> np.ndarray:
        """Which cells have the modality, ``(n_cells,)``."""
        if self._row_of_cell is None:
            return np.ones(self.n_cells, bool)
        return self._row_of_cell >= 0

    def of(self, cells: np.ndarray | slice) -> sp.csr_matrix:
        """Raw counts of some cells in their order, ``(n, n_features)``.

        Parameters
        ----------
        cells
            A slice, or sorted indices.
        """
        if self._row_of_cell is None:
            is_all = not isinstance(cells, slice) and len(cells) == self.n_cells
            return canonical(self._counts[:] if is_all else self._counts[cells])
        row = self._row_of_cell[cells]
        is_there = row >= 0
        # in ascending order, which is the only one that matrices on disk can be read in
        ascending, place = np.unique(row[is_there], return_inverse=True)
        block = canonical(self._counts[ascending])
        return _spread(block[place], is_there)

    def sample(self, cells: np.ndarray) -> "ModalityCounts":
        """The counts of some cells, by their sorted indices, in memory."""
        is_present = self.is_present[cells]
        row = np.where(is_present, np.arange(len(cells)), -1)
        return ModalityCounts(self.of(cells), None if is_present.all() else row)


def _spread(rows: sp.csr_matrix, is_there: np.ndarray) -> sp.csr_matrix:
    """Put rows where they belong, and rows without counts between them."""
    lengths = np.zeros(len(is_there), np.int64)
    lengths[is_there] = np.diff(rows.indptr)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((rows.data, rows.indices, ends), shape=(len(is_there), rows.shape[1]))


def modality_counts(data: AnnData | MuData, name: str | None, counts: Any) -> ModalityCounts:
    """Raw counts of a modality, by the cells of the data.

    Parameters
    ----------
    data
        All cells.
    name
        Name of the modality of a MuData; None for an AnnData, which is one.
    counts
        Its raw counts.
    """
    return ModalityCounts(counts, None if name is None else _row_of_cell(data, name))


def _row_of_cell(mdata: MuData, name: str) -> np.ndarray | None:
    """Row of each cell in a modality, -1 where it has none; None if cells and rows are the same."""
    row = np.asarray(mdata.obsmap[name]).ravel().astype(np.int64) - 1
    is_same = len(row) == mdata.mod[name].n_obs and np.array_equal(row, np.arange(len(row)))
    return None if is_same else row
