from typing import NamedTuple

import torch
from torch import Tensor

from ._distances import neighborhood_mean, squared_distances
from ._mixture_correction import MixtureCorrection, one_hot

_RIDGE = 1.0
_RIDGE_OF_FEW = 10.0
"""The same where there are too few cells to average. In squared distances, single cells differ from
others of their state by some times what a batch adds: four (interferon) to fifty (a donor)."""
_RIDGE_OF_CLUSTERS = 10.0
"""Cells of a cluster that outweigh what a category adds to cells of any cluster."""
_LIKE = 1.5
"""Squared distance, over that of the median cell, at which a cell counts for half."""
_FREE = 0.6
"""The same over that of the place to cells which fit; a place further from them is free."""
_N_LIKE = 5
"""Cells that fit of which a place is not free."""
_FEWEST = 20
"""Cells of which it can be told what most of them are like."""
_STEEPNESS = 6
_N_ROUNDS = 15
_N_WEIGHTINGS = 15
_BLOCK = 1_024
_TOLERANCE = 1e-3


@torch.no_grad()
def fit_query_offsets(
    correction: MixtureCorrection, values: Tensor, conditions: Tensor, *, new: Tensor
) -> None:
    r"""Find out what new categories add to cells, the clusters of a reference being given.

    Centroids and the offsets of known categories stay as they are. The shares :math:`r` of the
    clusters in the corrected cells, and what new categories add, are estimated in turns: first
    to the cells of all clusters together, :math:`g_a`, then what is left of it in each,

    .. math::

        w_{ca} = g_a
        + \frac{\sum_i \omega'_i r_{ic} (y_i - g_a)}{\lambda + \sum_i \omega'_i r_{ic}},
        \qquad g_a = \frac{\sum_i \omega_i y_i}{1 + \sum_i \omega_i},
        \qquad y_i = x_i - p_i, \quad p_i = \sum_c r_{ic} \mu_c ,

    for cells :math:`i` of category :math:`a` alone, :math:`x_i` being without what known categories
    add. Clusters with few cells are thus corrected as the others are. Cells of a state that the
    reference lacks should not be taken for the nearest that it has: cells count by how much
    further they would have to be moved than most are,

    .. math:: \omega_i = \frac{1}{1 + (q_i / h_i)^6}, \qquad q_i = \lVert y_i - g_a \rVert^2 .

    For :math:`g_a`, :math:`h_i` is 1.5 times the median of :math:`q` among cells of the same new
    categories, most of which must be in known states. Within clusters, in :math:`\omega'`, it is
    at least :math:`.6\, d_i^2`, with :math:`d_i` the distance of the place :math:`p_i` to the 5th
    nearest such place of a cell that fits. A known state which the category moves in a way of its
    own comes to a place where nobody else is; a new one to a place that is taken, if the state
    nearest to it is among the cells. If it is not, the new one is taken for it.

    Values are averaged over neighbours among cells of the same conditions before anything else:
    of single cells, sampling noise would hide what is unlike. Where there are fewer than 20 cells
    there is nothing to average, all count alike, and the 1 in the denominator of :math:`g_a` is 10.

    Parameters
    ----------
    correction
        Correction of the reference, with columns for the new categories; its offsets are filled in.
    values
        Values of the query, ``(n_cells, D)``.
    conditions
        Category of each key, ``(n_cells, n_keys)`` int64.
    new
        Columns of the new categories among those of all keys, ``(n_new,)``.

    References
    ----------
    Kang et al., Symphony, Nature Communications 2021; Hampel, The influence curve and its role in
    robust estimation, Journal of the American Statistical Association 1974.
    """
    values = _smooth(values, _groups(conditions))
    design = one_hot(conditions, correction.n_categories).to(values)  # N x A
    of_new = design[:, new]  # N x n_new
    groups = _groups(of_new)
    weight = torch.ones_like(values[:, 0])  # N
    ridge = torch.where(of_new.sum(0) < _FEWEST, _RIDGE_OF_FEW, _RIDGE)  # n_new
    correction.offsets[:, new] = 0
    for _ in range(_N_ROUNDS):
        moved = _moved(correction, values, conditions, design, new)
        together, weight = _shared_offsets(moved.by, of_new, groups, ridge, weight)
        distance = (moved.by - of_new @ together).square().sum(1)  # N
        free = _distance_to_like(moved.share @ correction.centroids, weight, groups)  # N
        in_cluster = torch.maximum(weight, _weight(distance, _FREE * free))
        gram, rest = _moments(moved, of_new, in_cluster)
        of_clusters = torch.full_like(ridge, _RIDGE_OF_CLUSTERS)
        added = together + _ridge(gram, rest - gram @ together, of_clusters)
        change = (added - correction.offsets[:, new]).norm() / added.norm().clamp_min(1e-12)
        correction.offsets[:, new] = added
        if change < _TOLERANCE:
            break


def _groups(rows: Tensor) -> list[Tensor]:
    """Indices of equal rows."""
    group = rows.unique(dim=0, return_inverse=True)[1]
    return list(group.argsort(stable=True).split(group.bincount().tolist()))


class _Moved(NamedTuple):
    """Where cells are as seen from the reference."""

    share: Tensor
    """Share of each cluster, ``(N, C)``."""
    by: Tensor
    """Values without centroids and known categories, ``(N, D)``."""


def _smooth(values: Tensor, groups: list[Tensor]) -> Tensor:
    """Means over the neighbours of each cell in its group."""
    smooth = torch.empty_like(values)
    for cells in groups:
        smooth[cells] = neighborhood_mean(values[cells], values[cells])
    return smooth


def _moved(
    correction: MixtureCorrection, values: Tensor, conditions: Tensor, design: Tensor, new: Tensor
) -> _Moved:
    offsets_of_known = correction.offsets.clone()
    offsets_of_known[:, new] = 0
    shares, moved = [], []
    for v, of_cells, d in zip(
        values.split(_BLOCK), conditions.split(_BLOCK), design.split(_BLOCK), strict=True
    ):
        share = correction.shares(correction(v, of_cells))  # B x C
        known = torch.einsum("bc,ba,cad->bd", share, d, offsets_of_known)  # B x D
        shares.append(share)
        moved.append(v - known - share @ correction.centroids)
    return _Moved(torch.cat(shares), torch.cat(moved))


def _shared_offsets(
    moved: Tensor, design: Tensor, groups: list[Tensor], ridge: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """What new categories add to cells of any cluster, and how much each cell counts.

    Parameters
    ----------
    moved
        Values without centroids and known categories, ``(N, D)``.
    design
        Indicators of the new categories, ``(N, n_new)``.
    groups
        Cells of the same new categories.
    ridge
        Cells that outweigh what a category adds, ``(n_new,)``.
    weight
        How much each cell counts to begin with, ``(N,)``.

    Returns
    -------
    Offsets ``(n_new, D)`` and weights ``(N,)``.
    """
    for _ in range(_N_WEIGHTINGS):
        weighted = weight[:, None] * design
        together = _ridge(weighted.T @ design, weighted.T @ moved, ridge)
        distance = (moved - design @ together).square().sum(1)  # N
        weight = torch.ones_like(weight)
        for cells in groups:
            if len(cells) >= _FEWEST:
                of_group = distance[cells]
                weight[cells] = _weight(of_group, _LIKE * of_group.median())
    return together, weight


def _weight(distance: Tensor, half: Tensor) -> Tensor:
    """How much cells count that are so far from where they should be."""
    return 1 / (1 + (distance / half.clamp_min(1e-12)) ** _STEEPNESS)


def _distance_to_like(place: Tensor, weight: Tensor, groups: list[Tensor]) -> Tensor:
    """Squared distance from where a cell is put to where cells of its group are that fit."""
    found = torch.empty_like(weight)
    for cells in groups:
        like = place[cells[weight[cells] > 0.5]]
        for rows in cells.split(_BLOCK):
            distances = squared_distances(place[rows], like)
            found[rows] = distances.topk(min(_N_LIKE, len(like)), largest=False).values[:, -1]
    return found


def _moments(moved: _Moved, design: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums over the cells of each cluster, as large as they are in it.

    Returns
    -------
    Of products of the indicators ``(C, n_new, n_new)``, and of values by indicator
    ``(C, n_new, D)``.
    """
    share = moved.share * weight[:, None]  # N x C
    sums = [
        (of.T @ design, of.T @ moved.by)
        for of in (share * column[:, None] for column in design.T)  # each N x C
    ]
    gram, rest = (torch.stack(of, 1) for of in zip(*sums, strict=True))
    return gram, rest


def _ridge(gram: Tensor, target: Tensor, penalty: Tensor) -> Tensor:
    return torch.linalg.solve(gram + torch.diag(penalty), target)
