"""How many metacells a model has: as asked for, or by their mean size."""

from numbers import Real
from typing import Any

import numpy as np

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.data._checks import check_n_metacells


def n_metacells_of(model: Any, n_metacells: int | None, **size: float | None) -> int:
    """Number of metacells, given as it is or by a mean size in cells or counts.

    A model loaded for other cells may have more metacells than there are cells.
    """
    is_loading = model.adata is None or model.adata_manager._source_registry is not None
    n_cells = np.iinfo(np.int64).max if is_loading else model.adata.n_obs
    given = {name: value for name, value in size.items() if value is not None}
    if len(given) + (n_metacells is not None) > 1:
        problem = f"Expected one of n_metacells, {' and '.join(size)}, found several."
        raise InputValueError(problem, argument="n_metacells")
    for name, value in given.items():
        n_metacells = _by_mean_size(model, name, value)
    if n_metacells is None:
        advice = "" if is_loading else f": n_metacells={max(2, round(n_cells / 50))}"
        problem = "n_metacells is missing: how many metacells should there be?"
        fix = f"One per 50 cells is a good start{advice}."
        raise InputTypeError(problem, fix, "n_metacells")
    check_n_metacells(n_metacells, n_cells)
    return int(n_metacells)


def _by_mean_size(model: Any, name: str, size: float) -> int:
    is_number = isinstance(size, Real) and not isinstance(size, bool)
    if not is_number or not 0 < size < np.inf:
        problem = f"Expected {name} to be a number above zero, found {size!r}."
        raise InputTypeError(problem, argument=name)
    cells = model._cells(model.adata_manager)
    total, what = float(cells.n_cells), "cells"
    if name == "counts_per_metacell":
        counts = cells.counts.get("rna", next(iter(cells.counts.values())))
        total = sum(float(block.sum(dtype=np.float64)) for block in counts.blocks())
        what = "counts"
    n = round(total / size)
    if not 2 <= n < cells.n_cells:
        usual = total / max(2, round(cells.n_cells / 50))
        raise InputValueError(
            f"Expected {name} to give between 2 and {cells.n_cells - 1:,} metacells, found "
            f"{size:g}, which gives {n:,} of {total:,.0f} {what}.",
            f"A metacell of 50 cells has about {usual:,.0f}.",
            name,
        )
    return n
