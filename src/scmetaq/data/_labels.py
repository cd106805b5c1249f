"""Columns that hold labels of cells."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from ._mudata_validation import check_mudata_columns
from ._validation import as_name, check_columns, is_unlabeled


class Labels(NamedTuple):
    """Labels of cells."""

    names: list[str]
    """Names of the labels, sorted."""
    codes: np.ndarray
    """Position of each cell's label among the names, -1 without one, ``(n_cells,)`` int64."""


def label_keys(keys: str | list[str] | None) -> list[str]:
    """Columns of labels, however many were named."""
    return [keys] if isinstance(keys, str) else list(keys or [])


def check_labels(
    data: AnnData | MuData,
    labels_key: str | list[str] | None,
    unlabeled_category: str,
    *,
    modalities: Mapping[str, str] | None = None,
) -> None:
    """Refuse columns of labels that cannot be used, before any work starts.

    Parameters
    ----------
    data
        The cells.
    labels_key
        Names of the columns.
    unlabeled_category
        Value that means "no label".
    modalities
        Modality of a MuData whose ``obs`` has the columns of an argument.

    Raises
    ------
    TypeError, KeyError, ValueError
        Not names of columns, no such column, a column named twice, no label at all, or none that
        two cells share.
    """
    if labels_key is not None and not isinstance(labels_key, str | list | tuple):
        raise TypeError(
            "Expected labels_key to be the name of a column or a list of them, found "
            f"{labels_key!r}."
        )
    keys = label_keys(labels_key)
    repeated = {key for key in keys if keys.count(key) > 1}
    if repeated:
        raise ValueError(f"Expected each labels_key once, found {min(repeated)!r} repeatedly.")
    where = modalities or {}
    if isinstance(data, MuData):
        check_mudata_columns(data, {"labels_key": keys}, where, unlabeled_category)
    else:
        check_columns(data, keys, missing_value=unlabeled_category)
    for key in keys:
        names, codes = read_labels(data, key, unlabeled_category, where.get("labels_key"))
        if len(names) == (codes >= 0).sum():
            raise ValueError(
                f"Expected labels that cells share, found {len(names)} different values for as "
                f"many cells in obs[{key!r}]: choose a column with categories."
            )


def read_labels(
    data: AnnData | MuData, key: str, unlabeled_category: str, modality: str | None = None
) -> Labels:
    """Labels of cells by a column of ``obs``; none of any cell where the column is missing.

    Numbers become text, whole ones without a fraction: pandas turns a column of whole numbers into
    decimal ones as soon as a value is missing.

    Parameters
    ----------
    data
        The cells.
    key
        Name of the column.
    unlabeled_category
        Value that means "no label", as a missing value does.
    modality
        Modality of a MuData whose ``obs`` has the column; cells that it lacks have no label.
    """
    obs = data.obs if modality is None else _mod(data, modality).obs
    if key not in obs:
        return Labels([], np.full(data.n_obs, -1))
    column: Any = obs[key].astype(object)
    column = column.where(column.notna() & ~is_unlabeled(column, unlabeled_category))
    column = column.map(as_name, na_action="ignore").reindex(data.obs_names)
    codes, names = pd.factorize(column, sort=True)
    return Labels([str(name) for name in names], codes.astype(np.int64))


def _mod(data: AnnData | MuData, modality: str) -> AnnData:
    assert isinstance(data, MuData)
    return data.mod[modality]
