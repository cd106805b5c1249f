"""Columns of ``obs`` that a model reads: labels and conditions of cells."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq._errors import InputKeyError, InputTypeError, InputValueError, listed
from scmetaq._keys import as_name, is_bookkeeping

from ._cells import Condition, called, own_name, part_of
from ._containers import column_of
from ._plain import plain_column


class Labels(NamedTuple):
    """Labels of cells."""

    names: list[str]  # names of the labels, sorted
    codes: np.ndarray  # place of each cell's label among these, -1 without one, (n_cells,) int64

    def among(self, known: list[str]) -> np.ndarray:
        """Position of each cell's label among known names, -1 without one of them."""
        place = pd.Index(known, dtype=object).get_indexer(pd.Index(self.names, dtype=object))
        return np.append(place, -1)[self.codes]


def label_keys(keys: str | list[str] | None) -> list[str]:
    """Columns of labels, of a name or a list of them."""
    return [keys] if isinstance(keys, str) else list(keys or [])


def condition_columns(
    batch_key: str | None, covariate_keys: list[str] | None
) -> dict[str, list[str]]:
    """Columns of conditions by the argument of set-up that names them."""
    return {
        "batch_key": [] if batch_key is None else [batch_key],
        "categorical_covariate_keys": covariate_keys or [],
    }


def no_column(
    data: Any, key: str, modality: str | None, argument: str | None = None, whole: str = ""
) -> InputKeyError:
    """Say that a column does not exist, which there are, and where one of the name is."""
    whole = whole or own_name(data)
    where, fix = called(whole, modality), ""
    there = [name for name in part_of(data, modality).obs if not is_bookkeeping(name)]
    column = str(key).rpartition(":")[2]
    having = [name for name, part in getattr(data, "mod", {}).items() if column in part.obs]
    if having:
        other, given = called(whole, having[0]), f'"{having[0]}:{column}"'
        given = f"[{given}]" if argument == "categorical_covariate_keys" else given
        given = f"pass {argument}={given}, or copy it: " if argument else ""
        fix = f"{other}.obs has it: {given}{where}.obs[{column!r}] = {other}.obs[{column!r}]."
    elif modality is not None and key in data.obs:
        fix = f"{whole}.obs has it: leave {argument or 'it'} out of modalities."
    problem = f"No column {key!r} in {where}.obs. Columns there: {listed(there)}."
    return InputKeyError(problem, fix, argument)


def find_columns(
    mdata: MuData, keys: Any, argument: str, given: str | None = None
) -> tuple[str | list[str] | None, str | None]:
    """Columns named as in ``"rna:batch"``, and the modality that has them; None: that ``given``."""
    if not keys or not isinstance(keys, str | list | tuple):
        return keys, None
    found = {}
    for key in [keys] if isinstance(keys, str) else keys:
        modality, colon, column = str(key).partition(":")
        is_there = colon and (given == modality or key not in mdata.obs) and modality in mdata.mod
        is_there = is_there and column in mdata.mod[modality].obs
        found[key] = (modality, column) if is_there else (None, key)
    places = {modality for modality, _ in found.values()}
    if len(places) > 1:
        (modality, column), key = next((of, key) for key, of in found.items() if of[0])
        copy = f"mdata.obs[{column!r}] = mdata[{modality!r}].obs[{column!r}]"
        problem = f"Expected all columns of {argument} in one obs, found {keys!r}."
        raise InputValueError(problem, f"Copy them into one: {copy}.", argument)
    columns = [column for _, column in found.values()]
    return columns[0] if isinstance(keys, str) else columns, places.pop()


def check_columns(
    data: AnnData | MuData,
    keys: Iterable[str],
    modality: str | None = None,
    *,
    missing_value: str | None = None,
    argument: str | None = None,
) -> None:
    """Refuse columns of ``obs``, perhaps of a modality, that do not exist or hold nothing."""
    part, where = part_of(data, modality), called(own_name(data), modality)
    for key in keys:
        if key not in part.obs:
            raise no_column(data, key, modality, argument)
        held = f"{where}.obs[{key!r}]"
        if isinstance(part.obs[key], pd.DataFrame):
            problem = f"Expected one column {key!r} in {where}.obs, found several of this name."
            raise InputValueError(problem, "Rename the others.", argument)
        column = column_of(part, key)
        if column.isin([np.inf, -np.inf]).any():
            problem = f"Expected names or whole numbers in {held}, found an infinite one."
            infinite = f"{held}.isin([float('inf'), -float('inf')])"
            fix = f"Make it missing, {held} = {held}.where(~{infinite}), or text, "
            raise InputValueError(problem, f"{fix}{held} = {held}.astype(str).", argument)
        values = column.astype(object)  # nullable text compares to a missing value
        if (values.isna() | is_unlabeled(values, missing_value)).all():
            problem = f"All values of {held} are missing. Expected labels for at"
            fix = "choose another column or leave the argument out."
            raise InputValueError(f"{problem} least some cells;", fix, argument)


def check_labels(
    data: AnnData | MuData,
    labels_key: str | list[str] | None,
    unlabeled_category: str,
    modality: str | None = None,
) -> None:
    """Refuse columns of labels that do not exist, are named twice, or hold no shared labels."""
    argument = "labels_key"
    if labels_key is not None and not isinstance(labels_key, str | list | tuple):
        problem = "Expected labels_key to be the name of a column or a list of them, found"
        raise InputTypeError(f"{problem} {labels_key!r}.", argument=argument)
    keys = label_keys(labels_key)
    repeated = {key for key in keys if keys.count(key) > 1}
    if repeated:
        problem = f"Expected each labels_key once, found {min(repeated)!r} repeatedly."
        raise InputValueError(problem, argument=argument)
    check_columns(data, keys, modality, missing_value=unlabeled_category, argument=argument)
    for key in keys:
        names, codes = read_labels(data, key, unlabeled_category, modality)
        if len(names) == (codes >= 0).sum():
            problem = f"Expected labels that cells share, found {len(names)} different values for"
            fix = "choose a column with categories."
            raise InputValueError(f"{problem} as many cells in obs[{key!r}]:", fix, argument)


def read_labels(
    data: AnnData | MuData, key: str, unlabeled_category: str, modality: str | None = None
) -> Labels:
    """Labels of cells by a column of ``obs``; none of any cell where the column is missing.

    Numbers become text, whole ones without a fraction: pandas turns a column of whole numbers into
    decimal ones as soon as a value is missing.
    """
    part = part_of(data, modality)
    if key not in part.obs:
        return Labels([], np.full(data.n_obs, -1))
    column: Any = column_of(part, key).astype(object)
    column = column.where(column.notna() & ~is_unlabeled(column, unlabeled_category))
    column = column.map(as_name, na_action="ignore").reindex(data.obs_names)
    codes, names = pd.factorize(column, sort=True)
    return Labels([str(name) for name in names], codes.astype(np.int64))


def is_unlabeled(values: pd.Series, missing_value: Any) -> pd.Series:
    """Which values stand for no label, also where one is a number and the other its text."""
    if missing_value is None:
        return values.isna()
    found = (values == missing_value) | (values.astype(str) == str(missing_value))
    number = pd.to_numeric(str(missing_value), errors="coerce")
    return found if pd.isna(number) else found | (pd.to_numeric(values, errors="coerce") == number)


def check_conditions(
    data: AnnData | MuData,
    batch_key: str | None,
    covariate_keys: list[str] | None,
    *,
    modalities: Mapping[str, str] | None = None,
) -> None:
    """Refuse columns of conditions that do not exist, have gaps, or that cells do not share."""
    if covariate_keys is not None and not isinstance(covariate_keys, list):
        is_text = isinstance(covariate_keys, str)
        raise InputTypeError(
            "Expected categorical_covariate_keys to be a list of columns, found "
            f"{covariate_keys!r}, a {type(covariate_keys).__name__}.",
            f"Pass [{covariate_keys!r}]." if is_text else "",
            "categorical_covariate_keys",
        )
    if batch_key is not None and not isinstance(batch_key, str):
        problem = f"Expected batch_key to be the name of a column, found {batch_key!r}."
        fix = "Further columns go into categorical_covariate_keys."
        raise InputTypeError(problem, fix, "batch_key")
    of_argument = condition_columns(batch_key, covariate_keys)
    every = [key for keys in of_argument.values() for key in keys]
    repeated = {key for key in every if every.count(key) > 1}
    if repeated:
        problem = f"Expected each condition once, found {min(repeated)!r} named repeatedly."
        raise InputValueError(problem)
    for argument, keys in of_argument.items():
        modality = (modalities or {}).get(argument)
        part, where = part_of(data, modality), called(own_name(data), modality)
        if keys and not same_names(part.obs_names, data.obs_names):
            problem = f"Expected conditions of all {data.n_obs} cells, found {part.n_obs} cells,"
            copy = f"mdata.obs[{keys[0]!r}] = {where}.obs[{keys[0]!r}]"
            fix = f"Put the columns into mdata.obs: {copy}."
            raise InputValueError(f"{problem} or another order, in {where}.", fix, argument)
        for key in keys:
            check_columns(data, [key], modality, argument=argument)
            _check_condition(part.obs[key], f"{where}.obs[{key!r}]", argument)


def _check_condition(column: pd.Series, where: str, argument: str) -> None:
    check_complete(column, where, argument)
    if len({isinstance(value, str) for value in column}) > 1:
        problem = f"Expected values of one type in {where}, found text and others."
        raise InputTypeError(problem, f"Make all text: {where} = {where}.astype(str).", argument)
    n_categories = plain_column(column).nunique()
    if n_categories > max(1, len(column) / 2):
        problem = f"Expected conditions that cells share, found {n_categories} different values for"
        fix = "choose a column with categories."
        raise InputValueError(f"{problem} {len(column)} cells in {where}:", fix, argument)


def check_complete(column: pd.Series, where: str, argument: str | None = None) -> None:
    """Refuse a column of conditions in which cells have no value."""
    n_missing = int(column.isna().sum())
    if n_missing:
        problem = "Expected a condition of every cell, found"
        fix = f'Fill them: {where} = {where}.astype(object).fillna("unknown").astype(str).'
        raise InputValueError(f"{problem} {n_missing} missing values in {where}.", fix, argument)


def size_factors(data: AnnData | MuData, key: str, where: str | None = None) -> np.ndarray:
    """Size factors of cells, ``(n_cells, 1)``; refuse a column without a positive one of each."""
    where, argument = where or own_name(data), "size_factor_key"
    if key not in data.obs:
        error = no_column(data, key, None, argument, whole=where)
        error.fix = "It holds the size factor of each cell, on one scale in all data of the model."
        raise error
    column = column_of(data, key)
    values = np.zeros(len(column))
    if column.dtype.kind in "fiu":
        values = column.to_numpy(np.float64, na_value=np.nan)
    n_wrong = int((~(values > 0) | np.isinf(values)).sum())
    if n_wrong:
        problem = f"Expected a positive number for every cell in {where}.obs[{key!r}], found none"
        fix = "Compute the size factors of these cells, or remove them."
        found = f"for {n_wrong:,} of {len(values):,}, values being {column.dtype}."
        raise InputValueError(f"{problem} {found}", fix, argument)
    return values[:, None]


@contextmanager
def without_unused_categories(
    data: AnnData | MuData, keys: Mapping[str, list[str]], modalities: Mapping[str, str]
) -> Iterator[None]:
    """Show plain columns for a while, without categories that no cell has, of subsets of a MuData.

    So the categories that a model knows, and saves, are text, numbers or booleans.
    """
    before: list[Any] = []
    columns = [(argument, key) for argument, of in keys.items() for key in of]
    try:
        for argument, key in () if data.is_view else columns:  # scvi-tools refuses views
            obs = part_of(data, modalities.get(argument)).obs
            column = obs[key]
            used = plain_column(column)
            if isinstance(used.dtype, pd.CategoricalDtype):
                used = used.cat.remove_unused_categories()
            if used is not column:
                before.append((obs, key, column))
                obs[key] = used
        yield
    finally:
        for obs, key, column in before:
            obs[key] = column


def check_categories(data: AnnData | MuData, conditions: Iterable[Condition]) -> None:
    """Refuse new cells of conditions that a model does not know."""
    for key, categories, modality in conditions:
        check_has_modality(data, key, modality)
        part = part_of(data, modality)
        check_columns(data, [key], modality)
        column = column_of(part, key)
        known = [str(category) for category in categories]
        unknown = sorted(set(column.dropna().map(as_name)) - set(map(as_name, categories)))
        if not unknown and not set(column.dropna()) <= set(categories):
            raise InputValueError(
                f"Expected {key!r} of new cells as {type(categories[0]).__name__}, as the model "
                f"knows its categories, found {column.dropna().iloc[0]!r}.",
                "Convert it, or use load_query_data, which does.",
            )
        if unknown or column.isna().any():
            shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
            found = repr(unknown[0]) if unknown else "a missing value"
            problem = f"Expected {key!r} of new cells to be one of the {len(known)} categories that"
            fix = "Map cells of new ones onto it with load_query_data, or train with cells of them."
            raise InputValueError(f"{problem} the model knows ({shown}), found {found}.", fix)


def check_has_modality(data: AnnData | MuData, key: str, modality: str | None) -> None:
    """Refuse cells that lack the modality whose ``obs`` has a condition."""
    n_without = data.n_obs - part_of(data, modality).n_obs
    if n_without:
        raise InputValueError(
            f"The model takes the condition {key!r} from the obs of its modality {modality!r}, "
            f"which {n_without} of {data.n_obs} new cells lack.",
            "Train a model that has the condition in the obs of the MuData itself "
            f"({key!r} not in modalities=), or leave these cells out.",
        )


def same_names(first: pd.Index, second: pd.Index) -> bool:
    """Whether names are equal, also where only one index is of pandas' type for text."""
    is_other_type = first.dtype != second.dtype
    of = [index.astype(object) if is_other_type else index for index in (first, second)]
    return of[0].equals(of[1])
