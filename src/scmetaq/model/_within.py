from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq._errors import check_int
from scmetaq.tl._split_metacells import find_covariates


def checked_covariates(
    data: AnnData | MuData, within: str | Sequence[str] | None, min_cells: int
) -> pd.DataFrame | None:
    """Covariates to split metacells by, if any."""
    check_int("min_cells", min_cells)
    return None if within is None else find_covariates(data, within, what="within")


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
