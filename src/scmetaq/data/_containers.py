"""Containers of cells: matrices in memory, on disk or lazy, all read by rows, and lazy tables.

What is here and nowhere else: dask arrays, datasets of h5py and zarr, sparse datasets of anndata,
and tables that :func:`anndata.experimental.read_lazy` leaves on disk.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset
from anndata.io import sparse_dataset

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq._parallel import is_worker

from ._damage import by_rows, check_ends, checked, refusing_damage
from ._plain import plain_column

_AHEAD = 4_096  # rows read at once of a matrix not in memory whose chunks are smaller
_MOST_VALUES = 1 << 25  # values of a dense matrix that are read at once
_FEW = 256  # rows that are read alone: so few are looked up, and no others follow


class Placed:
    """Columns of a matrix that is not in memory, in another order, among columns without counts.

    An array as far as AnnData is concerned. ``columns`` of the matrix are at the places where
    ``is_there`` is true; nothing is read before rows are asked for.
    """

    device = "cpu"
    ndim = 2

    def __init__(self, matrix: Any, columns: np.ndarray, is_there: np.ndarray):
        self.rows, self.columns, self.is_there = Rows(matrix), columns, is_there
        self.shape = matrix.shape[0], len(is_there)
        self.dtype, self.size = matrix.dtype, matrix.shape[0] * len(is_there)

    def __array_namespace__(self, **_: Any) -> Any:
        return np

    def to_device(self, device: str, /, **_: Any) -> "Placed":
        """Return the same: it is on disk."""
        return self

    def __getitem__(self, rows: Any) -> sp.csr_matrix:
        return self.of(self.rows[rows])

    def of(self, rows: Any) -> sp.csr_matrix:
        """Put the columns of rows that were read in their places."""
        chosen = sp.csr_matrix(rows[:, self.columns])
        place = np.flatnonzero(self.is_there)
        shape = chosen.shape[0], self.shape[1]
        return sp.csr_matrix((chosen.data, place[chosen.indices], chosen.indptr), shape=shape)


class Stacked(Placed):
    """Rows of several matrices with the same columns, one matrix after the other."""

    def __init__(self, pieces: list[Placed]):
        self.pieces, self.rows = pieces, max((of.rows for of in pieces), key=lambda of: of._unit)
        self.firsts = np.cumsum([0, *(of.shape[0] for of in pieces)])
        self.shape = int(self.firsts[-1]), pieces[0].shape[1]
        self.dtype, self.size = np.result_type(*(of.dtype for of in pieces)), np.prod(self.shape)

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        start, stop, _ = rows.indices(self.shape[0])
        near = zip(self.firsts, self.firsts[1:], self.pieces, strict=False)
        found = [
            piece[max(start - first, 0) : min(stop, end) - first]
            for first, end, piece in near
            if first < stop and start < end
        ]
        return sp.vstack(found, format="csr") if found else self.pieces[0][:0]


class Rows:
    """Rows of a matrix of any kind, as CSR or dense arrays in memory; columns become CSR once.

    Rows that follow those asked for are read along with them and kept until the next are read:
    chunks on disk are read, and those of dask computed, once when all rows are read.
    """

    def __init__(self, matrix: Any):
        self._matrix: Any = by_rows(native(matrix)) if sp.issparse(matrix) else matrix
        self.shape: tuple[int, int] = tuple(matrix.shape)
        self.is_in_memory = is_in_memory(matrix)
        self._ends = np.cumsum([0, *matrix.chunks[0]]) if _is_dask(matrix) else None
        self._unit = _rows_of_chunk(matrix)
        most = self.shape[0] if _is_sparse(matrix) else _MOST_VALUES // (self.shape[1] + 1) + 1
        self._window = max(min(_AHEAD, most), min(self._unit, 4 * most))
        self._start, self._kept = 0, None

    def __getitem__(self, rows: slice | np.ndarray) -> Any:
        if self.is_in_memory:
            return native(checked(self._matrix[rows]))
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            return self._span(start, stop)
        rows = np.asarray(rows)
        ascending, place = np.unique(rows, return_inverse=True)
        if len(ascending) < len(rows) or (np.diff(rows) < 0).any():
            return self[ascending][place]
        # as few and as short pieces as chunks allow
        is_end = (np.diff(rows) > self._unit) | (np.diff(rows // self._window) > 0)
        pieces = np.split(rows, np.flatnonzero(is_end) + 1) if len(rows) else []
        return self._stacked([self._span(p[0], p[-1] + 1)[p - p[0]] for p in pieces])

    def __reduce__(self) -> tuple:
        # files of HDF5 are opened again in the process that reads from them
        node = getattr(self._matrix, "group", self._matrix)
        if isinstance(node, h5py.Group | h5py.Dataset):
            return _reopened, (node.file.filename, node.name, node is not self._matrix)
        return Rows, (self._matrix,)

    def spans(self, size: int) -> list["Span"]:
        """All rows, ``size`` at a time, to be read by whoever needs them."""
        starts = range(0, self.shape[0], size)
        return [Span(self, start, min(start + size, self.shape[0])) for start in starts]

    def _span(self, start: int, stop: int) -> Any:
        """Rows that follow each other, of those kept if they are among them."""
        kept, last = self._kept, self._start
        if kept is None or not last <= start < last + kept.shape[0]:
            kept, last = None, start
        end = last if kept is None else last + kept.shape[0]
        if stop > end:
            until = stop if stop - start < _FEW else max(stop, start + self._window)
            pieces: list[Any] = [] if kept is None else [kept[start - last :]]
            first, block = self._read(end, min(until, self.shape[0]))
            last = first if kept is None else start
            kept = self._stacked([*pieces, block])
            self._start, self._kept = last, kept
        if kept is None:
            return self._stacked([])
        if start == last and stop == last + kept.shape[0]:
            self._kept = kept if stop - start <= self._window else None
            return kept
        return kept[start - last : stop - last]

    def _read(self, start: int, stop: int) -> tuple[int, Any]:
        """Rows as the matrix gives them, of dask whole chunks, and which is the first."""
        if self._ends is None:
            with refusing_damage(self._matrix, start, stop):
                if start == 0:
                    check_ends(self._matrix)
                return start, native(checked(self._matrix[start:stop]))
        import dask

        chunks = range(
            int(np.searchsorted(self._ends, start, "right")) - 1,
            int(np.searchsorted(self._ends, stop, "left")),
        )
        n_across = len(self._matrix.chunks[1])
        grid = [[self._matrix.blocks[i, j] for j in range(n_across)] for i in chunks]
        # a task that waits for others would keep its thread from them
        (found,) = dask.compute(grid, scheduler="synchronous" if is_worker() else None)
        rows = [_beside([checked(chunk) for chunk in row]) for row in found]
        return int(self._ends[chunks[0]]), native(self._stacked(rows))

    def _stacked(self, pieces: list[Any]) -> Any:
        if not pieces:
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        if len(pieces) == 1:
            return pieces[0].tocsr() if sp.issparse(pieces[0]) else pieces[0]
        is_sparse = any(map(sp.issparse, pieces))
        return sp.vstack(pieces, format="csr") if is_sparse else np.concatenate(pieces)


class Span:
    """Some rows of a matrix that follow each other; another process gets no others."""

    def __init__(self, rows: Rows, start: int, stop: int):
        self._rows, self._start, self._stop = rows, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __reduce__(self) -> tuple:
        if self._rows.is_in_memory:
            return Span, (Rows(self._rows[self._start : self._stop]), 0, len(self))
        return Span, (self._rows, self._start, self._stop)

    def blocks(self, size: int) -> Iterator[Any]:
        """The rows, ``size`` at a time."""
        for start in range(self._start, self._stop, size):
            yield self._rows[start : min(start + size, self._stop)]


def _reopened(file: str, name: str, is_sparse: bool) -> Rows:
    node = h5py.File(file, "r")[name]
    return Rows(sparse_dataset(node) if is_sparse else node)


def is_in_memory(matrix: Any) -> bool:
    """Whether a matrix is a numpy array or a scipy sparse matrix."""
    return isinstance(matrix, np.ndarray) or sp.issparse(matrix)


def in_memory(matrix: Any) -> Any:
    """Return a matrix, in numbers that scipy knows, if it is in memory, else all of its rows."""
    return native(matrix) if is_in_memory(matrix) else Rows(matrix)[:]


def native(matrix: Any) -> Any:
    """Return a matrix in memory in numbers that scipy knows: no half precision, no big-endian."""
    dtype = np.dtype(np.float32) if matrix.dtype == np.float16 else matrix.dtype.newbyteorder("=")
    return matrix if matrix.dtype == dtype else matrix.astype(dtype)


def loaded(values: Any) -> Any:
    """Return a copy of an array or a table in memory, of whatever kind it is."""
    if hasattr(values, "to_memory"):
        return values.to_memory()
    is_copied = isinstance(values, pd.DataFrame) or sp.issparse(values)
    return values.copy() if is_copied else np.array(values)


def check_readable(matrix: Any, held: str, argument: str | None = None) -> None:
    """Refuse a matrix of an unknown kind, or one whose rows cannot be read alone."""
    is_by_rows = isinstance(matrix, h5py.Dataset | zarr.Array | CSRDataset | Placed)
    meta = getattr(matrix, "_meta", None)
    is_known = is_in_memory(matrix) or is_by_rows or isinstance(matrix, CSCDataset)
    if not is_known and not (_is_dask(matrix) and is_in_memory(meta)):
        inside = f" of {type(meta).__name__}" if _is_dask(matrix) else ""
        problem = f"Expected {held} as a numpy array, a scipy sparse matrix, a dask array of these"
        raise InputTypeError(
            f"{problem}, or a dataset of h5py, zarr or anndata.io.sparse_dataset, found "
            f"{type(matrix).__name__}{inside}.",
            f"Convert it: {held} = scipy.sparse.csr_matrix(...).",
            argument,
        )
    if matrix.dtype.kind not in "biuf":
        problem = f"Expected real numbers in {held}, found values of the type {matrix.dtype}."
        raise InputTypeError(problem, "If they are counts: .astype(np.float32).", argument)
    is_by_columns = isinstance(matrix, CSCDataset) or (
        _is_dask(matrix) and len(matrix.chunks[0]) == 1 < len(matrix.chunks[1])
    )
    if is_by_columns and matrix.shape[0] > _AHEAD:
        raise InputValueError(
            f"Expected {held} stored or chunked by cells (CSR), found it by features (CSC): every "
            f"block of its {matrix.shape[0]} cells would read the whole matrix.",
            "Load the cells with their to_memory(), or write them once in CSR form: load them, "
            "X = X.tocsr(), write_h5ad(path).",
            argument,
        )


def readable(data: Any) -> Any:
    """Return the data, or, of an AnnData with tables on disk, one of our own that shares counts."""
    if not isinstance(data, AnnData) or isinstance(data.obs, pd.DataFrame):
        return data
    for what, of in (("cells", data.obs), ("features", data.var)):
        if not isinstance(of, pd.DataFrame) and of.true_index_dim != of.index_dim:
            problem = f"Expected names of {what} in memory, found their positions: the data were"
            fix = "Leave it out: anndata.experimental.read_lazy(path)."
            raise InputValueError(f"{problem} read with load_annotation_index=False.", fix)
    layers = {name: layer for name, layer in data.layers.items() if name is not None}
    tables = [loaded(of) for of in (data.obs, data.var)]
    return AnnData(
        data.X,
        *tables,
        layers=layers,
        obsm={k: loaded(v) if hasattr(v, "to_memory") else v for k, v in data.obsm.items()},
        varm={k: loaded(v) for k, v in data.varm.items()},
    )


def column_of(part: Any, key: str) -> pd.Series:
    """Return a plain column of ``obs``; of a table on disk only this one is read."""
    obs = part.obs
    return plain_column(obs[key] if isinstance(obs, pd.DataFrame) else loaded(obs[[key]])[key])


def names_of(data: Any) -> pd.Index:
    """Return the barcodes, without the name that tables on disk give them."""
    return data.obs_names if isinstance(data.obs, pd.DataFrame) else data.obs_names.rename(None)


def check_is_no_view(data: Any, where: str) -> None:
    """Refuse a view, which scvi-tools cannot register."""
    if data.is_view:
        copy = f"{where}.to_memory()" if data.isbacked else f"{where}.copy()"
        problem = f"Expected cells with counts of their own, found a view of others in {where}."
        raise InputValueError(problem, f"Copy it first: {where} = {copy}.")


def without_view_of_file(data: Any) -> Any:
    """Return the data, or a copy in memory of the cells that a view of a file holds."""
    is_view_of_file = isinstance(data, AnnData) and data.is_view and data.isbacked
    return data.to_memory() if is_view_of_file else data


def check_can_be_written(data: Any) -> None:
    """Refuse cells that a model cannot be saved together with."""
    for part in getattr(data, "mod", {"": data}).values():
        has_placed = any(isinstance(of, Placed) for of in (part.X, *part.layers.values()))
        if has_placed or not isinstance(part.obs, pd.DataFrame):
            problem = "Expected cells in memory or in one file to save them too, found lazy ones."
            fix = "Save without them, and load with the same cells: load(dir_path, adata)."
            raise InputValueError(problem, fix, "save_anndata")


def _is_dask(matrix: Any) -> bool:
    return hasattr(matrix, "__dask_graph__")


def _is_sparse(matrix: Any) -> bool:
    inner = getattr(matrix, "_meta", matrix)
    return sp.issparse(inner) or isinstance(inner, CSRDataset | CSCDataset | Placed)


def _rows_of_chunk(matrix: Any) -> int:
    """Rows that a chunk on disk holds, about; of dask, the largest."""
    if isinstance(matrix, Placed):
        return matrix.rows._unit
    if _is_dask(matrix):
        return max(matrix.chunks[0])
    if isinstance(matrix, CSRDataset):
        values = matrix.group["data"]  # type: ignore[attr-defined]
        return max(1, (values.chunks or (1,))[0] * matrix.shape[0] // max(1, values.shape[0]))
    return (getattr(matrix, "chunks", None) or (1,))[0]


def _beside(chunks: list[Any]) -> Any:
    """Chunks of the same rows as one."""
    if len(chunks) == 1:
        return chunks[0]
    return sp.hstack(chunks, format="csr") if sp.issparse(chunks[0]) else np.hstack(chunks)
