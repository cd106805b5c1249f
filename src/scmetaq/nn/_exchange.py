from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 1_024
"""Cells whose distances to all codes are held at once."""
_RIVALS = 1.03
"""Ratio of costs below which another code may soon get a cell. Hardly any other cell moves."""
_EVERYONE_EVERY = 6
"""Sweeps of which one visits all cells."""


class _Least(NamedTuple):
    values: Tensor
    """``(n_cells,)``."""
    indices: Tensor
    """Nearest code, ``(n_cells,)``."""


def exchange(
    z: Tensor,
    codes: Tensor,
    *,
    generator: torch.Generator,
    evenness: float = 0.0,
    max_passes: int = 60,
) -> Tensor:
    r"""Codes of least quantization error by exchanging cells between codes.

    Minimises the codebook loss :math:`\sum_i \|z_i - c_{a_i}\|^2` (paper Eq. 10) over codes and
    assignments together. A cell moves from code ``a`` to code ``b`` when that lowers the loss
    with both means updated, i.e. when

    .. math:: \frac{n_b}{n_b+1}\|z-c_b\|^2 < \frac{n_a}{n_a-1}\|z-c_a\|^2 .

    This is stricter than "nearest mean", so it leaves local optima where k-means stops, and it
    never takes the last cell of a code: every code keeps at least one cell.

    With ``evenness`` :math:`\lambda`, moves lower :math:`\sum_i \|z_i - c_{a_i}\|^2 - \lambda
    \bar e N H(u)` instead: usage :math:`u_k = n_k / N` of high entropy :math:`H` is worth as much
    as :math:`\lambda` of the mean error :math:`\bar e` per nat. Codes are then settled as they are
    without it, in the optimum of the loss that lies there.

    Most sweeps visit only cells for which another code was nearly as good at their last visit;
    the last one visits all.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``; ``n_cells`` at least the number of codes.
    codes
        Codes to start from, shape ``(n_codes, n_latent)``.
    generator
        Source of randomness (order of visits), on the device of ``z``.
    evenness
        How much even sizes are worth; 0 for nothing.
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
    assignment = fill_empty(z, codes, nearest(z, codes))
    worth = evenness * quantization_error(z, codes) if evenness else 0.0
    state = Partition(z, assignment, len(codes), worth=worth)
    block = max(16, len(z) // 64)
    everyone = True
    for sweep in range(1, max_passes + 1):
        order = torch.randperm(len(z), generator=generator, device=z.device)
        cells = order if everyone else order[state.rivalry[order] < _RIVALS]
        moved = sum(state.improve(part) for part in cells.split(block))
        settled = moved <= len(z) // 2000
        if settled and everyone:
            break
        everyone = settled or sweep % _EVERYONE_EVERY == 0
        state.refresh()
    return settle(z, state)


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
    worth
        How much loss a nat of the entropy of usage is worth, per cell.
    """

    def __init__(self, z: Tensor, assignment: Tensor, n_codes: int, *, worth: float = 0.0):
        self.worth = worth
        self.z = z  # N x D
        self.assignment = assignment  # N
        self.n_codes = n_codes
        self.rivalry = torch.zeros_like(z[:, 0])
        """What joining another code would cost over what leaving gains, when last visited, N."""
        self.refresh()

    def refresh(self) -> None:
        """Sizes and sums anew from the assignment, free of accumulated rounding."""
        self.size = torch.bincount(self.assignment, minlength=self.n_codes).to(self.z)  # K
        self.total = torch.zeros(self.n_codes, self.z.shape[1]).to(self.z)  # K x D
        self.total.index_add_(0, self.assignment, self.z)
        self._constant = torch.empty_like(self.size)
        self._factor = self.total.new_empty(self.n_codes, self.z.shape[1] + 1)
        self._renew(torch.arange(self.n_codes, device=self.z.device))

    @property
    def means(self) -> Tensor:
        """Mean latent of the cells of each code, ``(n_codes, n_latent)``."""
        return self.total / self.size.clamp_min(1)[:, None]  # K x D

    def improve(self, cells: Tensor) -> int:
        """Make the moves of ``cells`` that lower the loss; how many were made."""
        source = self.assignment[cells]  # B
        cost = self._costs_of_joining(cells)  # B x K
        size = self.size[source]
        own = cost.gather(1, source[:, None])[:, 0] - self._crowding(size)
        stay = own * (size + 1) / (size - 1).clamp_min(0.5) + self._crowding(size - 1)
        least, target = cost.scatter_(1, source[:, None], torch.inf).min(1)  # B: among the others
        self.rivalry[cells] = least / stay.clamp_min(1e-12)
        movers = _first_of_each((least < stay) & (size > 1), stay - least, source)
        self._move(cells[movers], source[movers], target[movers])
        return int(movers.sum())

    def _costs_of_joining(self, cells: Tensor) -> Tensor:
        r"""By how much the loss grows when a cell is added to a code, ``(len(cells), n_codes)``.

        :math:`n (\|z\|^2 - 2 z c + \|c\|^2) / (n + 1)` as one matrix product, the squares of
        cells being a further column, and what entropy is lost.
        """
        rows = self.z[cells]
        rows = torch.cat([rows, rows.square().sum(1, keepdim=True)], 1)  # B x (D + 1)
        return torch.addmm(self._constant, rows, self._factor.T)

    def _renew(self, codes: Tensor) -> None:
        """Bring what the costs of joining are told from to the sizes and means of codes."""
        size = self.size[codes]
        share, mean = size / (size + 1), self.total[codes] / size.clamp_min(1)[:, None]
        self._constant[codes] = share * mean.square().sum(1) + self._crowding(size)  # K
        self._factor[codes, :-1] = -2 * share[:, None] * mean  # K x (D + 1)
        self._factor[codes, -1] = share

    def _crowding(self, size: Tensor) -> Tensor:
        r"""What entropy is lost when a code of ``size`` cells gets a further one, as a loss.

        The difference of :math:`n \ln n`, which add up to :math:`N (\ln N - H)`.
        """
        grown: Tensor = (size + 1).log() + size * (1 / size.clamp_min(1)).log1p()
        return self.worth * grown

    def _move(self, cells: Tensor, source: Tensor, target: Tensor) -> None:
        rows, changed = self.z[cells], torch.cat([source, target])
        self.total.index_add_(0, changed, torch.cat([-rows, rows]))
        ones = torch.ones_like(rows[:, 0])
        self.size.index_add_(0, changed, torch.cat([-ones, ones]))
        self.assignment[cells] = target
        self._renew(changed)


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


def settle(z: Tensor, state: Partition, max_iter: int = 100) -> Tensor:
    """Repeat means and nearest means until each cell is nearest to its own code's mean.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    state
        Where to begin; changed in place.
    max_iter
        Upper bound of repeats.

    Returns
    -------
    Codes, shape ``(n_codes, n_latent)``.
    """
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
    return float((_least(z, codes).values + z.square().sum(1)).clamp_min(0).mean())


def nearest(z: Tensor, codes: Tensor) -> Tensor:
    """Nearest code ``(n_codes, D)`` of each cell ``(n_cells, D)``: ``(n_cells,)``."""
    return _least(z, codes).indices


def _least(z: Tensor, codes: Tensor) -> _Least:
    """Least squared distance of each cell to a code, but for the square of the cell."""
    squares = codes.square().sum(1)  # K
    found = [torch.addmm(squares, block, codes.T, alpha=-2).min(1) for block in z.split(_BLOCK)]
    return _Least(torch.cat([f.values for f in found]), torch.cat([f.indices for f in found]))


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
