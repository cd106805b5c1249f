"""Counts of groups of cells, and effects of conditions between them."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp


class GroupCounts(NamedTuple):
    """Counts of groups of cells, and what they say of the variance within groups."""

    totals: np.ndarray  # sums of counts, (n_groups, n_features)
    exposure: np.ndarray  # sums of size factors, (n_groups,)
    exposure_squares: np.ndarray  # sums of squared size factors, (n_groups,)
    cross: np.ndarray  # sums of counts times size factors, (n_groups, n_features)
    squares: np.ndarray  # sums of squared counts over all groups, (n_features,)


def group_counts(of_group: sp.csr_array, counts: sp.csr_matrix, size: np.ndarray) -> GroupCounts:
    """Add up counts of groups, ``of_group`` being 1 for the cells of each, ``(n_groups, n_cells)``.

    Cells with a ``size`` of zero do not have these counts.
    """
    counts, sized = sp.csr_array(counts), of_group.multiply(size).tocsr()
    return GroupCounts(
        totals=(of_group @ counts).toarray(),
        exposure=sized.sum(1),
        exposure_squares=of_group @ np.square(size),
        cross=(sized @ counts).toarray(),
        squares=counts.power(2).sum(0),
    )


def condition_effects(groups: np.ndarray, counts: list[GroupCounts]) -> list[np.ndarray]:
    """Effects of the categories of each condition key on log rates, up to ten dimensions of each.

    Each of ``groups``, ``(n_groups, 1 + n_keys)``, is one of cells that are alike, in the first
    column, and of one category of each key. Effects are means over the differences from all that
    are alike, on their principal axes, the largest of length one: ``(n_categories, n_axes)``.
    """
    rates = [(of.totals + 1) / (of.exposure[:, None] + 1) for of in counts]
    weight = np.sum([of.totals.sum(1) for of in counts], axis=0)
    alike = _averages(groups[:, 0], weight)
    values = np.hstack([np.log(rate) for rate in rates])
    values -= (alike @ values)[groups[:, 0]]
    found = []
    for categories in groups[:, 1:].T:
        effects = _averages(categories, weight) @ values
        axes, scale, _ = np.linalg.svd(effects - effects.mean(0), full_matrices=False)
        scores = axes * scale
        found.append(scores / max(np.linalg.norm(scores, axis=1).max(), 1e-12))
    return found


def _averages(of: np.ndarray, weight: np.ndarray) -> sp.csr_array:
    """Matrix of weighted averages over the rows of each number, from 0 on."""
    found = sp.csr_array((weight, (of, np.arange(len(of)))))
    return sp.diags_array(1 / np.maximum(found.sum(1), 1e-12)) @ found
