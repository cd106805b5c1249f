"""What can be raw counts."""

import warnings
from collections.abc import Collection
from typing import Any

import numpy as np
import scipy.sparse as sp

_VALUES = 1 << 24
"""Values that are looked at at once."""


def check_count_values(X: Any, where: str, layers: Collection[str], *, stacklevel: int) -> None:
    """Refuse values that are negative, missing or infinite; warn of fractions.

    Parameters
    ----------
    X
        Cells by features, in memory or on disk, which is read in blocks.
    where
        What the user calls it.
    layers
        Layers there are.
    stacklevel
        How many calls up the warning belongs, from here.

    Raises
    ------
    ValueError
        Values that no count has.
    """
    X = X.data if sp.issparse(X) else X  # all values, or rows of them
    n_rows = max(1, _VALUES // (1 if len(X.shape) == 1 else max(X.shape[1], 1)))
    n_wrong, has_fractions = 0, False
    for start in range(0, X.shape[0], n_rows):
        block = X[start : start + n_rows]
        values = np.asarray(block.data if sp.issparse(block) else block)
        n_wrong += int((~((values >= 0) & np.isfinite(values))).sum())
        has_fractions = has_fractions or bool((values != np.floor(values)).any())
    if n_wrong:
        raise ValueError(
            f"Expected raw counts in {where}, found {n_wrong} values that are negative, NaN or "
            f"infinite. Name the layer with raw counts by `layer=`; layers: {list(layers)}."
        )
    if has_fractions:
        warnings.warn(
            f"Expected raw counts in {where}, found fractions. If these are normalised values, "
            f"name the layer with raw counts by `layer=`; layers: {list(layers)}.",
            UserWarning,
            stacklevel=stacklevel,
        )
