"""Cells of an AnnData or a MuData, in memory or on disk, read in one way."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmetaq._parallel import in_parts

from ._containers import Rows, column_of, loaded, names_of

BLOCK = 4_096  # cells that are read at once where nothing else decides
SPAN = 2 * BLOCK  # cells that a worker reads for one task


class Source(NamedTuple):
    """Where the counts of one kind are."""

    modality: str | None  # name of the modality of a MuData; None in an AnnData, which is one
    layer: str | None  # layer with the raw counts; None for `X`


class Condition(NamedTuple):
    """A condition that a model knows."""

    key: str  # column of `obs`
    categories: list[Any]
    modality: str | None  # modality whose `obs` has the column; None: that of all cells


def part_of(data: Any, modality: str | None) -> Any:
    """A modality of a MuData, or the data themselves."""
    return data if modality is None else data.mod[modality]


def called(where: str, modality: str | None) -> str:
    """What the user calls the data, or one of their modalities."""
    return where if modality is None else f"{where}[{modality!r}]"


def own_name(data: Any) -> str:
    """What messages call the data: ``adata`` or ``mdata``."""
    return "mdata" if isinstance(data, MuData) else "adata"


def raw_counts(part: AnnData, layer: str | None) -> Rows:
    """The matrix of counts, read by rows, wherever it is."""
    return Rows(part.X if layer is None else part.layers[layer])


def canonical(rows: Any) -> sp.csr_matrix:
    """Counts as a CSR matrix of single precision, each non-zero once and in order; not in place."""
    block = sp.csr_matrix(rows, dtype=np.float32)
    if not (block.has_canonical_format and block.data.all()):
        block = block.copy()
        block.sum_duplicates()
        block.eliminate_zeros()
    return block


def values_of(block: Any) -> np.ndarray:
    """Stored values of a block of rows; those of one cell and feature are summed."""
    if sp.issparse(block) and not block.has_canonical_format:
        block = sp.csr_matrix(block, dtype=np.float64, copy=True)
        block.sum_duplicates()
    return np.asarray(block.data if sp.issparse(block) else block).ravel()


def row_of_cell(data: Any, modality: str | None) -> np.ndarray | None:
    """Row of each cell in a modality, -1 where it has none; None if cells and rows are the same."""
    if modality is None:
        return None
    row = np.asarray(data.obsmap[modality]).ravel().astype(np.int64) - 1
    is_same = len(row) == data.mod[modality].n_obs and np.array_equal(row, np.arange(len(row)))
    return None if is_same else row


def presence(data: MuData, modalities: list[str]) -> np.ndarray:
    """Which cells have each of some modalities, ``(n_cells, n_modalities)`` bool."""
    return np.column_stack([np.asarray(data.obsmap[name]).ravel() > 0 for name in modalities])


class Counts:
    """Raw counts of one kind, a row for every cell of the data, read in blocks of rows.

    ``matrix`` has the cells with the modality, dense, sparse or on disk; ``row`` is the row of each
    cell in it, -1 where it has none (mosaic data), or None if cells and rows are the same.
    """

    def __init__(self, matrix: Any, row: np.ndarray | None = None):
        self._matrix = matrix if isinstance(matrix, Rows) else Rows(matrix)
        self._row = row
        self.n_cells = matrix.shape[0] if row is None else len(row)
        self.n_features = matrix.shape[1]

    def __reduce__(self) -> tuple:
        # another process gets the rows of these cells and no others
        of = self.sample(np.arange(self.n_cells)) if self._matrix.is_in_memory else self
        return Counts, (of._matrix, of._row)

    @property
    def is_present(self) -> np.ndarray:
        """Which cells have the modality, ``(n_cells,)`` bool."""
        return np.ones(self.n_cells, bool) if self._row is None else self._row >= 0

    def of(self, cells: np.ndarray | slice) -> sp.csr_matrix:
        """Counts of a slice of cells, or of those with sorted indices, ``(n, n_features)``."""
        if self._row is None:
            is_all = not isinstance(cells, slice) and len(cells) == self.n_cells
            return canonical(self._matrix[:] if is_all else self._matrix[cells])
        row = self._row[cells]
        if len(row) and row[0] >= 0 and (np.diff(row) == 1).all():  # read sooner as a slice
            return canonical(self._matrix[row[0] : row[-1] + 1])
        is_there = row >= 0
        # in ascending order, the only one that matrices on disk can be read in
        ascending, place = np.unique(row[is_there], return_inverse=True)
        rows = canonical(self._matrix[ascending])[place]
        lengths = np.zeros(len(is_there), np.int64)
        lengths[is_there] = np.diff(rows.indptr)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        return sp.csr_matrix((rows.data, rows.indices, ends), shape=(len(row), self.n_features))

    @property
    def everything(self) -> sp.csr_matrix:
        """Counts of all cells, in memory."""
        return self.of(np.arange(self.n_cells))

    @property
    def measured(self) -> sp.csr_matrix:
        """Counts of all cells that have the modality, in memory."""
        return self.of(np.flatnonzero(self.is_present))

    def blocks(self) -> Iterator[sp.csr_matrix]:
        """Counts of all cells, some thousand at a time."""
        for start in range(0, self.n_cells, BLOCK):
            yield self.of(slice(start, min(start + BLOCK, self.n_cells)))

    def only(self, cells: np.ndarray) -> "Counts":
        """The counts of some cells, by their sorted indices, read when they are needed."""
        return Counts(self._matrix, cells if self._row is None else self._row[cells])

    def sample(self, cells: np.ndarray) -> "Counts":
        """The counts of some cells, by their sorted indices, in memory."""
        is_present = self.is_present[cells]
        row = np.where(is_present, np.arange(len(cells)), -1)
        return Counts(self._read(cells), None if is_present.all() else row)

    def _read(self, cells: np.ndarray) -> sp.csr_matrix:
        """Counts of cells, of a matrix on disk span by span."""
        if self._matrix.is_in_memory:
            return self.of(cells)
        pieces = np.split(cells, np.searchsorted(cells, range(SPAN, self.n_cells, SPAN)))
        parts = (self.only(piece) for piece in pieces if len(piece))
        options: dict[str, Any] = {"n_parts": len(pieces), "shown_as": "Reading cells"}
        found = list(in_parts(lambda _, part: part.everything, None, parts, **options))
        return sp.vstack(found, format="csr") if found else self.of(cells)


@dataclass(frozen=True)
class Cells:
    """What a model reads of cells, raw counts by kind; see :func:`read_cells`."""

    counts: dict[str, Counts]
    conditions: np.ndarray  # category of each condition key, (n_cells, n_keys) int64
    names: pd.Index
    embedding: np.ndarray | None = None  # the latent, where it is given, (n_cells, d)
    labels: np.ndarray | None = None  # by which cells are grouped, -1: none, (n_cells, 1) int64
    sizes: np.ndarray | None = None  # given library sizes, (n_cells, 1)
    data: Any = None  # the AnnData or MuData that these cells are all of; None for a sample

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.names)

    def only(self, cells: np.ndarray) -> "Cells":
        """Some of the cells, by their sorted indices, with counts that are read when needed."""
        counts = {kind: of_kind.only(cells) for kind, of_kind in self.counts.items()}
        return self._of(cells, counts)

    def sample(self, cells: np.ndarray) -> "Cells":
        """Some of the cells, by their sorted indices, in memory."""
        counts = {kind: of_kind.sample(cells) for kind, of_kind in self.counts.items()}
        return self._of(cells, counts)

    def _of(self, cells: np.ndarray, counts: dict[str, Counts]) -> "Cells":
        given = (
            None if of is None else of[cells] for of in (self.embedding, self.labels, self.sizes)
        )
        return Cells(counts, self.conditions[cells], self.names[cells], *given)


def read_cells(
    data: AnnData | MuData,
    sources: dict[str, Source],
    conditions: list[Condition],
    use_rep: str | None = None,
    labels: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> Cells:
    """Cells of checked data with the features of the model; counts are read when they are used."""
    counts = {
        kind: Counts(raw_counts(part_of(data, name), layer), row_of_cell(data, name))
        for kind, (name, layer) in sources.items()
    }
    codes = [
        pd.Index(categories).get_indexer(pd.Index(column_of(part_of(data, modality), key)))
        for key, categories, modality in conditions
    ]
    columns = np.stack(codes, 1) if codes else np.empty((data.n_obs, 0))
    embedding = None
    if use_rep is not None:
        embedding = np.asarray(loaded(data.obsm[use_rep]), dtype=np.float32)
    return Cells(counts, columns.astype(np.int64), names_of(data), embedding, labels, sizes, data)
