"""Number and sizes of the metacells of a model, as asked for."""

from numbers import Real
from typing import Any

import numpy as np
import torch

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.data._checks import check_n_metacells
from scmetaq.data._training_set import spread
from scmetaq.train import SizeBounds, bound_sizes

_MOST_SIMILARITIES = 25_000_000
"""Cells times metacells whose sizes are bounded; in double precision 200 MB."""


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
    cells = model._cells(model.adata)
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


def bound_sizes_of(model: Any, bounds: SizeBounds) -> None:
    """Bound the sizes of metacells of all cells, or of an even sample where there are many."""
    module, cells = model.module, model._cells(model.adata)
    n = max(_MOST_SIMILARITIES // model.n_metacells, 20 * model.n_metacells)
    if n < cells.n_cells:
        share = n / cells.n_cells
        cells = cells.sample(spread(cells.n_cells, n))
        least, most = max(1, int(bounds.least * share)), int(np.ceil(bounds.most * share))
        bounds = SizeBounds(least, most)
    z = torch.from_numpy(model._latents(cells)).to(module.device)
    found = bound_sizes(module.codebook, z, bounds, move_codes=model._recipe.refine)
    module.codebook.describe_cells(z, found, module.state_dimensions)
