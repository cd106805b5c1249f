import torch
from torch import Tensor

from ._codebook import squared_distances

_BLOCK = 8_192


def exchange(
    z: Tensor, codes: Tensor, *, generator: torch.Generator, max_passes: int = 30
) -> Tensor:
    r"""Codes of least quantization error by exchanging cells between codes.

    Minimises the codebook loss :math:`\sum_i \|z_i - c_{a_i}\|^2` (paper Eq. 10) over codes and
    assignments together. A cell moves from code ``a`` to code ``b`` when that lowers the loss
    with both means updated, i.e. when

    .. math:: \frac{n_b}{n_b+1}\|z-c_b\|^2 < \frac{n_a}{n_a-1}\|z-c_a\|^2 .

    This is stricter than "nearest mean", so it leaves local optima where k-means stops, and it
    never takes the last cell of a code: every code keeps at least one cell.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``; ``n_cells`` at least the number of codes.
    codes
        Codes to start from, shape ``(n_codes, n_latent)``.
    generator
        Source of randomness (order of visits), on the device of ``z``.
    max_passes
        Upper bound of sweeps over the cells.

    Returns
    -------
    Codes, shape ``(n_codes, n_latent)``: the means of their cells, each of which is nearest to
    its own mean.

    References
    ----------
    Hartigan and Wong, Applied Statistics 28 (1979), doi:10.2307/2346830.
    """
    state = Partition(z, fill_empty(z, codes, nearest(z, codes)), len(codes))
    block = max(16, len(z) // 64)
    for _ in range(max_passes):
        order = torch.randperm(len(z), generator=generator, device=z.device)
        moved = sum(state.improve(part) for part in order.split(block))
        if moved <= len(z) // 2000:
            break
        state.refresh()
    return _settle(z, state)


class Partition:
    """Assignment of cells with the sizes and means of its codes, kept in step.

    Parameters
    ----------
    z
        Latents, ``(n_cells, n_latent)``.
    assignment
        Code of each cell, ``(n_cells,)``.
    n_codes
        Number of codes.
    """

    def __init__(self, z: Tensor, assignment: Tensor, n_codes: int):
        self.z = z  # N x D
        self.assignment = assignment  # N
        self.n_codes = n_codes
        self.refresh()

    def refresh(self) -> None:
        """Sizes and sums anew from the assignment, free of accumulated rounding."""
        self.size = torch.bincount(self.assignment, minlength=self.n_codes).to(self.z)  # K
        self.total = torch.zeros(self.n_codes, self.z.shape[1]).to(self.z)  # K x D
        self.total.index_add_(0, self.assignment, self.z)

    @property
    def means(self) -> Tensor:
        """Mean latent of the cells of each code, ``(n_codes, n_latent)``."""
        return self.total / self.size.clamp_min(1)[:, None]  # K x D

    def improve(self, cells: Tensor) -> int:
        """Make the moves of ``cells`` that lower the loss; how many were made."""
        source = self.assignment[cells]  # B
        distance = squared_distances(self.z[cells], self.means)  # B x K
        cost = distance * (self.size / (self.size + 1))  # B x K
        size = self.size[source]
        stay = distance.gather(1, source[:, None])[:, 0] * size / (size - 1).clamp_min(0.5)
        cost.scatter_(1, source[:, None], stay[:, None])
        target = cost.argmin(1)  # B
        gain = stay - cost.gather(1, target[:, None])[:, 0]
        movers = _first_of_each((target != source) & (size > 1), gain, source)
        self._move(cells[movers], source[movers], target[movers])
        return int(movers.sum())

    def _move(self, cells: Tensor, source: Tensor, target: Tensor) -> None:
        rows = self.z[cells]
        self.total.index_add_(0, source, -rows)
        self.total.index_add_(0, target, rows)
        ones = torch.ones_like(rows[:, 0])
        self.size.index_add_(0, source, -ones)
        self.size.index_add_(0, target, ones)
        self.assignment[cells] = target


def _first_of_each(candidates: Tensor, gain: Tensor, source: Tensor) -> Tensor:
    """Of the candidates of each source code only the one of largest gain, as a mask.

    One leaver per code and block: moves made together hardly interact, and no code is emptied.
    """
    order = torch.argsort(torch.where(candidates, gain, -torch.inf), descending=True)
    first = torch.zeros_like(candidates)
    n = len(source)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n, device=order.device)
    rank = torch.where(candidates, rank, n)
    best = torch.full((int(source.max()) + 1,), n, device=order.device, dtype=order.dtype)
    best.scatter_reduce_(0, source, rank, "amin")
    first[candidates] = rank[candidates] == best[source[candidates]]
    return first


def _settle(z: Tensor, state: Partition, max_iter: int = 100) -> Tensor:
    """Repeat means and nearest means until each cell is nearest to its own code's mean."""
    for _ in range(max_iter):
        codes = state.means
        assignment = fill_empty(z, codes, nearest(z, codes))
        if torch.equal(assignment, state.assignment):
            break
        state.assignment = assignment
        state.refresh()
    return state.means


def quantization_error(z: Tensor, codes: Tensor) -> float:
    """Mean squared distance of cells ``(n_cells, D)`` to the nearest code ``(n_codes, D)``."""
    blocks = [squared_distances(block, codes).amin(1) for block in z.split(_BLOCK)]
    return float(torch.cat(blocks).mean())


def nearest(z: Tensor, codes: Tensor) -> Tensor:
    """Nearest code ``(n_codes, D)`` of each cell ``(n_cells, D)``: ``(n_cells,)``."""
    return torch.cat([squared_distances(block, codes).argmin(1) for block in z.split(_BLOCK)])


def fill_empty(z: Tensor, codes: Tensor, assignment: Tensor) -> Tensor:
    """Give every empty code the worst served cell that its code can spare.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    codes
        Codes, shape ``(n_codes, n_latent)``.
    assignment
        Code of each cell, shape ``(n_cells,)``.

    Returns
    -------
    Assignment in which every code has a cell, shape ``(n_cells,)``.
    """
    size = torch.bincount(assignment, minlength=len(codes))
    if bool((size > 0).all()):
        return assignment
    assignment = assignment.clone()
    error = (z - codes[assignment]).square().sum(1)  # N
    worst_first = iter(torch.argsort(error, descending=True).tolist())
    for code in torch.nonzero(size == 0)[:, 0].tolist():
        cell = next(i for i in worst_first if size[assignment[i]] > 1)
        size[assignment[cell]] -= 1
        size[code] += 1
        assignment[cell] = code
    return assignment
