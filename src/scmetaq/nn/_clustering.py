"""Codes of least quantization error: k-means++, split-and-merge, Hartigan-Wong exchange."""

from typing import Final, NamedTuple

import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from ._distances import distances_to, principal_scores, squared_distances

_START_DIMS: Final = 64
"""Principal axes in which cells to start from are drawn."""
_MAX_ROUNDS: Final = 10
"""Rounds of split-and-merge."""
_LLOYD_PASSES: Final = 10
"""Passes of k-means in each of them."""
MIN_PART: Final = 3
"""Cells of a part that gets a code; fewer may be damaged cells or doublets."""
_MAX_SWEEPS: Final = 20
"""Sweeps of the exchange over all cells."""
_N_BLOCKS: Final = 16
"""Blocks of a sweep; in each, a code gives one cell at most."""
ROWS: Final = 1_024
"""Cells whose distances to all codes are held at once."""
_ROWS_ADDED: Final = 2**16
"""Cells of which there is a copy in single precision at once."""


class Clustering(NamedTuple):
    """Codes and the cells that each of them stands for."""

    codes: Tensor
    """Means of their cells, ``(n_codes, n_latent)``."""
    assignment: Tensor
    """Code of each cell, the nearest one, ``(n_cells,)``; no code is without cells."""
    error: float
    """Mean squared distance of cells to their codes."""


@torch.no_grad()
def cluster(
    z: Tensor,
    n_codes: int,
    *,
    start: Tensor | None = None,
    evenness: float = 0.0,
    seed: int = 0,
) -> Clustering:
    r"""Find codes of least quantization error, each with at least one cell.

    Minimises the codebook loss :math:`\sum_i \|z_i - c_{a_i}\|^2` (paper Eq. 10) over codes and
    assignments together, in three steps.

    1. *Start*: greedy k-means++ (Arthur and Vassilvitskii 2007), unless ``start`` is given.
    2. *Split-and-merge* (LBG-U, Fritzke 1997): k-means, then the cells of each code are split in
       two, and each code is compared with the one it merges with at the least loss. With sizes
       :math:`n` and means :math:`c` of two groups,

       .. math:: \frac{n_a n_b}{n_a + n_b} \|c_a - c_b\|^2

       is the gain of a split and the cost of a merge. A code that a merge frees goes to a split
       that gains more, while the error falls: so small groups far from all codes get one.
    3. *Exchange* (Hartigan and Wong 1979): a cell moves from code ``a`` to code ``b`` where this
       lowers the loss with both means updated,

       .. math:: \frac{n_b}{n_b+1}\|z-c_b\|^2 < \frac{n_a}{n_a-1}\|z-c_a\|^2 ,

       which leaves local optima where k-means stops. With ``evenness`` :math:`\lambda`, further
       moves lower :math:`\sum_i \|z_i - c_{a_i}\|^2 - \lambda \bar e N H(u)`: the entropy :math:`H`
       of usage :math:`u_k = n_k / N` is rewarded by :math:`\lambda` mean errors :math:`\bar e` per
       nat and cell. Then k-means brings each cell to the nearest mean.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    n_codes
        Number of codes, at most ``n_cells``.
    start
        Codes to start from, shape ``(n_codes, n_latent)``.
    evenness
        Weight :math:`\lambda` of even sizes.
    seed
        Seed of the start and of the order of visits.

    References
    ----------
    Hartigan and Wong, Applied Statistics 28 (1979), doi:10.2307/2346830. Fritzke, Neural
    Processing Letters 5 (1997), doi:10.1023/A:1009653226428. Arthur and Vassilvitskii, SODA
    (2007), doi:10.5555/1283383.1283494.
    """
    if start is None:
        x = principal_scores(z, _START_DIMS).cpu().numpy()
        start = z[torch.from_numpy(kmeans_plusplus(x, n_codes, random_state=seed)[1])]
    assignment = fill_empty(z, start, nearest_codes(z, start))
    found = split_and_merge(z, assignment, n_codes)
    generator = torch.Generator(z.device).manual_seed(seed)
    for share in dict.fromkeys((0.0, evenness)):  # even sizes last: a higher balanced accuracy
        weight = share * found.error
        assignment = exchange(z, found.assignment, n_codes, generator=generator, weight=weight)
        found = lloyd(z, assignment, n_codes, max_passes=100)
    return found


def nearest_codes(z: Tensor, codes: Tensor) -> Tensor:
    """Nearest code ``(n_codes, D)`` of each cell ``(n_cells, D)``: ``(n_cells,)``."""
    squares = codes.square().sum(1)  # K
    return torch.cat(
        [torch.addmm(squares, rows, codes.T, alpha=-2).argmin(1) for rows in z.split(ROWS)]
    )


def fill_empty(z: Tensor, codes: Tensor, assignment: Tensor) -> Tensor:
    """Give every empty code the cell farthest from its code of those that this one can spare."""
    size = torch.bincount(assignment, minlength=len(codes))
    if bool((size > 0).all()):
        return assignment
    assignment = assignment.clone()
    cells = iter(distances_to(z, codes, assignment).argsort(descending=True).tolist())
    for code in torch.nonzero(size == 0)[:, 0].tolist():
        cell = next(i for i in cells if size[assignment[i]] > 1)
        size[assignment[cell]] -= 1
        size[code] += 1
        assignment[cell] = code
    return assignment


def lloyd(z: Tensor, assignment: Tensor, n_codes: int, *, max_passes: int) -> Clustering:
    """Repeat means and nearest means (k-means) until no cell changes its code."""
    changed = torch.ones(n_codes, dtype=torch.bool, device=z.device)
    for _ in range(max_passes):
        codes, _ = means_of(z, assignment, n_codes)
        found = fill_empty(z, codes, _nearest_after(z, codes, assignment, changed))
        moves = found != assignment
        if not bool(moves.any()):
            break
        changed = torch.zeros_like(changed)
        changed[assignment[moves]] = changed[found[moves]] = True
        assignment = found
    codes, _ = means_of(z, assignment, n_codes)
    return Clustering(codes, assignment, float(distances_to(z, codes, assignment).mean()))


def _nearest_after(z: Tensor, codes: Tensor, assignment: Tensor, changed: Tensor) -> Tensor:
    """Nearest code of each cell after some codes have ``changed``, ``(n_codes,)`` bool.

    A cell whose own code is where it was can only be nearer to a code that has changed.
    """
    if bool(changed.all()):
        return nearest_codes(z, codes)
    of_changed, found = torch.nonzero(changed)[:, 0], assignment.clone()
    again = changed[assignment]
    found[again] = nearest_codes(z[again], codes)
    rest = torch.nonzero(~again)[:, 0]
    for cells in rest.split(ROWS):
        rows, own = z[cells], assignment[cells]
        partial = squared_distances(rows, codes[of_changed])  # B x C
        least, which = partial.min(1)
        is_nearer = least < (rows - codes[own]).square().sum(1)
        found[cells] = torch.where(is_nearer, of_changed[which], own)
    return found


def means_of(z: Tensor, assignment: Tensor, n_codes: int) -> tuple[Tensor, Tensor]:
    """Mean of the cells of each code, ``(n_codes, D)``, and their number, not in half precision."""
    total = torch.zeros(
        n_codes, z.shape[1], dtype=torch.promote_types(z.dtype, torch.float), device=z.device
    )
    for rows, of in zip(z.split(_ROWS_ADDED), assignment.split(_ROWS_ADDED), strict=True):
        total.index_add_(0, of, rows.to(total))
    size = torch.bincount(assignment, minlength=n_codes).to(total)
    return total / size.clamp_min(1)[:, None], size


def split_and_merge(z: Tensor, assignment: Tensor, n_codes: int) -> Clustering:
    """Move codes from cheap merges to splits that gain more, with k-means between the rounds."""
    best = lloyd(z, assignment, n_codes, max_passes=_LLOYD_PASSES)
    for _ in range(_MAX_ROUNDS):
        moved = move_codes(best.assignment, best_splits(z, best), cheapest_merges(best))
        if moved is None:
            break
        found = lloyd(z, moved, n_codes, max_passes=_LLOYD_PASSES)
        if found.error >= best.error:
            break
        best = found
    return best


class Split(NamedTuple):
    """Cells of each code in two parts."""

    gain: Tensor
    """Decrease of the loss, ``(n_codes,)``; zero where a part is too small."""
    leaves: Tensor
    """Whether a cell is in the second part, ``(n_cells,)``."""


class Merge(NamedTuple):
    """For each code the other one with which it merges at the least loss."""

    cost: Tensor
    """Increase of the loss, ``(n_codes,)``."""
    partner: Tensor
    """The other code, ``(n_codes,)``."""


def best_splits(z: Tensor, found: Clustering, n_passes: int = 8) -> Split:
    """Split the cells of each code by 2-means, from its mean and the cell farthest from it."""
    codes, twice, n_codes = found.codes, 2 * found.assignment, len(found.codes)
    order = distances_to(z, codes, found.assignment).argsort()
    last = torch.zeros(n_codes, dtype=torch.long, device=z.device)
    rank = torch.arange(len(z), device=z.device)
    last.scatter_reduce_(0, found.assignment[order], rank, "amax")
    parts = torch.stack([codes, z[order[last]]], 1).flatten(0, 1)  # 2K x D
    for _ in range(n_passes):
        leaves = distances_to(z, parts, twice + 1) < distances_to(z, parts, twice)
        means, size = means_of(z, twice + leaves, 2 * n_codes)
        parts = torch.where(size[:, None] > 0, means, parts)
    size, means = size.view(-1, 2), means.view(n_codes, 2, -1)
    gain = size.prod(1) / size.sum(1).clamp_min(1) * (means[:, 0] - means[:, 1]).square().sum(1)
    return Split(torch.where(size.amin(1) >= MIN_PART, gain, 0), leaves)


def cheapest_merges(found: Clustering) -> Merge:
    """Find the other code with which each code merges at the least loss."""
    codes, n_codes = found.codes, len(found.codes)
    size = torch.bincount(found.assignment, minlength=n_codes).to(codes)
    best = []
    for rows in torch.arange(n_codes, device=codes.device).split(ROWS):
        cost = squared_distances(codes[rows], codes)  # B x K
        cost *= size[rows, None] * size / (size[rows, None] + size)
        cost[torch.arange(len(rows), device=codes.device), rows] = torch.inf
        best.append(cost.min(1))
    return Merge(torch.cat([b.values for b in best]), torch.cat([b.indices for b in best]))


def move_codes(assignment: Tensor, split: Split, merge: Merge) -> Tensor | None:
    """Merge pairs that cost less than splits gain, and split with the codes that are freed.

    Returns the new assignment, None if no code moves. Each code is in one merge or split.
    """
    merges, into = iter(merge.cost.argsort().tolist()), merge.partner.tolist()
    new = torch.arange(len(into), device=assignment.device)
    new_of_leaves, taken = new.clone(), set[int]()
    for code in split.gain.argsort(descending=True).tolist():
        if code in taken:
            continue
        busy = taken | {code}
        free = next((m for m in merges if m not in busy and into[m] not in busy), None)
        if free is None or merge.cost[free] >= split.gain[code]:
            break
        taken |= {code, free, into[free]}
        new[free] = new_of_leaves[free] = into[free]
        new_of_leaves[code] = free
    if not taken:
        return None
    return torch.where(split.leaves, new_of_leaves[assignment], new[assignment])


def exchange(
    z: Tensor, assignment: Tensor, n_codes: int, *, generator: torch.Generator, weight: float = 0.0
) -> Tensor:
    """Move single cells between codes where the loss falls with both means updated.

    Of each random block a code gives at most the one cell that lowers the loss most, and never its
    last one. A nat of the entropy of usage counts as a loss of ``weight`` per cell.
    """
    sizes = torch.arange(len(z) + 1, device=z.device).to(z)
    # increase of n log n by a further cell
    crowding = weight * ((sizes + 1).log() + sizes * (1 / sizes.clamp_min(1)).log1p())
    assignment = assignment.clone()
    for _ in range(_MAX_SWEEPS):
        means, size = means_of(z, assignment, n_codes)
        total, n_moved = means * size[:, None], 0
        order = torch.randperm(len(z), generator=generator, device=z.device)
        for cells in order.split(max(16, len(z) // _N_BLOCKS)):
            source, rows, whole = assignment[cells], z[cells], size.long()
            n = size[source]
            distance = squared_distances(rows, total / size[:, None])  # B x K
            stay = distance.gather(1, source[:, None])[:, 0] * n / (n - 1).clamp_min(0.5)
            join = distance * (size / (size + 1)) + crowding[whole]
            least, target = join.scatter_(1, source[:, None], torch.inf).min(1)  # B
            gain = torch.where(n > 1, stay + crowding[whole[source] - 1] - least, 0)
            movers = _largest_of_each(source, gain, n_codes)
            if not len(movers):
                continue
            moved, a, b = rows[movers], source[movers], target[movers]
            total.index_add_(0, a, -moved).index_add_(0, b, moved)
            size += torch.bincount(b, minlength=n_codes) - torch.bincount(a, minlength=n_codes)
            assignment[cells[movers]] = b
            n_moved += len(movers)
        if n_moved <= len(z) // 2_000:
            break
    return assignment


def _largest_of_each(source: Tensor, gain: Tensor, n_codes: int) -> Tensor:
    """Positions of the cells of largest gain of each source code, if any gains."""
    best = gain.new_zeros(n_codes).scatter_reduce_(0, source, gain, "amax")  # K
    gains = torch.nonzero((gain > 0) & (gain == best[source]))[:, 0]
    position = torch.zeros_like(best, dtype=torch.long).scatter_(0, source[gains], gains)
    return position[best > 0]
