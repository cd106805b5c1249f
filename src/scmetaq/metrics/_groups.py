"""Cells grouped by metacell: the one reading of an assignment that every metric shares."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import InputTypeError, InputValueError


class Groups(NamedTuple):
    """Cells sorted into named groups, each of at least one cell."""

    codes: np.ndarray
    """Position in ``names`` of each cell's group, ``(n_cells,)``; -1: in no group."""
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

    def series(self, values: np.ndarray, name: str) -> pd.Series:
        """Values of metacells, ``(n_groups,)``, indexed by their names."""
        return pd.Series(values, self.names.rename(_keys.METACELL), name=name)


class SizeSummary(NamedTuple):
    """Number and sizes of metacells.

    Attributes
    ----------
    n_metacells
        Number of metacells with at least one cell.
    unassigned
        Number of cells in no metacell.
    size_median, size_min, size_max
        Cells per metacell.
    size_cv
        Coefficient of variation of the sizes (standard deviation over mean); 0: all alike.
    """

    n_metacells: int
    unassigned: int
    size_median: float
    size_min: int
    size_max: int
    size_cv: float


def size_summary(assignment: ArrayLike) -> SizeSummary:
    """Count metacells, cells per metacell, and cells without a metacell.

    ``assignment`` is the metacell of each cell, shape ``(n_cells,)``; missing or -1: unassigned.
    """
    groups = group_cells(assignment)
    sizes = groups.sizes
    return SizeSummary(
        n_metacells=len(sizes),
        unassigned=len(groups.codes) - groups.n_grouped,
        size_median=float(np.median(sizes)),
        size_min=int(sizes.min()),
        size_max=int(sizes.max()),
        size_cv=float(sizes.std() / sizes.mean()),
    )


def factorize(values: Any) -> pd.Categorical:
    """Turn values into a Categorical of those present: it keeps its order, others are sorted.

    Values that are the same as text, such as 1 and ``"1"``, are one category: pandas reads a long
    column in parts, some as numbers and others as text.
    """
    column = pd.Categorical(values).remove_unused_categories()
    names = column.categories
    if pd.api.types.is_float_dtype(names):
        if not np.isfinite(names).all():
            problem = "Expected names or whole numbers, one per cell, found an infinite one."
            raise InputValueError(problem, "Mark cells that have none by a missing value.")
        # integers that share a column with missing values arrive as floats: 7, not 7.0, is the name
        if (names == names.round()).all():
            column = column.rename_categories(names.astype("int64"))
    return _merge_spellings(column) if names.dtype == object else column


def _merge_spellings(column: pd.Categorical) -> pd.Categorical:
    """Make one category of those that are the same as text: the number, if there is one."""
    names = [
        int(name) if isinstance(name, float) and name.is_integer() else name
        for name in column.categories
    ]
    chosen: dict[str, Any] = {}
    for name in names:
        if isinstance(chosen.get(str(name), ""), str):
            chosen[str(name)] = name
    place = pd.Index(chosen, dtype=object).get_indexer([str(name) for name in names])
    codes = np.append(place, -1)[column.codes]  # a missing value has the code -1
    kept = pd.Index(list(chosen.values()), dtype=object)
    return pd.Categorical.from_codes(codes, kept, ordered=column.ordered)


def factorize_metacells(assignment: pd.Series) -> pd.Categorical:
    """Factorize an assignment; -1, also as text, means "no metacell", as a missing value does."""
    column = factorize(assignment)
    return column.remove_categories([name for name in column.categories if str(name) == "-1"])


def group_cells(assignment: Any) -> Groups:
    """Read an assignment, leaving out cells without a metacell (missing, or -1)."""
    column = factorize_metacells(_one_column(assignment, "assignment"))
    if len(column.categories) == 0:
        raise InputValueError(
            f"Expected at least one cell with a metacell, found none among {len(column)} cells "
            "(missing values and -1 mean 'no metacell').",
            "Pass another assignment.",
            "assignment",
        )
    return Groups(column.codes.astype(np.int64), column.categories)


def group_labels(labels: Any, *, what: str = "labels") -> Groups:
    """Read labels as text, in alphabetical order, leaving out missing ones."""
    values = pd.Series(_one_column(labels, what))
    column = factorize(values.astype(object).where(values.notna(), None).map(str, "ignore"))
    if len(column.categories) == 0:
        raise InputValueError(
            f"Expected {what}, found {len(values)} cells of which every one is missing.",
            f"Pass {what} for at least one cell, or leave out the metrics that need them.",
            what,
        )
    return Groups(column.codes.astype(np.int64), column.categories)


def check_categories(values: Any, what: str) -> None:
    """Refuse decimal numbers as names, except the categories of a Categorical."""
    numbers = pd.Series(_one_column(values, what)).dropna().infer_objects()
    if not pd.api.types.is_float_dtype(numbers):
        return
    decimals = numbers[numbers != numbers.round()]
    if len(decimals) > 0:
        raise InputTypeError(
            f"Expected categories in `{what}`, found decimal numbers, e.g. {decimals.iloc[0]:.4g}.",
            "Bin them, e.g. with pandas' `cut`, or name another column; decimals that are names "
            'become categories by `.astype("category")`.',
            what.partition("=")[0],
        )


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
    if both_indexed and not first.index.equals(second.index):
        raise InputValueError(
            "Expected the same index in both, found different barcodes or another order.",
            "Align them, e.g. `assignment.reindex(labels.index)`, or pass arrays in one order.",
        )


def as_array(values: Any) -> Any:
    """Turn values into an array; NaN in a list of names does not become the text "nan"."""
    if isinstance(values, pd.api.extensions.ExtensionArray):
        return values
    return np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)


def _one_column(values: Any, what: str) -> Any:
    """Return one-dimensional values, keeping the dtype (a Categorical stays one)."""
    values = as_array(values.array if isinstance(values, pd.Series | pd.Index) else values)
    if values.ndim != 1 or len(values) == 0:
        raise InputValueError(
            f"Expected `{what}` with one value per cell, shape (n_cells,), "
            f"found shape {tuple(values.shape)}.",
            "Pass one non-empty column.",
            what,
        )
    return values
