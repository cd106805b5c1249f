from typing import Final

import numpy as np
import torch
from torch import Tensor

from ._code_index import code_regions

_MOST_AT_ONCE: Final = 4_096
"""Groups up to which all pairs are compared."""
_CODES_PER_REGION: Final = 1_000
"""Codes of which all pairs are compared where there are more."""


def merge_codes(codes: Tensor, n_cells: Tensor) -> Tensor:
    r"""Tree of codes: which two groups are merged at each step, least loss first.

    The loss of a merger is Ward's, by which the squared distances of cells to their code grow:
    :math:`\frac{n_a n_b}{n_a + n_b} \|c_a - c_b\|^2`. It never falls on the way up, so that cuts
    at any number of groups are nested. Codes ``(n_codes, n_latent)`` without cells, by their number
    or share ``(n_codes,)``, merge first. Losses with merged groups follow by the formula of Lance
    and Williams (1967); time and memory grow with the square of the number of codes.

    Returns ``(n_codes - 1, 2)`` int64: the groups merged at each step; those of earlier steps are
    numbered from ``n_codes``. More than 4,096 codes merge with codes of their region only, about
    1,000 codes each, in the order of their losses, until 4,096 groups are left.
    """
    weight = n_cells.detach().cpu().double().numpy().clip(1e-12)
    points = codes.detach().cpu().double()
    if len(points) > _MOST_AT_ONCE:
        return torch.from_numpy(_merged_by_region(points, weight))
    return torch.from_numpy(_merged(points, weight)[0])


def _merged(points: Tensor, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mergers ``(n - 1, 2)`` and their losses ``(n - 1,)``."""
    weight, n = weight.copy(), len(weight)
    loss = torch.cdist(points, points).square().numpy()
    for row, own in zip(loss, weight, strict=True):
        row *= weight * own / (weight + own)
    np.fill_diagonal(loss, np.inf)
    nearest, least = loss.argmin(1), loss.min(1)
    number, merges, losses = np.arange(n), np.empty((n - 1, 2), dtype=np.int64), np.empty(n - 1)
    for step in range(n - 1):
        a = int(least.argmin())
        b = int(nearest[a])
        merges[step], number[a], losses[step] = (number[a], number[b]), n + step, least[a]
        row = (weight + weight[a]) * loss[a] + (weight + weight[b]) * loss[b]
        row = (row - weight * loss[a, b]) / (weight + weight[a] + weight[b])
        row[[a, b]] = np.inf
        weight[a] += weight[b]
        loss[a], loss[:, a], loss[b], loss[:, b] = row, row, np.inf, np.inf
        least[b], nearest[b] = np.inf, -1
        closer = row < least
        nearest[closer], least[closer] = a, row[closer]
        for stale in np.flatnonzero(np.isin(nearest, (a, b)) & ~closer | (number == n + step)):
            nearest[stale], least[stale] = loss[stale].argmin(), loss[stale].min()
    return merges, losses


def _merged_by_region(points: Tensor, weight: np.ndarray) -> np.ndarray:
    """Mergers within regions, cheapest first, and of the groups that are then left."""
    n, within = len(points), []
    region = code_regions(points, -(-n // _CODES_PER_REGION)).numpy()
    for r in range(region.max() + 1):
        codes = np.flatnonzero(region == r)
        merges, losses = _merged(points[codes], weight[codes])
        within.append((codes.tolist(), merges.tolist(), losses))
    order = np.argsort(np.concatenate([losses for *_, losses in within]), kind="stable")
    which = np.repeat(range(len(within)), [len(merges) for _, merges, _ in within])[order]
    done, steps = np.empty((n - 1, 2), dtype=np.int64), [iter(merges) for _, merges, _ in within]
    n_within = n - _MOST_AT_ONCE
    for step, r in enumerate(which[:n_within]):
        names = within[r][0]  # of the codes of the region, then of its mergers
        a, b = next(steps[r])
        done[step] = names[a], names[b]
        names.append(n + step)
    root = np.arange(n + n_within)  # the group that each code, and each merger, is a part of
    for step in reversed(range(n_within)):
        root[done[step]] = root[n + step]
    groups, group = np.unique(root[:n], return_inverse=True)
    size = np.bincount(group, weight)
    total = torch.zeros(len(groups), points.shape[1], dtype=points.dtype)
    total.index_add_(0, torch.from_numpy(group), points * torch.from_numpy(weight)[:, None])
    above, _ = _merged(total / torch.from_numpy(size)[:, None], size)
    names = np.concatenate([groups, np.arange(n + n_within, 2 * n - 1)])
    done[n_within:] = names[above]
    return done


def cut_tree(merges: Tensor, n_groups: int) -> Tensor:
    """Group of each code in a cut to ``n_groups``, ``(n_codes,)``, numbered by first codes."""
    n = len(merges) + 1
    members: list[list[int]] = [[code] for code in range(n)]
    for a, b in merges[: n - n_groups].tolist():
        members.append(members[a] + members[b])
        members[a] = members[b] = []
    group = torch.empty(n, dtype=torch.long)
    for number, codes in enumerate(sorted(filter(None, members), key=min)):
        group[codes] = number
    return group


def perplexity(usage: Tensor) -> Tensor:
    """Effective number of codes in use: exponential of the entropy of ``usage``."""
    p = usage / usage.sum().clamp_min(1e-12)
    return torch.exp(-torch.special.xlogy(p, p).sum())
