import numpy as np
import torch
from torch import Tensor


def merge_codes(codes: Tensor, n_cells: Tensor) -> Tensor:
    r"""Tree of codes: which two groups are merged at each step, least loss first.

    The loss of a merger is Ward's, by which the squared distances of cells to their code grow:
    :math:`\frac{n_a n_b}{n_a + n_b} \|c_a - c_b\|^2`. It never falls on the way up, so that cuts
    at any number of groups are nested. Codes ``(n_codes, n_latent)`` without cells, by their number
    or share ``(n_codes,)``, merge first. Losses with merged groups follow by the formula of Lance
    and Williams (1967); time and memory grow with the square of the number of codes.

    Returns ``(n_codes - 1, 2)`` int64: the groups merged at each step; those of earlier steps are
    numbered from ``n_codes``.
    """
    weight = n_cells.detach().cpu().double().numpy().clip(1e-12)
    points = codes.detach().cpu().double()
    n, loss = len(weight), torch.cdist(points, points).square().numpy()
    for row, own in zip(loss, weight, strict=True):
        row *= weight * own / (weight + own)
    np.fill_diagonal(loss, np.inf)
    nearest, least = loss.argmin(1), loss.min(1)
    number, merges = np.arange(n), np.empty((n - 1, 2), dtype=np.int64)
    for step in range(n - 1):
        a = int(least.argmin())
        b = int(nearest[a])
        merges[step], number[a] = (number[a], number[b]), n + step
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
    return torch.from_numpy(merges)


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
