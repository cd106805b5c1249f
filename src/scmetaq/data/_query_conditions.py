"""Conditions of new cells in the terms of a model, which may not know all of them."""

import warnings
from collections.abc import Iterable
from itertools import count
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from ._conditions import Condition, check_has_modality, part_of

_FEW_CELLS = 10


def align_conditions(data: AnnData | MuData, conditions: Iterable[Condition]) -> None:
    """Bring the columns of conditions into the form of the model's; ``data`` are our own.

    Parameters
    ----------
    data
        The cells; the columns in their ``obs`` are replaced.
    conditions
        What the model knows.

    Raises
    ------
    KeyError, ValueError
        No such column, cells without a value, or values that are no categories.
    """
    for condition in conditions:
        part = part_of(data, condition.modality)
        check_has_modality(data, condition.key, condition.modality)
        if condition.key not in part.obs:
            raise KeyError(_absent(part, condition))
        _check_complete(part.obs[condition.key], condition.key)
        part.obs[condition.key] = _aligned(part.obs[condition.key], condition)


def new_categories(data: AnnData | MuData, conditions: Iterable[Condition]) -> dict[str, list[Any]]:
    """Categories of each key that the model does not know, of columns that are aligned.

    Categories with a handful of cells are warned about.
    """
    found = {}
    for key, known, modality in conditions:
        n_cells = part_of(data, modality).obs[key].astype(object).value_counts()
        new = [c for c in n_cells.index if c not in set(known)]
        few = [c for c in new if n_cells[c] < _FEW_CELLS]
        if few:
            warnings.warn(
                f"{len(few)} new categories of {key!r} have fewer than {_FEW_CELLS} cells, e.g. "
                f"{few[0]!r} with {n_cells[few[0]]}: what they add can hardly be told, and little "
                "is taken off.",
                UserWarning,
                stacklevel=4,
            )
        found[key] = sorted(new)
    return found


def _absent(part: AnnData | MuData, condition: Condition) -> str:
    there = ", ".join(map(repr, part.obs.columns)) or "none"
    where = "query" if condition.modality is None else f"query[{condition.modality!r}]"
    new = _unlike(condition.categories)
    advice = f" If all cells are of one new category: {where}.obs[{condition.key!r}] = {new!r}."
    return (
        f"No column {condition.key!r} in {where}.obs, a condition of the reference. Columns there: "
        f"{there}.{'' if new is None else advice}"
    )


def _unlike(known: list[Any]) -> Any:
    """A category that is not known, of the type of those that are; None if there cannot be one."""
    if isinstance(known[0], bool | np.bool_):
        return None
    if isinstance(known[0], Real):
        return int(max(known)) + 1
    return next(name for i in count() if (name := "new" + "er" * i) not in known)


def _check_complete(column: pd.Series, key: str) -> None:
    n_missing = int(column.isna().sum())
    if n_missing:
        raise ValueError(
            f"Expected a condition of every cell, found {n_missing} missing values in "
            f'query.obs[{key!r}]. Fill them, e.g. with "unknown", or leave these cells out.'
        )


def _aligned(column: pd.Series, condition: Condition) -> np.ndarray:
    """Values of the model's own type, known ones being recognised by how they are written."""
    known = {str(category): category for category in condition.categories}
    written = _written(column, are_numbers=_are_numbers(condition.categories))
    new = sorted(set(written) - set(known))
    if len(new) > 1 and len(new) > len(column) / 2:
        raise ValueError(
            f"Expected {condition.key!r} of new cells to be a condition that cells share, found "
            f"{len(new)} new values for {len(column)} cells, e.g. {new[0]!r}: it has no categories."
        )
    of_text = {t: known[t] if t in known else _typed(t, condition) for t in set(written)}
    values = [of_text[text] for text in written]
    return pd.Series(values, dtype=object).infer_objects().to_numpy()


def _are_numbers(categories: list[Any]) -> bool:
    return all(isinstance(c, Real) and not isinstance(c, bool | np.bool_) for c in categories)


def _written(column: pd.Series, *, are_numbers: bool) -> list[str]:
    """Values as text; whole numbers without a fraction, also where only the model has numbers."""
    column = column.astype(object).infer_objects()
    if are_numbers and not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column, errors="coerce")
        column = column.where(numbers.isna(), numbers).infer_objects()
    if pd.api.types.is_float_dtype(column) and bool((column % 1 == 0).all()):
        column = column.astype(np.int64)
    return [str(value) for value in column]


def _typed(text: str, condition: Condition) -> Any:
    """A new value, of the type of the known ones."""
    first = condition.categories[0]
    if isinstance(first, str):
        return text
    try:
        if isinstance(first, bool | np.bool_):  # anything is true to bool
            raise ValueError(text)
        return type(first)(text)
    except ValueError as error:
        raise ValueError(
            f"Expected {condition.key!r} of new cells to be {type(first).__name__} as the "
            f"reference's ({first}, ...), found {text!r}."
        ) from error
