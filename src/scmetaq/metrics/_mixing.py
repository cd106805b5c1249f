"""Mixing of conditions within metacells."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._entropy import row_entropies
from scmetaq.metrics._groups import (
    Groups,
    check_categories,
    check_same_cells,
    group_cells,
    group_labels,
)
from scmetaq.metrics._majority import most_frequent, tally


class Mixing(NamedTuple):
    """How well conditions mix within metacells.

    Attributes
    ----------
    mixing
        Mean over metacells weighted by size, in [0, 1]; 1: as mixed as the labels allow.
    one_condition
        Share of cells that are in metacells of one condition only, in [0, 1].
    of_metacell
        Mixing of each metacell, in [0, 1], shape ``(n_metacells,)``; NaN where there is nothing
        to mix. Such metacells are left out of the other two numbers.
    """

    mixing: float
    one_condition: float
    of_metacell: pd.Series


def mixing(assignment: ArrayLike, conditions: ArrayLike, labels: ArrayLike | None = None) -> Mixing:
    r"""Entropy of conditions in each metacell, relative to that of all cells with its label.

    .. math:: \text{mixing}(M) = \min\left(1, \frac{H(b_i : i \in M)}{H(b_i : y_i = y_M)}\right)

    with condition :math:`b_i` and label :math:`y_i` of cell :math:`i`, the metacell's most
    frequent label :math:`y_M` (the first in the alphabet on a tie) and Shannon entropy :math:`H`.
    A label that occurs in one condition only cannot mix: its metacells are NaN.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    conditions
        Condition (batch, donor, chemistry) of each cell, shape ``(n_cells,)``; missing: left out.
    labels
        Label of each cell, shape ``(n_cells,)``; missing: left out. They keep a cell type that
        one donor has more of from counting as badly mixed. None: all cells count as alike, which
        is fair only if every condition holds the same mixture of cells.

    Returns
    -------
    The weighted mean, the share of cells in metacells of one condition, both NaN if no metacell
    can mix, and the value per metacell. Where conditions are a nuisance, higher mixing is better;
    where they are what is studied, a treatment say, it is not.

    Notes
    -----
    Small metacells mix less by chance alone: compare groupings of the same cells into about as
    many metacells.
    """
    metacells, batches, kinds = _codes_of_known(assignment, conditions, labels)
    shape = (len(metacells.names), len(kinds.names), len(batches.names))
    inside = row_entropies(tally(metacells.codes, batches.codes, (shape[0], shape[2])))  # K
    majority = most_frequent(tally(metacells.codes, kinds.codes, shape[:2]))  # K
    possible = row_entropies(tally(kinds.codes, batches.codes, shape[1:]))[majority]  # K
    ratio = np.divide(inside, possible, out=np.full(len(inside), np.nan), where=possible > 0)
    weights = np.where(np.isnan(ratio), 0, metacells.sizes)
    total = weights.sum()
    return Mixing(
        mixing=float(np.nansum(weights * np.minimum(ratio, 1)) / total) if total else np.nan,
        one_condition=float(weights[inside == 0].sum() / total) if total else np.nan,
        of_metacell=pd.Series(
            np.minimum(ratio, 1), index=metacells.names.rename(_keys.METACELL), name="mixing"
        ),
    )


def _codes_of_known(
    assignment: ArrayLike, conditions: ArrayLike, labels: ArrayLike | None
) -> tuple[Groups, Groups, Groups]:
    """Metacell, condition and label of the cells that have all three."""
    check_same_cells(assignment, conditions)
    metacells, batches = group_cells(assignment), group_labels(conditions, what="conditions")
    if labels is None:
        kinds = Groups(np.zeros_like(metacells.codes), pd.Index(["all"]))
    else:
        check_same_cells(assignment, labels)
        check_categories(labels, "labels")
        kinds = group_labels(labels)
    columns = (metacells, batches, kinds)
    known = np.all([column.codes >= 0 for column in columns], axis=0)
    if not known.any():
        raise ValueError(
            "Expected cells with a metacell, a condition and a label, found none. "
            "Check that the columns are of the same cells."
        )
    first, second, third = (Groups(column.codes[known], column.names) for column in columns)
    return first, second, third
