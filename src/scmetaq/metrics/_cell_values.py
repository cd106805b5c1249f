"""One value per cell, taken from the data object or aligned to it by barcode."""

from typing import Any

import pandas as pd

from scmetaq.metrics._groups import as_array

_OF = ":"
"""Between a modality and its column."""


def cell_values(data: Any, values: Any, *, what: str) -> pd.Series:
    """Return one value per cell as a Series indexed by barcode.

    Parameters
    ----------
    data
        AnnData or MuData with ``n_cells`` cells.
    values
        Name of a column of ``obs``, as of :func:`find_column`; or a Series, aligned by barcode;
        or an array of shape ``(n_cells,)`` in the order of the cells.
    what
        What the values are, for messages.
    """
    if isinstance(values, str):
        owner, column = find_column(data, values, what=what)
        # cells that lack the modality lack the value
        return owner.obs[column] if owner is data else owner.obs[column].reindex(data.obs_names)
    if isinstance(values, pd.Series):
        return _aligned(data.obs_names, values, what)
    if isinstance(values, pd.DataFrame):
        raise TypeError(
            f"Expected `{what}` as one column, found a DataFrame with the columns "
            f"{list(values.columns)}. Pass one of them, e.g. `frame[{values.columns[0]!r}]`."
        )
    return _positional(data.obs_names, values, what)


def find_column(data: Any, name: str, *, what: str) -> tuple[Any, str]:
    """Find where a column is.

    Parameters
    ----------
    data
        AnnData or MuData.
    name
        Column of ``obs``; of a MuData also of a modality, as in ``"rna:cell_type"``, which wins
        over a copy of that name that the MuData may have pulled from there.
    what
        What the caller calls the name, for messages.

    Returns
    -------
    What has it, ``data`` or one of its modalities, and the name of the column there.

    Raises
    ------
    KeyError
        There is none; the message lists those there are.
    """
    parts = getattr(data, "mod", {})
    modality, _, column = name.partition(_OF)
    if modality in parts and column in parts[modality].obs:
        return parts[modality], column
    if name in data.obs:
        return data, name
    own = {str(c) for c in data.obs}
    own |= {f"{key}{_OF}{c}" for key, part in parts.items() for c in part.obs}
    own = {column for column in own if "_scvi" not in column}  # what set-up wrote
    raise KeyError(
        f"Expected `{what}` to name a column of `obs`, found no {name!r}. "
        f"Columns there: {sorted(own)}."
    )


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
    values = as_array(values)
    if values.shape != (len(barcodes),):
        raise ValueError(
            f"Expected `{what}` of shape ({len(barcodes)},), one value per cell, "
            f"found shape {tuple(values.shape)}. Pass the values of exactly these cells."
        )
    return pd.Series(values, index=barcodes).infer_objects()
