"""Codes of small groups of cells that are apart, such as rare types."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from ._clustering import MIN_PART, ROWS, Clustering, cheapest_merges, fill_empty, lloyd
from ._distances import distances_to, squared_distances

_NEAR: Final = 16
"""Codes among whose cells a small group is searched for."""
_APART: Final = 6.0
"""Standard deviations between a group and the cells around it from which it is set apart."""
_ALIKE: Final = 4.0
"""The same up to which codes are merged for such a group; halves of one are two to three apart."""


def set_groups_apart(z: Tensor, found: Clustering) -> Clustering:
    """Give codes to small groups that are clearly apart from the cells around them.

    A few cells of a rare type hardly raise the loss, most of which is noise of single cells in
    hundreds of dimensions. A group is searched for around each code: it starts at the farthest mean
    of three neighbours, and takes in those cells of 16 codes that are nearer to its mean than to
    their codes. It and the other cells of these codes are projected on the difference of their
    means, each cell without its own influence. A group that is six standard deviations from them
    gets the code of one of two that merge at little cost and are not apart themselves. At most a
    twentieth of the codes move.
    """
    n_codes, assignment = len(found.codes), found.assignment.clone()
    size = torch.bincount(assignment, minlength=n_codes).tolist()
    cells = assignment.argsort(stable=True).split(size)
    distance, groups = distances_to(z, found.codes, assignment), list[tuple[float, Tensor]]()
    nearest = squared_distances(found.codes, found.codes).argsort(1)[:, :_NEAR].tolist()  # K x 16
    for code, near in enumerate(nearest):
        around = torch.cat([cells[code], *(cells[other] for other in near if other != code)])
        is_in = _farthest_group(z[around], distance[around], found.codes[code], size[code])
        if int(is_in.sum()) >= MIN_PART:
            of_same = torch.isin(assignment[around], assignment[around[is_in]])
            groups.append((separation(z[around[of_same]], is_in[of_same]), around[is_in]))
    chosen = list[Tensor]()
    for apart, group in sorted(groups, key=lambda of: -of[0]):
        if apart > _APART and not any(torch.isin(group, other).any() for other in chosen):
            chosen.append(group)
    moves = list(zip(chosen[: math.ceil(n_codes / 20)], _freed(z, found, cells), strict=False))
    for group, (code, into) in moves:
        assignment[assignment == code] = into
        assignment[group] = code
    if not moves:
        return found
    return lloyd(z, fill_empty(z, found.codes, assignment), n_codes, max_passes=100)


def _freed(z: Tensor, found: Clustering, cells: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Codes that merge at the least cost, and into which, unless they are apart themselves."""
    cost, partner = cheapest_merges(found)
    taken = set[int]()
    for code in cost.argsort().tolist():
        into = int(partner[code])
        pair = torch.cat([cells[code], cells[into]])
        is_free = not {code, into} & taken
        if is_free and separation(z[pair], found.assignment[pair] == into) < _ALIKE:
            taken |= {code, into}
            yield code, into


def _farthest_group(
    z: Tensor, distance: Tensor, code: Tensor, n_own: int, n_passes: int = 3
) -> Tensor:
    """Cells nearer to a centre of their own than, by ``distance``, to their codes.

    The centre is first the mean of three neighbours that is farthest from the code of the
    ``n_own`` first cells, then that of its cells.
    """
    own = z[: min(n_own, ROWS)]
    local = z[torch.cdist(own, z).topk(min(3, len(z)), largest=False).indices].mean(1)
    centre = local[(local - code).square().sum(1).argmax()]
    for _ in range(n_passes):
        is_in = (z - centre).square().sum(1) < distance
        centre = z[is_in].mean(0)
    return is_in


def separation(z: Tensor, is_second: Tensor) -> float:
    r"""Standard deviations between two parts of cells; 0 if one has a single cell.

    With the means :math:`p, q` of the parts, cells are projected to :math:`z_i^\top (p_{\setminus
    i} - q_{\setminus i})`, where a cell is left out of the mean of its own part: parts that differ
    by noise alone then have the same mean.
    """
    x, value = z - z.mean(0), z.new_zeros(len(z))
    if min(int(is_second.sum()), int((~is_second).sum())) < 2:
        return 0.0
    for part, sign in ((is_second, 1), (~is_second, -1)):
        to_mean, n = x @ x[part].mean(0), part.sum()
        without = (n * to_mean - x.square().sum(1)) / (n - 1)
        value += sign * torch.where(part, without, to_mean)
    mean = torch.where(is_second, value[is_second].mean(), value[~is_second].mean())
    within = (value - mean).square().sum() / (len(z) - 2)
    return float((mean[is_second][0] - mean[~is_second][0]) / within.clamp_min(1e-12).sqrt())
