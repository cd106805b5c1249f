"""Checks of columns that name the conditions of cells."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pandas as pd
from anndata import AnnData
from mudata import MuData

from ._validation import as_name, check_columns


class Condition(NamedTuple):
    """A condition that a model knows."""

    key: str
    """Column of ``obs``."""
    categories: list[Any]
    modality: str | None
    """Modality of a MuData whose ``obs`` has the column; None: that of all cells."""


def check_conditions(
    data: AnnData | MuData,
    batch_key: str | None,
    covariate_keys: list[str] | None,
    *,
    modalities: Mapping[str, str] | None = None,
) -> None:
    """Refuse columns of conditions that cannot be used, before any work starts.

    Parameters
    ----------
    data
        The cells.
    batch_key, covariate_keys
        Names of the columns.
    modalities
        Modality of a MuData whose ``obs`` has the columns of an argument.

    Raises
    ------
    TypeError, KeyError, ValueError
        Not names of columns, no such column, a column named twice, cells without a value, or more
        categories than cells can share.
    """
    if isinstance(covariate_keys, str):
        raise TypeError(
            "Expected categorical_covariate_keys to be a list of columns, found the text "
            f"{covariate_keys!r}. Pass [{covariate_keys!r}]."
        )
    if covariate_keys is not None and not isinstance(covariate_keys, list):
        raise TypeError(
            f"Expected categorical_covariate_keys to be a list of columns, found {covariate_keys!r}"
            f", a {type(covariate_keys).__name__}."
        )
    if batch_key is not None and not isinstance(batch_key, str):
        raise TypeError(
            f"Expected batch_key to be the name of a column, found {batch_key!r}. Further columns "
            "go into categorical_covariate_keys."
        )
    of_argument = condition_columns(batch_key, covariate_keys)
    every = [key for keys in of_argument.values() for key in keys]
    repeated = {key for key in every if every.count(key) > 1}
    if repeated:
        raise ValueError(f"Expected each condition once, found {min(repeated)!r} named repeatedly.")
    for argument, keys in of_argument.items():
        obs, where = _obs(data, argument, modalities or {}, keys)
        for key in keys:
            check_columns(obs, [key], where=where)
            _check_column(obs.obs[key], f"{where}.obs[{key!r}]")


def condition_columns(
    batch_key: str | None, covariate_keys: list[str] | None
) -> dict[str, list[str]]:
    """Columns of conditions by the argument of set-up that names them."""
    return {
        "batch_key": [] if batch_key is None else [batch_key],
        "categorical_covariate_keys": covariate_keys or [],
    }


@contextmanager
def without_unused_categories(
    data: AnnData | MuData, keys: Mapping[str, list[str]], modalities: Mapping[str, str]
) -> Iterator[None]:
    """Hide categories without a cell, which subsets of a MuData keep, from what is done inside.

    Parameters
    ----------
    data
        The cells, which are as they were afterwards.
    keys
        Columns of ``obs`` by argument.
    modalities
        Modality of a MuData whose ``obs`` has the columns of an argument.
    """
    before: list[Any] = []
    if data.is_view:  # which scvi-tools refuses
        keys = {}
    try:
        for argument, columns in keys.items():
            obs = part_of(data, modalities.get(argument)).obs
            for key in columns:
                column = obs[key]
                if isinstance(column.dtype, pd.CategoricalDtype):
                    used = column.cat.remove_unused_categories()
                    if len(used.cat.categories) < len(column.cat.categories):
                        before.append((obs, key, column))
                        obs[key] = used
        yield
    finally:
        for obs, key, column in before:
            obs[key] = column


def check_categories(data: AnnData | MuData, conditions: Iterable[Condition]) -> None:
    """Refuse new cells of conditions that a model does not know.

    Raises
    ------
    KeyError, ValueError
        No such column, or a category that the model has not seen.
    """
    for key, categories, modality in conditions:
        part = part_of(data, modality)
        check_has_modality(data, key, modality)
        whole = "adata" if isinstance(data, AnnData) else "mdata"
        check_columns(part, [key], where=whole if modality is None else f"{whole}[{modality!r}]")
        column = pd.Series(part.obs[key])
        known = [str(category) for category in categories]
        unknown = sorted(set(column.dropna().map(as_name)) - set(map(as_name, categories)))
        if not unknown and not set(column.dropna()) <= set(categories):
            raise ValueError(
                f"Expected {key!r} of new cells as {type(categories[0]).__name__}, as the model "
                f"knows its categories, found {column.dropna().iloc[0]!r}. Convert it, or use "
                "load_query_data, which does."
            )
        if unknown or column.isna().any():
            shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
            found = repr(unknown[0]) if unknown else "a missing value"
            raise ValueError(
                f"Expected {key!r} of new cells to be one of the {len(known)} categories that the "
                f"model knows ({shown}), found {found}. Map cells of new ones onto "
                "the model, load_query_data(adata, model), or train one with cells of them, too."
            )


def check_has_modality(data: AnnData | MuData, key: str, modality: str | None) -> None:
    """Refuse cells that lack the modality whose ``obs`` has a condition.

    Raises
    ------
    ValueError
        There are such cells; the message says how to train a model that takes them.
    """
    n_without = data.n_obs - part_of(data, modality).n_obs
    if n_without:
        raise ValueError(
            f"The model takes the condition {key!r} from the obs of its modality {modality!r}, "
            f"which {n_without} of {data.n_obs} new cells lack. Train a model that has the "
            f"condition in the obs of the MuData itself ({key!r} not in modalities=), or leave "
            "these cells out."
        )


def part_of(data: AnnData | MuData, modality: str | None) -> AnnData | MuData:
    if modality is None:
        return data
    assert isinstance(data, MuData)
    return data.mod[modality]


def _obs(
    data: AnnData | MuData, argument: str, modalities: Mapping[str, str], keys: list[str]
) -> tuple[AnnData | MuData, str]:
    """Whose ``obs`` has the columns of an argument, and what the user calls it."""
    name = modalities.get(argument)
    part = part_of(data, name)
    if name is None:
        return data, "mdata" if isinstance(data, MuData) else "adata"
    if keys and not part.obs_names.equals(data.obs_names):
        raise ValueError(
            f"Expected conditions of all {data.n_obs} cells, found {part.n_obs} cells, or another "
            f"order, in mdata[{name!r}]. Put the columns into mdata.obs."
        )
    return part, f"mdata[{name!r}]"


def _check_column(column: pd.Series, where: str) -> None:
    n_missing = int(column.isna().sum())
    if n_missing:
        raise ValueError(
            f"Expected a condition of every cell, found {n_missing} missing values in {where}. "
            'Fill them, e.g. with "unknown", or leave these cells out.'
        )
    if len({isinstance(value, str) for value in column.unique()}) > 1:
        raise TypeError(
            f"Expected values of one type in {where}, found text beside others. Make all text: "
            f"{where} = {where}.astype(str)."
        )
    n_categories = column.nunique()
    if n_categories > max(1, len(column) / 2):
        raise ValueError(
            f"Expected conditions that cells share, found {n_categories} different values for "
            f"{len(column)} cells in {where}: choose a column with categories."
        )
