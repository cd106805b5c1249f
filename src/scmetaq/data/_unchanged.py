from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from ._blocks import by_rows

_MOST_CELLS = 200
"""Cells that are looked at."""


def check_unchanged(adata: AnnData, names: pd.Index, *, layer: str | None, where: str) -> None:
    """Refuse cells that were changed after their set-up, as far as a glance at a few of them tells.

    Parameters
    ----------
    adata
        Cells that a model knows.
    names
        Features they had.
    layer
        Layer with the raw counts; None for ``X``.
    where
        What the user calls the data.

    Raises
    ------
    ValueError
        Other features than at the set-up, or values that are not counts.
    """
    if not adata.var_names.equals(names):
        raise ValueError(
            f"Expected the {len(names)} features that {where} had when it was set up, found "
            f"{adata.n_vars}, or others: it was changed in place. Pass the cells with all features."
        )
    counts = by_rows(adata.X if layer is None else adata.layers[layer])
    step = max(1, adata.n_obs // _MOST_CELLS)
    rows: Any = counts[: step * _MOST_CELLS : step]
    values = np.asarray(rows.data if sp.issparse(rows) else rows)
    if (values % 1 != 0).any():
        held = f"{where}.X" if layer is None else f"{where}.layers[{layer!r}]"
        raise ValueError(
            f"Expected raw counts (integers) in {held}, as when it was set up, found non-integer "
            "values: it was normalised since. Keep the counts in a layer, and name it in the "
            'set-up: adata.layers["counts"] = adata.X.copy(), layer="counts".'
        )
