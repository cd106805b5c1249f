"""Matrices and assignments of cells as every metric reads them: rows, groups, unit vectors."""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmetaq import _keys
from scmetaq._errors import (
    InputKeyError,
    InputTypeError,
    InputValueError,
    check_there,
    check_unique,
)
from scmetaq._progress import with_progress
from scmetaq.data._columns import same_names
from scmetaq.data._plain import plain_column

from ._log_counts import LogCounts

PCA = "pca"  # name of an embedding that is computed by the metrics
_LARGEST = 1e100  # coordinates must be below: distances are squared


class Groups(NamedTuple):
    """Cells sorted into named groups, each of at least one cell."""

    codes: np.ndarray  # position in `names` of each cell's group, (n_cells,); -1: in no group
    names: pd.Index

    @property
    def sizes(self) -> np.ndarray:
        """Number of cells per group."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))

    @property
    def n_grouped(self) -> int:
        """Number of cells that are in a group."""
        return int((self.codes >= 0).sum())

    @property
    def members(self) -> list[np.ndarray]:
        """Ascending positions of each group's cells."""
        order = np.argsort(self.codes, kind="stable")[len(self.codes) - self.n_grouped :]
        return np.split(order, np.cumsum(self.sizes)[:-1])

    def chunks(
        self, n_cells: int, n_groups: int, shown_as: str
    ) -> Iterator[tuple[slice, list[np.ndarray], np.ndarray]]:
        """Some groups at a time, their cells in parts of ``n_cells``, and where each group starts.

        All are in the first part, but for a larger group, which is alone.
        """
        order, sizes = np.concatenate(self.members), self.sizes
        ends, first, chunks = np.cumsum(sizes), 0, []
        while first < len(sizes):
            begin = ends[first] - sizes[first]
            last = min(np.searchsorted(ends, begin + n_cells, "right"), first + n_groups)
            chosen = slice(first, max(first + 1, int(last)))
            end, first = ends[chosen.stop - 1], chosen.stop
            chunks.append((chosen, begin, end, ends[chosen] - sizes[chosen] - begin))
        for chosen, begin, end, starts in with_progress(chunks, shown_as, len(chunks)):
            parts = [order[at : min(at + n_cells, end)] for at in range(begin, end, n_cells)]
            yield chosen, parts, starts

    def sums(
        self,
        X: Any,
        sums_of: Callable[..., np.ndarray],
        *,
        n_cells: int,
        n_groups: int = 256,
        shown_as: str,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Sums over the cells of each group, of a bounded number of groups and cells at a time.

        ``sums_of`` gets rows of ``X``, sorted by group, and where in these each group starts.
        """
        for chosen, parts, starts in self.chunks(n_cells, n_groups, shown_as):
            yield chosen, reduce(np.add, (sums_of(X[part], starts) for part in parts))

    def series(self, values: np.ndarray, name: str) -> pd.Series:
        """Values of metacells, ``(n_groups,)``, indexed by their names."""
        return pd.Series(values, self.names.rename(_keys.METACELL), name=name)


def factorize(values: Any) -> pd.Categorical:
    """Turn values into a Categorical of those present: it keeps its order, others are sorted.

    Values that are the same as text, such as 1 and ``"1"``, are one category: pandas reads a long
    column in parts, some as numbers and others as text.
    """
    column = pd.Categorical(plain_column(pd.Series(values))).remove_unused_categories()
    names = column.categories
    if pd.api.types.is_float_dtype(names):
        if not np.isfinite(names).all():
            problem = "Expected names or whole numbers, one per cell, found an infinite one."
            raise InputValueError(problem, "Mark cells that have none by a missing value.")
        # integers that share a column with missing values arrive as floats: 7, not 7.0, is the name
        if (names == names.round()).all():
            column = column.rename_categories(names.astype("int64"))
    return column


def as_categories(values: pd.Series) -> pd.Series:
    """The same values as a column of categories, whose names alone are read from then on."""
    return pd.Series(factorize(values), values.index, name=values.name)


def factorize_metacells(assignment: pd.Series) -> pd.Categorical:
    """Factorize an assignment; -1, also as text, means "no metacell", as a missing value does."""
    column = factorize(assignment)
    return column.remove_categories([name for name in column.categories if str(name) == "-1"])


def group_cells(assignment: Any, where: str = "") -> Groups:
    """Read an assignment, leaving out cells without a metacell (missing, or -1)."""
    column = factorize_metacells(_one_column(assignment, "assignment"))
    if len(column.categories) == 0:
        problem = f"Expected at least one cell with a metacell{where}, found none among"
        problem += f" {len(column)} cells (missing values and -1 mean 'no metacell')."
        raise InputValueError(problem, "Pass another assignment.", "assignment")
    return Groups(column.codes.astype(np.int64), column.categories)


def group_labels(labels: Any, *, what: str = "labels") -> Groups:
    """Read labels as text, in alphabetical order, leaving out missing ones."""
    values = _one_column(labels, what)
    column = factorize(values)
    if len(column.categories) == 0:
        problem = f"Expected {what}, found {len(values)} cells of which every one is missing."
        fix = f"Pass {what} for at least one cell, or leave out the metrics that need them."
        raise InputValueError(problem, fix, what)
    names, codes = np.unique([*map(_keys.as_name, column.categories)], return_inverse=True)
    return Groups(np.append(codes, -1)[column.codes], pd.Index(names.tolist()))


def check_categories(values: Any, what: str) -> None:
    """Refuse decimal numbers as names, except the categories of a Categorical."""
    numbers = pd.Series(_one_column(values, what)).dropna().infer_objects()
    if not pd.api.types.is_float_dtype(numbers):
        return
    decimals = numbers[numbers != numbers.round()]
    if len(decimals) > 0:
        problem = f"Expected categories in `{what}`, found decimal numbers, e.g."
        fix = "Bin them, e.g. with pandas' `cut`, or name another column; decimals that are names "
        fix += 'become categories by `.astype("category")`.'
        raise InputTypeError(f"{problem} {decimals.iloc[0]:.4g}.", fix, what.partition("=")[0])


def check_same_cells(first: Any, second: Any) -> None:
    """Refuse two columns that are not about the same cells in the same order."""
    if len(first) != len(second):
        found = f"{len(first)} and {len(second)}"
        problem = f"Expected one value per cell in both columns, found {found}."
        raise InputValueError(problem, "Pass two columns of the same cells.")
    check_same_order(first, second)


def check_same_order(first: Any, second: Any) -> None:
    """Refuse two tables or columns that both have an index, but not the same."""
    both_indexed = all(isinstance(of, pd.Series | pd.DataFrame) for of in (first, second))
    if both_indexed and not same_names(first.index, second.index):
        problem = "Expected the same index in both, found different barcodes or another order."
        fix = "Align them, e.g. `assignment.reindex(labels.index)`, or pass arrays in one order."
        raise InputValueError(problem, fix)


def as_array(values: Any) -> Any:
    """Turn values into an array; NaN in a list of names does not become the text "nan"."""
    if isinstance(values, pd.api.extensions.ExtensionArray):
        return values
    return np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)


def _one_column(values: Any, what: str) -> Any:
    """Return one-dimensional values, keeping the dtype (a Categorical stays one)."""
    values = as_array(values.array if isinstance(values, pd.Series | pd.Index) else values)
    if values.ndim != 1 or len(values) == 0:
        problem = f"Expected `{what}` with one value per cell, shape (n_cells,), found"
        fix = "Pass one non-empty column."
        raise InputValueError(f"{problem} shape {tuple(values.shape)}.", fix, what)
    return values


def as_matrix(values: Any, name: str, shape: str) -> np.ndarray | sp.csr_array:
    """Return numbers as an array or in CSR form; ``shape`` says what rows and columns are."""
    values = np.asarray(values) if isinstance(values, list) else values
    n_dimensions = getattr(values, "ndim", "no")
    if n_dimensions != 2:
        problem = f"Expected `{name}` as a {shape} matrix (numpy array, DataFrame or scipy sparse),"
        problem += f" found {type(values).__name__} with {n_dimensions} dimensions."
        fix = (
            "Of an AnnData pass a matrix, e.g. `adata.X` after log-normalisation, or an embedding."
        )
        raise InputTypeError(problem, fix, name)
    matrix = sp.csr_array(values) if sp.issparse(values) else np.asarray(values)
    if matrix.dtype.kind not in "biuf":
        problem = f"Expected real numbers in `{name}`, found values of the type {matrix.dtype}."
        fix = f"If they are, convert them: `{name}.astype(float)`; leave columns of text out."
        raise InputTypeError(problem, fix, name)
    return matrix


def check_rows(X: Any, n_rows: int, assignment: Any, name: str = "X") -> None:
    """Refuse an assignment of other cells, or of cells in another order."""
    if n_rows != len(assignment):
        problem = f"Expected one metacell per row of `{name}`, found {len(assignment)} for"
        fix = "Pass the assignment of exactly these cells."
        raise InputValueError(f"{problem} {n_rows} rows.", fix, "assignment")
    check_same_order(X, assignment)


def grouped_rows(X: Any, assignment: Any) -> tuple[Any, Groups]:
    """Check a matrix against an assignment; return it row-sliceable, with the cells' groups."""
    matrix: Any = X if isinstance(X, LogCounts) else as_matrix(X, "X", "cells by features")
    check_rows(X, matrix.shape[0], assignment)
    if isinstance(X, LogCounts):  # checked when it was made
        return X, group_cells(assignment)
    if not np.isfinite(matrix.data if sp.issparse(matrix) else matrix).all():
        problem = "Expected finite values in `X`, found NaN or infinity."
        fix = "Remove or replace them; similarities and distances are undefined there."
        raise InputValueError(problem, fix, "X")
    return matrix, group_cells(assignment)


def as_embedding(values: Any, name: str) -> np.ndarray:
    """Coordinates of cells, N x D, which must be dense and finite, also after squaring."""
    if sp.issparse(values):
        problem = f"Expected `{name}` as a dense array, found a sparse matrix."
        raise InputTypeError(problem, 'Pass e.g. `adata.obsm["X_pca"]`.', name)
    matrix = np.ascontiguousarray(as_matrix(values, name, "cells by dimensions"), dtype=np.float64)
    n_bad = int((~(np.abs(matrix) < _LARGEST)).any(axis=1).sum())
    if n_bad or matrix.shape[1] == 0:
        problem = f"Expected `{name}` of shape (n, d) with finite numbers, found shape"
        raise InputValueError(
            f"{problem} {matrix.shape} with missing or huge ones in {n_bad} cells.", argument=name
        )
    return matrix


def unit_rows(X: Any, weights: np.ndarray | None = None) -> np.ndarray:
    """Centre each row and scale it to length one: dot products are Pearson correlations.

    ``weights`` are those of the columns, with mean one. A row without spread has no Pearson
    correlation; it becomes zeros, as if uncorrelated.
    """
    dense = np.array(X.toarray() if sp.issparse(X) else X, np.float64)  # N x F
    # a constant row keeps a rounding error after centring: measure against its length before
    floor = 1e-10 * np.linalg.norm(dense, axis=1, keepdims=True)
    dense -= np.average(dense, axis=1, weights=weights, keepdims=True)
    dense *= 1 if weights is None else np.sqrt(weights)
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.divide(dense, length, out=np.zeros_like(dense), where=length > floor)


def cell_values(data: Any, values: Any, *, what: str) -> pd.Series:
    """Values of a column, of a Series by barcode or of an array, as a Series by barcode."""
    if isinstance(values, str):
        owner, column = find_column(data, values, what=what)
        # cells that lack the modality lack the value
        return owner.obs[column] if owner is data else owner.obs[column].reindex(data.obs_names)
    if isinstance(values, pd.Series):
        check_unique(values.index, f"barcodes in `{what}`", "remove the repeats", what)
        absent = data.obs_names.difference(values.index)
        if len(absent) > 0:
            problem = f"Expected `{what}` for all {data.n_obs} cells, found {len(absent)} barcodes"
            fix = "Index it by `obs_names`, with missing values for cells without, or an array."
            raise InputValueError(f"{problem} missing, e.g. {absent[0]!r}.", fix, what)
        return values.loc[data.obs_names]
    if isinstance(values, pd.DataFrame):
        names = list(values.columns)
        problem = f"Expected `{what}` as one column, found a DataFrame with the columns {names}."
        raise InputTypeError(problem, f"Pass one of them, e.g. `frame[{names[0]!r}]`.", what)
    barcodes, values = data.obs_names, as_array(values)
    if values.shape != (len(barcodes),):
        problem = f"Expected `{what}` of shape ({len(barcodes)},), one value per cell, found"
        fix = "Pass the values of exactly these cells."
        raise InputValueError(f"{problem} shape {tuple(values.shape)}.", fix, what)
    return pd.Series(values, index=barcodes).infer_objects()


def find_column(data: Any, name: str, *, what: str) -> tuple[Any, str]:
    """What has a column, ``data`` or a modality, as in ``"rna:cell_type"``; and its name there."""
    parts = getattr(data, "mod", {})
    modality, _, column = name.partition(":")
    if modality in parts and column in parts[modality].obs:  # not a copy pulled from there
        return parts[modality], column
    if name in data.obs:
        return data, name
    own = {str(c) for c in data.obs}
    own |= {f"{key}:{c}" for key, part in parts.items() for c in part.obs}
    own = {column for column in own if "_scvi" not in column}  # what set-up wrote
    problem = f"Expected `{what}` to name a column of `obs`, found no {name!r}. Columns there:"
    raise InputKeyError(f"{problem} {sorted(own)}.", argument=what)


def reps_of(adata: Any) -> list[str]:
    """Names of the embeddings, and of the one that can be computed."""
    return [PCA, *sorted(map(str, adata.obsm))]


def check_rep(cells: Any, use_rep: str | None) -> None:
    """Refuse an embedding that an AnnData, or every modality of several, lacks."""
    check_there(cells, use_rep, reps_of, "use_rep", "an embedding in `obsm`")
