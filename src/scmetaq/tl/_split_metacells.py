"""Metacells split by covariates of their cells."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._groups import factorize, factorize_metacells

SEPARATOR = ":"
"""Between the name of a metacell and the categories of its piece: ``"mc0007:stim"``."""


def find_covariates(data: Any, names: str | Sequence[str], *, what: str) -> pd.DataFrame:
    """Columns with the covariates of cells; those that metacells cannot be split by are refused."""
    chosen = [names] if isinstance(names, str) else names
    is_list = isinstance(chosen, Sequence) and all(isinstance(name, str) for name in chosen)
    if not is_list or len(chosen) == 0:
        raise InputTypeError(
            f"Expected `{what}` to be a column of `obs` or a list of columns, found {names!r}.",
            argument=what,
        )
    repeated = {name for name in chosen if list(chosen).count(name) > 1}
    if repeated:
        raise InputValueError(
            f"Expected each column of `{what}` once, found {min(repeated)!r} named repeatedly.",
            argument=what,
        )
    return pd.DataFrame({name: _column(data, name, what) for name in chosen}, copy=False)


def combinations(covariates: pd.DataFrame) -> np.ndarray:
    """Number of the combination of categories of each cell, ``(n_cells,)``; -1: some missing."""
    return _pieces([factorize(covariates[name]) for name in covariates])[1]


def split_metacells(assignment: pd.Series, covariates: pd.DataFrame) -> pd.Series:
    """Split metacells into pieces whose cells share the categories of all covariates.

    Returns a Categorical with ``"<metacell>:<category>:..."`` of each cell, missing where it lacks
    a metacell or a covariate, in the order of the metacells, then of the covariates' categories.
    """
    columns = [factorize_metacells(assignment), *(factorize(covariates[c]) for c in covariates)]
    rows, piece = _pieces(columns)
    if len(rows) == 0:
        listed = ", ".join(map(repr, covariates.columns))
        raise InputValueError(
            f"Expected cells with a metacell and a value of {listed}, found none among "
            f"{len(piece)}: there is nothing to split."
        )
    texts = [column.categories.astype(str).to_numpy() for column in columns]
    names = pd.Series(
        [SEPARATOR.join(t[i] for t, i in zip(texts, row, strict=True)) for row in rows]
    )
    if names.duplicated().any():
        raise InputValueError(
            f"Two pieces would have the name {names[names.duplicated()].iloc[0]!r}, since "
            f"categories contain {SEPARATOR!r}: rename the categories."
        )
    pieces = pd.Categorical.from_codes(piece, names)
    return pd.Series(pieces, index=assignment.index, name=assignment.name)


def metacell_of_piece(assignment: pd.Series, pieces: pd.Series) -> pd.Series:
    """The metacell that each piece is a part of, indexed by the name of the piece."""
    whole = factorize_metacells(assignment)
    whole = whole.rename_categories(whole.categories.astype(str))
    first = ~pieces.duplicated().to_numpy() & pieces.notna().to_numpy()
    return pd.Series(whole[first], index=pd.Index(pieces[first].astype(str)))


def with_metacell(metacells: Any, of_piece: pd.Series, name: str) -> None:
    """Write which metacell each piece is a part of into ``obs``, of modalities too."""
    parts = metacells.mod.values() if isinstance(metacells, MuData) else ()
    for part in (metacells, *parts):
        part.obs[name] = of_piece.loc[part.obs_names].array


def _column(data: Any, name: str, what: str) -> pd.Series:
    column = cell_values(data, name, what=what)
    values = column.dropna()
    if pd.api.types.is_float_dtype(values) and (values != values.round()).any():
        raise InputTypeError(
            f"Expected categories in {name!r}, found decimal numbers:",
            "bin them, e.g. with pandas' `cut`, or name another column.",
            what,
        )
    return column


def _pieces(columns: list[pd.Categorical]) -> tuple[np.ndarray, np.ndarray]:
    """Combinations of codes that occur, sorted, and the one of each cell; -1: a code is missing."""
    codes = np.column_stack([column.codes for column in columns])  # N x C
    known = (codes >= 0).all(axis=1)
    of_cell = np.full(len(codes), -1)
    rows, of_cell[known] = np.unique(codes[known], axis=0, return_inverse=True)
    return rows, of_cell


def in_small_pieces(code: np.ndarray, combination: np.ndarray, min_cells: int) -> np.ndarray:
    """Cells that share code and combination of covariates with too few others, sorted indices.

    Parameters
    ----------
    code
        Code of each cell, ``(n_cells,)``.
    combination
        Combination of covariates of each cell, ``(n_cells,)``; -1 where they are not known.
    min_cells
        Fewest cells of a piece.
    """
    pairs = np.column_stack([combination, code])
    _, piece, sizes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    found: np.ndarray = np.flatnonzero((sizes[piece] < min_cells) & (combination >= 0))
    return found


def join_small_pieces(
    code: np.ndarray,
    combination: np.ndarray,
    min_cells: int,
    preference: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Codes of cells with pieces that are too small dissolved, the smallest first.

    The cells of a dissolved piece go to the codes they prefer among those that have cells of the
    same combination. The last piece of a combination stays, however small.

    Parameters
    ----------
    code, combination, min_cells
        As of :func:`in_small_pieces`.
    preference
        Of cells by their indices for all codes, ``(len(cells), n_codes)``, higher is better; asked
        of no cells but those :func:`in_small_pieces`.
    """
    code = code.copy()
    small = in_small_pieces(code, combination, min_cells)
    for this in np.unique(combination[small]):
        members = np.flatnonzero(combination == this)
        used, piece = np.unique(code[members], return_inverse=True)
        sizes, is_open = np.bincount(piece), np.ones(len(used), dtype=bool)
        while is_open.sum() > 1:
            smallest = np.where(is_open, sizes, len(code)).argmin()
            if sizes[smallest] >= min_cells:
                break
            is_open[smallest] = False
            leaving = piece == smallest
            wanted = preference(members[leaving])[:, used]
            piece[leaving] = np.where(is_open, wanted, -np.inf).argmax(1)
            sizes = np.bincount(piece, minlength=len(used))
        code[members] = used[piece]
    return code
