from typing import NamedTuple

import torch
from torch import Tensor

from ._distances import squared_distances
from ._exchange import Partition, exchange, nearest, quantization_error

MIN_CELLS = 3
"""Cells that a part has at least; fewer may be damaged cells or doublets."""
_MAX_ROUNDS = 5
_SPLIT_PASSES = 8
_BLOCK = 8_192


def relocate(z: Tensor, codes: Tensor, *, generator: torch.Generator) -> Tensor:
    r"""Codes moved to where a further one lowers the quantization error more.

    Exchange moves single cells, so a small group far from all codes stays with the code that it
    was put to at the start. Here the cells of each code are split in two, and the two codes that
    are most alike are merged; with sizes :math:`n` and means :math:`c` of the two,

    .. math:: \frac{n_a n_b}{n_a + n_b} \|c_a - c_b\|^2

    is what a split gains and a merge costs. The code that a merge sets free goes to a split that
    gains more, cells are :func:`exchanged <scmetaq.nn.exchange>`, and so on while the error falls.
    Parts of one or two cells, which may be damaged cells or doublets, get no code by this.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    codes
        Codes that have been exchanged, shape ``(n_codes, n_latent)``; each has a cell.
    generator
        Source of randomness of the exchange, on the device of ``z``.

    Returns
    -------
    Codes of at most the same error, shape ``(n_codes, n_latent)``; the same ones if none moved.

    References
    ----------
    Fritzke, The LBG-U method for vector quantization, Neural Processing Letters 5 (1997),
    doi:10.1023/A:1009653226428.
    """
    error = quantization_error(z, codes)
    for _ in range(_MAX_ROUNDS):
        state = Partition(z, nearest(z, codes), len(codes))
        if not relocate_once(state, _split(state), cheapest_merges(state)):
            break
        candidate = exchange(z, state.means, generator=generator)
        reached = quantization_error(z, candidate)
        if reached >= error:
            break
        codes, error = candidate, reached
    return codes


class Merge(NamedTuple):
    """For each code the other one with which it merges at the least loss."""

    cost: Tensor
    """By how much the loss rises, ``(n_codes,)``."""
    partner: Tensor
    """The other code, ``(n_codes,)``."""


class Split(NamedTuple):
    """Cells of each code in two parts."""

    gain: Tensor
    """By how much the loss falls, ``(n_codes,)``; zero where a part is too small."""
    leaves: Tensor
    """Whether a cell is in the second part, ``(n_cells,)``."""


def _split(state: Partition) -> Split:
    """Two means of the cells of each code, from their mean and the cell farthest from it."""
    leaves, found = two_means(state, state.z[_farthest(state)])
    size, mean = found.size.view(-1, 2), found.means.view(state.n_codes, 2, -1)
    gain = size.prod(1) / size.sum(1).clamp_min(1) * (mean[:, 0] - mean[:, 1]).square().sum(1)
    return Split(torch.where(size.amin(1) >= MIN_CELLS, gain, 0), leaves)


def two_means(state: Partition, start: Tensor) -> tuple[Tensor, Partition]:
    """Cells of each code in two parts, each cell in the one whose mean is nearer.

    Parameters
    ----------
    state
        Codes of cells.
    start
        Where the second mean of each code starts, ``(n_codes, n_latent)``; the first one starts at
        the mean of the code.

    Returns
    -------
    Whether a cell is in the second part, ``(n_cells,)``, and the parts: those of code ``k`` are
    ``2 k`` and ``2 k + 1``.
    """
    z, twice = state.z, 2 * state.assignment
    parts = torch.stack([state.means, start], 1).flatten(0, 1)  # 2K x D
    for _ in range(_SPLIT_PASSES):
        leaves = _distance(z, parts, twice + 1) < _distance(z, parts, twice)  # N
        found = Partition(z, twice + leaves, len(parts))
        parts = torch.where(found.size[:, None] > 0, found.means, parts)
    return leaves, found


def _farthest(state: Partition) -> Tensor:
    """The cell of each code that is farthest from its mean, ``(n_codes,)``."""
    distance = _distance(state.z, state.means, state.assignment)  # N
    order = distance.argsort()
    farthest = torch.zeros(state.n_codes, dtype=torch.long, device=order.device)
    rank = torch.arange(len(order), device=order.device)
    last = torch.zeros_like(farthest).scatter_reduce_(0, state.assignment[order], rank, "amax")
    return farthest.copy_(order[last])


def _distance(z: Tensor, centres: Tensor, index: Tensor) -> Tensor:
    """Squared distance of each cell to the centre that ``index`` names, ``(n_cells,)``."""
    blocks = zip(z.split(_BLOCK), index.split(_BLOCK), strict=True)
    return torch.cat([(block - centres[named]).square().sum(1) for block, named in blocks])


def relocate_once(state: Partition, split: Split, merge: Merge) -> bool:
    """Merge pairs that cost less than splits gain, and split with the codes set free.

    Parameters
    ----------
    state
        Codes of cells; changed in place.
    split
        How codes would be split. Each code takes part in one merge or split.
    merge
        How codes would be merged; those of infinite cost are not.

    Returns
    -------
    Whether any code moved.
    """
    merges, into = iter(merge.cost.argsort().tolist()), merge.partner.tolist()
    old, taken = state.assignment.clone(), set[int]()
    for code in split.gain.argsort(descending=True).tolist():
        if code in taken:
            continue
        busy = taken | {code}
        merged = next((m for m in merges if m not in busy and into[m] not in busy), None)
        if merged is None or merge.cost[merged] >= split.gain[code]:
            break
        taken |= {code, merged, into[merged]}
        state.assignment[old == merged] = into[merged]
        state.assignment[(old == code) & split.leaves] = merged
    state.refresh()
    return bool(taken)


def cheapest_merges(state: Partition) -> Merge:
    """With which other code each code merges at the least loss."""
    means, size = state.means, state.size
    found = []
    for codes in torch.arange(len(means), device=means.device).split(1_024):
        both = size[codes, None] * size / (size[codes, None] + size)  # B x K
        cost = squared_distances(means[codes], means) * both
        cost[torch.arange(len(codes), device=means.device), codes] = torch.inf
        found.append(cost.min(1))
    return Merge(torch.cat([f.values for f in found]), torch.cat([f.indices for f in found]))
