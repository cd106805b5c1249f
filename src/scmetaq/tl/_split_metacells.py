"""Metacells split by covariates of their cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData

from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._groups import factorize, factorize_metacells

SEPARATOR = ":"
"""Between the name of a metacell and the categories of its piece: ``"mc0007:stim"``."""


def find_covariates(data: Any, names: str | Sequence[str], *, what: str) -> pd.DataFrame:
    """Columns with the covariates of cells, refused if metacells cannot be split by them.

    Parameters
    ----------
    data
        AnnData or MuData with ``n_cells`` cells.
    names
        Column of ``obs``, or a list of them; of MuData also of a modality, ``"rna:donor"``.
    what
        What the caller calls the names.

    Returns
    -------
    Shape ``(n_cells, n_columns)``, in the order of the cells.

    Raises
    ------
    TypeError, ValueError, KeyError
        Not names of columns, a column named twice, no such column, or one with decimal numbers.
    """
    chosen = [names] if isinstance(names, str) else names
    is_list = isinstance(chosen, Sequence) and all(isinstance(name, str) for name in chosen)
    if not is_list or len(chosen) == 0:
        raise TypeError(
            f"Expected `{what}` to be a column of `obs` or a list of columns, found {names!r}."
        )
    repeated = {name for name in chosen if list(chosen).count(name) > 1}
    if repeated:
        raise ValueError(
            f"Expected each column of `{what}` once, found {min(repeated)!r} named repeatedly."
        )
    return pd.DataFrame({name: _column(data, name, what) for name in chosen}, copy=False)


def combinations(covariates: pd.DataFrame) -> np.ndarray:
    """Number of the combination of categories that each cell has, ``(n_cells,)``; -1: some missing.

    Parameters
    ----------
    covariates
        Shape ``(n_cells, n_covariates)``.
    """
    codes = np.column_stack([factorize(covariates[name]).codes for name in covariates])  # N x C
    found = np.full(len(codes), -1)
    known = (codes >= 0).all(axis=1)
    if known.any():
        found[known] = np.unique(codes[known], axis=0, return_inverse=True)[1]
    return found


def split_metacells(assignment: pd.Series, covariates: pd.DataFrame) -> pd.Series:
    """Pieces of metacells whose cells share the categories of all covariates.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: none.
    covariates
        Columns about the same cells, shape ``(n_cells, n_covariates)``.

    Returns
    -------
    Categorical with the name of each cell's piece, ``"<metacell>:<category>:..."``, missing where
    a cell lacks a metacell or a covariate. Categories are in the order of the metacells, then of
    the covariates' categories.

    Raises
    ------
    ValueError
        No piece is left, or two would have the same name.
    """
    columns = [factorize_metacells(assignment), *(factorize(covariates[c]) for c in covariates)]
    codes = np.column_stack([column.codes for column in columns])  # N x (1 + C)
    known = (codes >= 0).all(axis=1)
    if not known.any():
        raise ValueError(
            f"Expected cells with a metacell and a value of {_listed(covariates)}, found none "
            f"among {len(codes)}: there is nothing to split."
        )
    rows, piece = np.unique(codes[known], axis=0, return_inverse=True)
    texts = [column.categories.astype(str).to_numpy() for column in columns]
    names = [SEPARATOR.join(t[i] for t, i in zip(texts, row, strict=True)) for row in rows]
    _check_distinct(names)
    of_cell = np.full(len(codes), -1)
    of_cell[known] = piece
    pieces = pd.Categorical.from_codes(of_cell, names)
    return pd.Series(pieces, index=assignment.index, name=assignment.name)


def metacell_of_piece(assignment: pd.Series, pieces: pd.Series) -> pd.Series:
    """The metacell that each piece is a part of, indexed by the name of the piece.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``.
    pieces
        Their pieces, as of :func:`split_metacells`.
    """
    whole = factorize_metacells(assignment)
    whole = whole.rename_categories(whole.categories.astype(str))
    first = ~pieces.duplicated().to_numpy() & pieces.notna().to_numpy()
    return pd.Series(whole[first], index=pd.Index(pieces[first].astype(str)))


def with_metacell(metacells: Any, of_piece: pd.Series, name: str) -> None:
    """Write which metacell each piece is a part of into ``obs``, of modalities too.

    Parameters
    ----------
    metacells
        AnnData or MuData of pieces.
    of_piece
        As of :func:`metacell_of_piece`.
    name
        Name of the column.
    """
    parts = metacells.mod.values() if isinstance(metacells, MuData) else ()
    for part in (metacells, *parts):
        part.obs[name] = of_piece.loc[part.obs_names].array


def _column(data: Any, name: str, what: str) -> pd.Series:
    """A column of ``obs``, or of the ``obs`` of a modality."""
    column = cell_values(data, name, what=what)
    values = column.dropna()
    if pd.api.types.is_float_dtype(values) and (values != values.round()).any():
        raise TypeError(
            f"Expected categories in {name!r}, found decimal numbers: bin them, e.g. with pandas' "
            "`cut`, or name another column."
        )
    return column


def _listed(covariates: pd.DataFrame) -> str:
    return ", ".join(map(repr, covariates.columns))


def _check_distinct(names: list[str]) -> None:
    repeated = pd.Series(names)[pd.Series(names).duplicated()]
    if len(repeated):
        raise ValueError(
            f"Two pieces would have the name {repeated.iloc[0]!r}, since categories contain "
            f"{SEPARATOR!r}: rename the categories."
        )
