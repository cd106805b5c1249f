"""One value per cell, taken from the data object or aligned to it by barcode."""

from typing import Any

import numpy as np
import pandas as pd


def cell_values(data: Any, values: Any, *, what: str) -> pd.Series:
    """Return one value per cell as a Series indexed by barcode.

    Parameters
    ----------
    data
        AnnData or MuData with ``n_cells`` cells.
    values
        Name of a column of ``data.obs``; or a Series, aligned by barcode; or an array of shape
        ``(n_cells,)`` in the order of the cells.
    what
        What the values are, for messages.
    """
    if isinstance(values, str):
        return _column(data, values, what)
    if isinstance(values, pd.Series):
        return _aligned(data.obs_names, values, what)
    if isinstance(values, pd.DataFrame):
        raise TypeError(
            f"Expected `{what}` as one column, found a DataFrame with the columns "
            f"{list(values.columns)}. Pass one of them, e.g. `frame[{values.columns[0]!r}]`."
        )
    return _positional(data.obs_names, values, what)


def _column(data: Any, name: str, what: str) -> pd.Series:
    if name not in data.obs:
        raise KeyError(
            f"Expected `{what}` to name a column of `obs`, found no {name!r}. "
            f"Columns there: {sorted(map(str, data.obs.columns))}."
        )
    return data.obs[name]


def _aligned(barcodes: pd.Index, values: pd.Series, what: str) -> pd.Series:
    if not values.index.is_unique:
        repeated = values.index[values.index.duplicated()][0]
        raise ValueError(
            f"Expected one value of `{what}` per barcode, found barcode {repeated!r} repeatedly. "
            "Remove the repeats."
        )
    absent = barcodes.difference(values.index)
    if len(absent) > 0:
        raise ValueError(
            f"Expected `{what}` for all {len(barcodes)} cells, found {len(absent)} barcodes "
            f"missing, e.g. {absent[0]!r}. Index the Series by `obs_names` "
            "(a missing value marks a cell without one), or pass an array in the cells' order."
        )
    return values.loc[barcodes]


def _positional(barcodes: pd.Index, values: Any, what: str) -> pd.Series:
    keeps_dtype = isinstance(values, pd.api.extensions.ExtensionArray)
    values = values if keeps_dtype else np.asarray(values)
    if values.shape != (len(barcodes),):
        raise ValueError(
            f"Expected `{what}` of shape ({len(barcodes)},), one value per cell, "
            f"found shape {tuple(values.shape)}. Pass the values of exactly these cells."
        )
    return pd.Series(values, index=barcodes)
