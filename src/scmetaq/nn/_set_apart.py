import torch
from torch import Tensor

from ._exchange import Partition, nearest, settle
from ._relocation import MIN_CELLS, Merge, Split, cheapest_merges, relocate_once, two_means

_APART = 6.0
"""Standard deviations that a group keeps, at least, from the others of its code to be set apart."""
_FEW_CODES = 100.0
"""What is asked beyond that, times the number of codes: few codes are worth more each."""
_MOST_APART = 8.0
"""Standard deviations that are enough however few codes there are."""
_ALIKE = 4.0
"""Standard deviations between two codes up to which they may be merged; two halves of one group,
cut where it is longest, are two to three apart."""
_TRIES = 8
"""Merges that are looked at for each group, cheapest first."""
_FEWEST = 20
"""Cells of a code in which a group is looked for; among fewer, noise may look as far apart."""
_MOST = 0.05
"""Share of the codes that are set apart at most; at least one may be."""
_NEIGHBORS = 3
"""Cells of a code, the first one among them, whose mean a group is looked for from."""
_MOST_CELLS = 1_024
"""Cells of a code among which a group is looked for."""
_BUDGET = 4_000_000
"""Numbers that are held at once."""
_BLOCK = 8_192


def set_apart(z: Tensor, codes: Tensor) -> Tensor:
    r"""Codes of which some are given to small groups that are clearly apart.

    A few cells of a rare type hardly raise the quantization error where they are, since most of it
    is noise of single cells in hundreds of dimensions, although they are far from the other cells
    of their code in the one direction that tells them apart. The cells of each code are split in
    two, from its mean and from the mean of the three neighbours that are farthest from it. With
    the means :math:`p, q` of the parts, each cell is projected on their difference,

    .. math:: v_i = z_i^\top (p_{\setminus i} - q_{\setminus i}) ,

    where :math:`\setminus i` leaves the cell out of the mean of its own part, so that parts which
    differ by noise alone have the same mean of :math:`v`. Where the means of :math:`v` differ by
    more than :math:`6 + 100 / K` of its standard deviations within parts, eight at most, each part
    gets a code; noise makes five, and a code of few is worth more. It is that of one of two codes
    whose merge costs least (:func:`~scmetaq.nn.relocate`) among those that are not apart
    themselves, by less than four standard deviations of the same kind. Codes of fewer than twenty
    cells and parts of fewer than three stay as they are, and a twentieth of the codes is divided
    at most.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    codes
        Codes, shape ``(n_codes, n_latent)``; each has a cell.

    Returns
    -------
    Codes, shape ``(n_codes, n_latent)``; the same ones if no group is apart.
    """
    state = Partition(z, nearest(z, codes), len(codes))
    split = _groups_apart(state)
    n_apart = int(split.gain.count_nonzero())
    if not n_apart or not relocate_once(state, split, _merges_of_alike(state, n_apart)):
        return codes
    return settle(z, state)


def _groups_apart(state: Partition) -> Split:
    """The groups that get a code whatever it costs."""
    leaves, parts = two_means(state, _far_neighborhoods(state))
    is_enough = (parts.size.view(-1, 2).amin(1) >= MIN_CELLS) & (state.size >= _FEWEST)
    separation = torch.where(is_enough, _separation(state, leaves, parts), 0)
    first = separation.argsort(descending=True)[: max(1, int(_MOST * state.n_codes))]
    first = first[separation[first] > min(_MOST_APART, _APART + _FEW_CODES / state.n_codes)]
    return Split(torch.zeros_like(separation).index_fill_(0, first, torch.inf), leaves)


def _merges_of_alike(state: Partition, n_wanted: int) -> Merge:
    """The cheapest merges of two codes that are not apart themselves; others cost infinitely."""
    merge = cheapest_merges(state)
    tried = merge.cost.argsort()[: _TRIES * n_wanted]
    pairs = torch.stack([tried, merge.partner[tried]], 1).flatten()
    cells, code = _cells_of(state, pairs)
    z, is_second = state.z[cells], code % 2 == 1
    both, parts = Partition(z, code // 2, len(tried)), Partition(z, code, len(pairs))
    separation = _separation(both, is_second, parts)
    cost = torch.full_like(merge.cost, torch.inf)
    cost[tried] = torch.where(separation < _ALIKE, merge.cost[tried], torch.inf)
    return Merge(cost, merge.partner)


def _cells_of(state: Partition, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Cells of the codes in turn, and the position of their code among ``codes``."""
    by_code, begin = _by_code(state)
    size = state.size[codes].long()
    position = torch.arange(len(codes), device=codes.device).repeat_interleave(size)
    offset = begin[codes] - (size.cumsum(0) - size)
    place = torch.arange(len(position), device=codes.device)
    return by_code[place + offset[position]], position


def _by_code(state: Partition) -> tuple[Tensor, Tensor]:
    """Cells in the order of their codes, ``(n_cells,)``, and where each begins, ``(n_codes,)``."""
    size = state.size.long()
    return state.assignment.argsort(stable=True), size.cumsum(0) - size


def _far_neighborhoods(state: Partition) -> Tensor:
    """Of each code the mean of neighbouring cells that is farthest from its mean, ``(K, D)``."""
    z, size = state.z, state.size.long()
    by_code, begin = _by_code(state)
    found = torch.empty_like(state.means)
    codes = size.argsort()  # those of like size together
    while len(codes):
        width = int(size[codes[-1]].clamp(_NEIGHBORS, _MOST_CELLS))
        n = max(1, _BUDGET // (width * (width + z.shape[1])))
        some, codes = codes[-n:], codes[:-n]
        place = torch.arange(width, device=z.device)
        is_cell = place < size[some, None]  # C x W
        cells = by_code[(begin[some, None] + place).clamp(max=len(z) - 1)]  # C x W
        found[some] = _farthest_mean(z[cells] - state.means[some, None], is_cell)
    return state.means + found


def _farthest_mean(x: Tensor, is_cell: Tensor) -> Tensor:
    """Longest mean of neighbours among centred cells ``(C, W, D)``: ``(C, D)``."""
    square = x.square().sum(2)  # C x W
    distance = torch.baddbmm(square[:, None], x, x.mT, alpha=-2)  # C x W x W, but for the row
    distance = distance.masked_fill(~is_cell[:, None], torch.inf)
    near = distance.topk(_NEIGHBORS, 2, largest=False).indices
    weight = torch.zeros_like(distance).scatter_(2, near, 1 / _NEIGHBORS)
    mean = weight @ x  # C x W x D
    farthest = mean.square().sum(2).masked_fill(~is_cell, -1).argmax(1)
    return mean[torch.arange(len(x), device=x.device), farthest]


def _separation(state: Partition, leaves: Tensor, parts: Partition) -> Tensor:
    """Standard deviations between the parts of each code, ``(n_codes,)``; 0 for single cells."""
    own = 2 * state.assignment + leaves  # N
    value = _projections(state, leaves, parts)  # N
    size, mean = parts.size, torch.zeros_like(parts.size)
    mean = mean.index_add_(0, own, value) / size.clamp_min(1)
    square = torch.zeros_like(mean).index_add_(0, own, (value - mean[own]).square())
    variance = square.view(-1, 2).sum(1) / (state.size - 2).clamp_min(1)
    between = mean.view(-1, 2)[:, 1] - mean.view(-1, 2)[:, 0]
    separation = between / variance.clamp_min(1e-12).sqrt()
    return torch.where(size.view(-1, 2).amin(1) > 1, separation, 0)


def _projections(state: Partition, leaves: Tensor, parts: Partition) -> Tensor:
    """Each cell on the difference of the parts of its code, which it does not count in itself."""
    centre, mean = state.means, parts.means
    found = []
    for cells in torch.arange(len(leaves), device=leaves.device).split(_BLOCK):
        code, is_second = state.assignment[cells], leaves[cells]
        x = state.z[cells] - centre[code]
        own, other = 2 * code + is_second, 2 * code + ~is_second
        size = parts.size[own]
        to_own = (size * (x * (mean[own] - centre[code])).sum(1) - x.square().sum(1)) / (
            size - 1
        ).clamp_min(1)
        to_other = (x * (mean[other] - centre[code])).sum(1)
        found.append(torch.where(is_second, to_own - to_other, to_other - to_own))
    return torch.cat(found)
