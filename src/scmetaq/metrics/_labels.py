"""Labels and conditions of the cells of each metacell, and agreement of two groupings."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    fowlkes_mallows_score,
    homogeneity_completeness_v_measure,
)

from scmetaq._errors import InputValueError, check_choice

from ._groups import Groups, check_categories, check_same_cells, group_cells, group_labels

_Mean = Literal["arithmetic", "max", "min", "geometric"]


def purity(assignment: ArrayLike, labels: ArrayLike) -> pd.Series:
    r"""Fraction of each metacell's cells that carry its most frequent label.

    .. math:: \text{purity}(M) = \max_c \frac{|\{i \in M : y_i = c\}|}{|M|}

    (Persad et al., SEACells, Nature Biotechnology 2023).

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``: names or numbers; missing or -1: left out.
    labels
        Label of each cell, shape ``(n_cells,)``; missing: left out.

    Returns
    -------
    Purity in (0, 1] per metacell, shape ``(n_metacells,)``; higher is better; NaN where no cell
    of the metacell has a label.
    """
    counts, metacells = count_labels(assignment, labels)
    labelled = counts.sum(axis=1)  # K
    largest = counts.max(axis=1).toarray()  # K
    values = np.divide(largest, labelled, out=np.full(len(labelled), np.nan), where=labelled > 0)
    return metacells.series(values, "purity")


def accuracy(assignment: ArrayLike, labels: ArrayLike) -> float:
    r"""Share of cells whose metacell's majority label is theirs: purity weighted by cells.

    .. math:: \frac{1}{N} |\{i : y_i = \hat y_i\}|
            = \frac{1}{N} \sum_M \max_c |\{i \in M : y_i = c\}|

    with :math:`N` cells that have both a metacell and a label, and the most frequent label
    :math:`\hat y_i` in the metacell of cell :math:`i`. The mean of :func:`purity` weighs metacells
    alike, so that many tiny ones make up for a giant one of mixed labels. Arguments are as there;
    the number is in (0, 1]; higher is better.
    """
    counts, _ = count_labels(assignment, labels)
    return float(counts.max(axis=1).sum() / counts.sum())


def balanced_accuracy(assignment: ArrayLike, labels: ArrayLike) -> float:
    r"""Accuracy, averaged over labels, of giving each cell its metacell's majority label.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{|\{i : y_i = c, \hat y_i = c\}|}{|\{i : y_i = c\}|}

    where :math:`\hat y_i` is the most frequent label in the metacell of cell :math:`i` (the first
    in the alphabet on a tie): Eq. 22 of Li et al., MetaQ, Nature Communications 2025, with the
    majority label as prediction. Rare labels weigh as much as frequent ones, so a label that is
    never the majority of a metacell costs :math:`1 / |C|`. Arguments are as of :func:`purity`; the
    number is in [0, 1]; higher is better.
    """
    counts, _ = count_labels(assignment, labels)
    totals = counts.sum(axis=0)  # C
    largest = counts.max(axis=1).toarray()  # K
    recalled = np.bincount(counts.argmax(axis=1), weights=largest, minlength=len(totals))  # C
    return float((recalled[totals > 0] / totals[totals > 0]).mean())


def entropy(assignment: ArrayLike, labels: ArrayLike) -> pd.Series:
    r"""Shannon entropy of the labels of each metacell's cells.

    .. math:: H(M) = -\sum_c p_c \ln p_c, \quad p_c = \frac{|\{i \in M : y_i = c\}|}{|M|}

    Unlike purity, entropy distinguishes two labels from five among those not in the majority. See
    Shannon, Bell System Technical Journal 1948. Arguments are as of :func:`purity`; the number, in
    nats, is 0 for one label, at most the logarithm of the number of labels, and NaN without any.
    Lower is better.
    """
    counts, metacells = count_labels(assignment, labels)
    return metacells.series(_row_entropies(counts), "entropy")


class Mixing(NamedTuple):
    """How well conditions mix within metacells: numbers in [0, 1].

    The mean weighted by size (1: as mixed as the labels allow), the share of cells in metacells of
    one condition, and the mixing of each metacell, NaN where there is nothing to mix; such
    metacells are left out of the other two.
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

    Arguments are as of :func:`purity`; cells without a condition (batch, donor, chemistry) are left
    out. Labels keep a cell type that one donor has more of from counting as badly mixed. None: all
    cells count as alike, which is fair only if every condition holds the same mixture of cells.
    Where conditions are a nuisance, higher mixing is better; where they are what is studied, a
    treatment say, it is not. Both means are NaN if no metacell can mix. Small metacells mix less by
    chance alone: compare groupings of the same cells into about as many metacells.
    """
    check_same_cells(assignment, conditions)
    metacells, batches = group_cells(assignment), group_labels(conditions, what="conditions")
    kinds = Groups(np.zeros_like(metacells.codes), pd.Index(["all"]))
    if labels is not None:
        kinds = _read_labels(assignment, labels)
    known = _known("a metacell, a condition and a label", metacells, batches, kinds)
    counts = _tally(metacells, batches, known)
    inside, majority = _row_entropies(counts), _tally(metacells, kinds, known).argmax(axis=1)  # K
    possible = _row_entropies(_tally(kinds, batches, known))[majority]  # K
    ratio = np.divide(inside, possible, out=np.full(len(inside), np.nan), where=possible > 0)
    ratio = np.minimum(ratio, 1)
    weights = np.where(np.isnan(ratio), 0, counts.sum(axis=1))
    total = weights.sum()
    return Mixing(
        mixing=float(np.nansum(weights * ratio) / total) if total else np.nan,
        one_condition=float(weights[inside == 0].sum() / total) if total else np.nan,
        of_metacell=metacells.series(ratio, "mixing"),
    )


class Agreement(NamedTuple):
    """How well two groupings of the same cells agree: numbers of at most 1.

    Adjusted mutual information and adjusted Rand index (about 0 for independent groupings),
    homogeneity and completeness (1 if every group of the first is within one of the second, or the
    reverse), their harmonic mean (normalised mutual information or V-measure, which many small
    groups raise by chance), and the Fowlkes-Mallows index of pairs of cells.
    """

    ami: float
    ari: float
    homogeneity: float
    completeness: float
    nmi: float
    fmi: float


def agreement(a: ArrayLike, b: ArrayLike, *, average_method: _Mean = "arithmetic") -> Agreement:
    """Compare two groupings of the same cells: two assignments, or an assignment and labels.

    A cell that is missing or -1 in ``a`` or ``b`` is left out. ``average_method`` is the mean of
    the two entropies in the denominator of the adjusted mutual information, as in scikit-learn; Eq.
    26 of Li et al., MetaQ, Nature Communications 2025, has ``"max"``. Higher is more alike;
    homogeneity and completeness swap when the groupings do. Metacells are many and small: against a
    few labels homogeneity is the fair number, the others fall with the number of metacells.
    """
    check_choice("average_method", average_method, get_args(_Mean))
    check_same_cells(a, b)
    groups = group_cells(a), group_cells(b)
    both = _known("a group of both groupings", *groups)
    first, second = (of.codes[both] for of in groups)
    ami = adjusted_mutual_info_score(first, second, average_method=average_method)
    ari, fmi = adjusted_rand_score(first, second), fowlkes_mallows_score(first, second)
    scores = homogeneity_completeness_v_measure(second, first)
    return Agreement(*map(float, (ami, ari, *scores, fmi)))


def count_labels(assignment: Any, labels: Any) -> tuple[sp.csr_array, Groups]:
    """Cells per metacell and label (K x C), of the cells that have both; and the metacells."""
    kinds, metacells = _read_labels(assignment, labels), group_cells(assignment)
    known = _known("both a metacell and a label", metacells, kinds)
    return _tally(metacells, kinds, known), metacells


def _read_labels(assignment: Any, labels: Any) -> Groups:
    check_same_cells(assignment, labels)
    check_categories(labels, "labels")
    return group_labels(labels)


def _known(what: str, *groupings: Groups) -> np.ndarray:
    """Which cells are in a group of each grouping; there must be some."""
    known = np.logical_and.reduce([of.codes >= 0 for of in groupings])
    if not known.any():
        problem = f"Expected cells with {what}, found none."
        raise InputValueError(problem, "Check that the columns are of the same cells.")
    return known


def _tally(first: Groups, second: Groups, known: np.ndarray) -> sp.csr_array:
    """Known cells in each group of the first and of the second grouping."""
    at = (first.codes[known], second.codes[known])
    shape = (len(first.names), len(second.names))
    return sp.coo_array((np.ones(len(at[0]), dtype=np.int64), at), shape=shape).tocsr()


def _row_entropies(counts: sp.csr_array) -> np.ndarray:
    """Entropy in nats of each row of a table of counts; NaN for an empty row."""
    totals = counts.sum(axis=1)
    row = np.repeat(np.arange(len(totals)), np.diff(counts.indptr))
    share = counts.data / totals[row]
    sums = np.bincount(row, weights=share * np.log(share), minlength=len(totals))
    return np.where(totals > 0, np.abs(sums), np.nan)
