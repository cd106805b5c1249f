"""Metacells split by covariates of their cells."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._groups import check_categories, factorize, factorize_metacells

SEPARATOR = ":"  # as in "mc0007:stim"


def find_covariates(data: Any, names: str | Sequence[str], *, what: str) -> pd.DataFrame:
    """Return the columns of cells by which to split metacells."""
    chosen = [names] if isinstance(names, str) else names
    is_list = isinstance(chosen, Sequence) and all(isinstance(name, str) for name in chosen)
    if not is_list or len(chosen) == 0:
        raise InputTypeError(
            f"Expected `{what}` to be a column of `obs` or a list of columns, found {names!r}."
        )
    repeated = {name for name in chosen if list(chosen).count(name) > 1}
    if repeated:
        raise InputValueError(
            f"Expected each column of `{what}` once, found {min(repeated)!r} named repeatedly."
        )
    columns = {name: cell_values(data, name, what=what) for name in chosen}
    for name, column in columns.items():
        check_categories(column, f"{what}={name!r}")
    return pd.DataFrame(columns, copy=False)


def combinations(covariates: pd.DataFrame) -> np.ndarray:
    """Number of the combination of categories of each cell, ``(n_cells,)``; -1: some missing."""
    return _pieces([factorize(covariates[name]) for name in covariates])[1]


def split_metacells(assignment: pd.Series, covariates: pd.DataFrame) -> pd.Series:
    """Split metacells into ``"<metacell>:<category>:..."``, in the order of all categories."""
    columns = [factorize_metacells(assignment), *(factorize(covariates[c]) for c in covariates)]
    rows, piece = _pieces(columns)
    if len(rows) == 0:
        listed = ", ".join(map(repr, covariates.columns))
        raise InputValueError(
            f"Expected cells with a metacell and values of {listed}, found none of {len(piece)}."
        )
    texts = [column.categories.astype(str).to_numpy() for column in columns]
    parts = [text[of] for text, of in zip(texts, rows.T, strict=True)]
    names = pd.Series(map(SEPARATOR.join, zip(*parts, strict=True)))
    twice = names[names.duplicated()]
    if len(twice):
        raise InputValueError(
            f"Two pieces would have the name {twice.iloc[0]!r}, since categories contain "
            f"{SEPARATOR!r}: rename the categories."
        )
    pieces = pd.Categorical.from_codes(piece, names)
    return pd.Series(pieces, index=assignment.index, name=assignment.name)


def write_whole(metacells: Any, assignment: pd.Series, pieces: pd.Series, name: str) -> None:
    """Write which metacell each piece is a part of into ``obs``, of modalities too."""
    whole = factorize_metacells(assignment)
    whole = whole.rename_categories(whole.categories.astype(str))
    first = ~pieces.duplicated().to_numpy() & pieces.notna().to_numpy()
    of_piece = pd.Series(whole[first], index=pd.Index(pieces[first].astype(str)))
    for part in (metacells, *getattr(metacells, "mod", {}).values()):
        part.obs[name] = of_piece.loc[part.obs_names].array


def _pieces(columns: list[pd.Categorical]) -> tuple[np.ndarray, np.ndarray]:
    """Combinations of codes that occur, sorted, and the one of each cell; -1: a code is missing."""
    codes = np.column_stack([column.codes for column in columns])  # N x C
    known = (codes >= 0).all(axis=1)
    of_cell = np.full(len(codes), -1)
    rows, of_cell[known] = np.unique(codes[known], axis=0, return_inverse=True)
    return rows, of_cell


def in_small_pieces(code: np.ndarray, combination: np.ndarray, min_cells: int) -> np.ndarray:
    """Cells that share code and combination (-1: unknown) with too few others, sorted indices."""
    pairs = np.column_stack([combination, code])
    _, piece, sizes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return np.flatnonzero((sizes[piece] < min_cells) & (combination >= 0))


def join_small_pieces(
    code: np.ndarray,
    combination: np.ndarray,
    min_cells: int,
    preference: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Dissolve pieces that are too small, the smallest first, but not the last of a combination."""
    # cells go to the code they prefer (by index, higher is better) among those with cells of the
    # same combination
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
