from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ._distances import distances_without, squared_distances, typical_distances

Distance = Literal["cosine", "euclidean"]
N_QUANTILES = 1_001
"""Quantiles that are kept: at 0, 0.001, ..., 1."""

_MOST_ENTRIES = 2**26
"""Similarities of cells and codes that are held at once: 256 MB."""
_PATIENCE = 5
"""Rounds without fewer empty codes, after which distinct cells are counted."""
_FEWEST_FOR_REACH = 5
"""Cells of a code from which it is told how far cells are from theirs."""


class Lookup(NamedTuple):
    """Nearest codes of a batch of cells."""

    assignment: Tensor
    """Index of the most similar code, ``(n_cells,)`` int64."""
    margin: Tensor
    """Best minus second-best similarity, ``(n_cells,)``."""


class Codebook(nn.Module):
    r"""Codes in latent space, each of which stands for one metacell.

    Parameters
    ----------
    n_codes
        Number of codes, ``K``.
    n_latent
        Dimension of the latent, ``D``.
    distance
        Similarity of a cell and a code: ``"euclidean"``, minus the squared distance, or
        ``"cosine"`` (paper Eq. 5), which depends on directions from the origin only.
    momentum
        :math:`\eta` of the moving average of usage (Eq. 11).

    Notes
    -----
    Looking up never changes the codebook. :meth:`update_usage` and the two adjustments are
    called by the training plan, and by nothing else.
    """

    codes: nn.Parameter
    usage: Tensor
    offsets: Tensor
    reach: Tensor
    """Quantiles of the squared distances of cells to codes that they had no part in."""
    spread: Tensor
    """Distance from each code at which its cells typically are, ``(n_codes,)``."""
    n_cells: Tensor
    """Number of cells that ``usage`` is about."""
    fitted: Tensor

    def __init__(
        self,
        n_codes: int,
        n_latent: int,
        *,
        distance: Distance = "euclidean",
        momentum: float = 0.9,
    ):
        super().__init__()
        self.distance = distance
        self.momentum = momentum
        self.codes = nn.Parameter(torch.empty(n_codes, n_latent))  # K x D
        nn.init.uniform_(self.codes, -1 / n_codes, 1 / n_codes)
        self.register_buffer("usage", torch.zeros(n_codes))  # K
        self.register_buffer("offsets", torch.zeros(n_codes))  # K
        self.register_buffer("reach", torch.zeros(N_QUANTILES))  # Q
        self.register_buffer("spread", torch.zeros(n_codes))  # K
        self.register_buffer("n_cells", torch.tensor(0))
        self.register_buffer("fitted", torch.tensor(False))
        self.is_fitted = False
        """``fitted`` where the host need not wait for the device to know it."""
        self.is_bounded = False
        """Whether there are ``offsets``, likewise."""

    @property
    def n_codes(self) -> int:
        """Number of codes, ``K``."""
        return self.codes.shape[0]

    def similarity(self, z: Tensor) -> Tensor:
        """Similarity of cells to codes, higher is nearer: ``(n_cells, n_codes)``."""
        if self.distance == "cosine":
            return F.normalize(z) @ F.normalize(self.codes).T  # B x K
        return -squared_distances(z, self.codes)  # B x K

    def preference(self, z: Tensor) -> Tensor:
        """Similarity plus the offsets that keep sizes within bounds, ``(n_cells, n_codes)``.

        With offsets cells stand on the border between codes, so that it takes double precision to
        tell them apart.
        """
        if not self.is_bounded:
            return self.similarity(z)
        return self.exact_similarity(z) + self.offsets  # B x K

    def exact_similarity(self, z: Tensor) -> Tensor:
        """Similarity in double precision, where the device has it."""
        if z.device.type == "mps":
            return self.similarity(z)
        z, codes = z.double(), self.codes.double()
        if self.distance == "cosine":
            return F.normalize(z) @ F.normalize(codes).T  # B x K
        return -squared_distances(z, codes)  # B x K

    @torch.no_grad()
    def assign(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Preference for the best code of each cell, and which code that is.

        Unlike a call of the codebook this never holds all similarities of many cells at once.
        """
        n_rows = max(1, _MOST_ENTRIES // self.n_codes)
        best = [self.preference(rows).max(1) for rows in z.split(n_rows)]
        return torch.cat([of.values for of in best]), torch.cat([of.indices for of in best])

    def forward(self, z: Tensor) -> Lookup:
        """Most similar code of each cell and the margin to the second (Eq. 5)."""
        best = self.preference(z).topk(2, dim=1)  # B x 2
        return Lookup(best.indices[:, 0], (best.values[:, 0] - best.values[:, 1]).to(z.dtype))

    def lookup_groups(self, z: Tensor, group: Tensor) -> Lookup:
        """Group of the most similar code of each cell, and the margin to the other groups.

        Parameters
        ----------
        z
            Latents, ``(n_cells, n_latent)``.
        group
            Group of each code, ``(n_codes,)``, at least two of them.
        """
        preference = self.preference(z)  # B x K
        best = preference.max(1)
        found = group[best.indices]  # B
        others = preference.masked_fill(found[:, None] == group, -torch.inf).amax(1)  # B
        return Lookup(found, (best.values - others).to(z.dtype))

    def group_preference(self, z: Tensor, group: Tensor) -> Tensor:
        """Preference for the best code of each group, ``(n_cells, n_groups)``; see above."""
        preference = self.preference(z)  # B x K
        best = torch.full((len(z), int(group.max()) + 1), -torch.inf).to(preference)
        return best.scatter_reduce(1, group.expand(len(z), -1), preference, "amax")

    def merged(self, group: Tensor, n_groups: int) -> Tensor:
        """Codes of groups of codes: their means by usage, ``(n_groups, n_latent)``.

        Parameters
        ----------
        group
            Group of each code, ``(n_codes,)``.
        n_groups
            Number of groups.
        """
        weight = self.usage.clamp_min(1e-12)  # K
        total = torch.zeros(n_groups, self.codes.shape[1]).to(self.codes)  # n_groups x D
        total.index_add_(0, group, self.codes.detach() * weight[:, None])
        return total / torch.zeros(n_groups).to(weight).index_add_(0, group, weight)[:, None]

    def embed(self, assignment: Tensor) -> Tensor:
        """Codes of assigned cells, ``(n_cells, n_latent)``."""
        return F.embedding(assignment, self.codes)  # B x D

    @torch.no_grad()
    def set_codes(self, codes: Tensor) -> None:
        """Replace all codes, ``(n_codes, n_latent)``, and forget usage and offsets."""
        self.codes.copy_(codes)
        self.usage.zero_()
        self.set_offsets(torch.zeros_like(self.offsets))
        self._set_fitted(True)

    @torch.no_grad()
    def set_offsets(self, offsets: Tensor) -> None:
        """What to add to the similarities of each code, ``(n_codes,)``; zeros for nothing."""
        self.offsets.copy_(offsets)
        self.is_bounded = bool((offsets != 0).any())

    def forget_codes(self) -> None:
        """Count the codes as not fitted, so that training puts new ones in their place."""
        self._set_fitted(False)

    def _set_fitted(self, value: bool) -> None:
        self.fitted.fill_(value)
        self.is_fitted = value

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.setdefault(f"{prefix}spread", torch.zeros_like(self.spread))  # of old models
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.is_fitted = bool(self.fitted)
        self.is_bounded = bool((self.offsets != 0).any())

    def count_cells(self, assignment: Tensor) -> Tensor:
        """Cells of each code, ``(n_codes,)``; unlike ``bincount`` this never waits for a device."""
        ones = torch.ones_like(assignment, dtype=self.usage.dtype)
        return torch.zeros_like(self.usage).index_add_(0, assignment, ones)

    @torch.no_grad()
    def update_usage(self, assignment: Tensor) -> None:
        """Move the average share of cells of each code towards this batch's (Eq. 11)."""
        self.usage.lerp_(self.count_cells(assignment) / len(assignment), 1 - self.momentum)

    @torch.no_grad()
    def set_usage(self, z: Tensor) -> None:
        """Replace the moving average by the shares of the cells ``z``, ``(n_cells, D)``."""
        self.usage.copy_(self.count_cells(self.assign(z)[1]) / len(z))
        self.n_cells.fill_(len(z))

    @torch.no_grad()
    def set_reach(self, z: Tensor, dimensions: Tensor) -> None:
        """Take up how far cells are from codes that they had no part in.

        Parameters
        ----------
        z
            Latents of the cells that codes were fitted to, ``(n_cells, D)``.
        dimensions
            Those in which distances are taken, ``(n_dims,)``.
        """
        assignment = self.assign(z)[1]
        distances = distances_without(z[:, dimensions], self.codes[:, dimensions], assignment)
        size = torch.bincount(assignment, minlength=self.n_codes)[assignment]
        known = (
            distances[size >= min(_FEWEST_FOR_REACH, int(size.max()))].cpu().double().sort().values
        )
        place = torch.linspace(0, len(known) - 1, N_QUANTILES).round().long()
        self.reach.copy_(known[place])

    @torch.no_grad()
    def set_spread(self, z: Tensor) -> None:
        """Take up how far the cells that codes were fitted to are from theirs, ``(n_cells, D)``."""
        assignment = self.assign(z)[1]
        self.spread.copy_(
            typical_distances(self.distances(z, assignment), assignment, self.n_codes)
        )

    def distances(self, z: Tensor, assignment: Tensor) -> Tensor:
        """Euclidean distances of cells to their codes, ``(n_cells,)``."""
        return (z - self.embed(assignment)).square().sum(1).sqrt()

    @torch.no_grad()
    def add_codes(self, codes: Tensor, n_cells: Tensor) -> None:
        """Add codes; those there are, and their usage, stay as they are.

        Parameters
        ----------
        codes
            Further codes, ``(n_new, n_latent)``.
        n_cells
            Cells of each; their usage is this over the number of cells of the others, ``(n_new,)``.
        """
        grown = torch.cat([self.codes.detach(), codes.to(self.codes)])
        self.codes = nn.Parameter(grown, requires_grad=self.codes.requires_grad)
        usage = n_cells.to(self.usage) / self.n_cells.clamp_min(1)
        self.usage = torch.cat([self.usage, usage])
        self.offsets = torch.cat([self.offsets, torch.zeros_like(usage)])
        self.spread = torch.cat([self.spread, self.spread.median().expand(len(usage))])

    @torch.no_grad()
    def adjust_small(self, z: Tensor) -> None:
        r"""Pull hardly used codes towards cells that no code serves well (Eq. 12, 13).

        Cell ``i`` is drawn with probability proportional to
        :math:`\max_j \mathrm{softmax}_j(1 - s_{ij})`, code ``k`` moves towards its draw by
        :math:`\beta = \exp(-100\,U_k K - \epsilon)`.
        """
        need = (1 - self.similarity(z)).softmax(dim=1).amax(dim=1)  # B
        drawn = z[torch.multinomial(need, self.n_codes, replacement=True)]  # K x D
        step = torch.exp(-100 * self.usage * self.n_codes - 1e-3)  # K
        self.codes.lerp_(drawn.to(self.codes), step[:, None])

    @torch.no_grad()
    def adjust_large(self, z: Tensor) -> None:
        r"""Push crowded codes towards cells of middling similarity (Eq. 14, 15).

        :math:`\beta = \exp(-10\,\bar U / U_k - \epsilon)` with the mean usage for the paper's
        misprinted factor, and only once the moving average has filled up.
        """
        has_filled_up = self.usage.sum() + 1e-4 >= 1  # stays on the device
        similarity = self.similarity(z)  # B x K
        middle = similarity.median(dim=0).values  # K
        weight = (-(similarity - middle).abs()).softmax(dim=0)  # B x K
        drawn = z[torch.multinomial(weight.T, 1).squeeze(1)]  # K x D
        step = torch.exp(-10 * self.usage.mean() / self.usage.clamp_min(1e-12) - 1e-3)  # K
        self.codes.lerp_(drawn.to(self.codes), (step * has_filled_up)[:, None])

    @torch.no_grad()
    def claim_cells(self, z: Tensor) -> int:
        """Give every code at least one of the cells ``z``: what guarantees K metacells.

        A code that no cell is nearest to takes the place of the worst served cell whose own code
        can spare it, and the offset of that code, until none is left empty. Where there are fewer
        distinct cells than codes, some stay so.

        Returns
        -------
        How many codes moved.
        """
        moved, fewest, since = 0, self.n_codes + 1, 0
        for _ in range(self.n_codes):
            best, assignment = self.assign(z)
            size = torch.bincount(assignment, minlength=self.n_codes)
            empty = torch.nonzero(size == 0)[:, 0]
            if len(empty) == 0:
                break
            since = 0 if len(empty) < fewest else since + 1
            fewest = min(fewest, len(empty))
            if since == _PATIENCE and len(z.unique(dim=0)) < self.n_codes:
                break
            similarity = best - self.offsets[assignment]
            worst = torch.argsort(torch.where(size[assignment] > 1, similarity, torch.inf))
            taken = worst[: len(empty)]
            self.codes[empty] = z[taken]
            self.offsets[empty] = self.offsets[assignment[taken]]
            moved += len(empty)
        return moved


def codebook_loss(z: Tensor, z_q: Tensor) -> Tensor:
    r"""Distance of codes to the cells they stand for (Eq. 10), ``(n_cells,)``.

    :math:`\|q(z) - \mathrm{sg}[z]\|^2 / D`: the cells are held, the codes move. The paper sums
    over the ``D`` dimensions, the authors' code, and this function, average.
    """
    return (z_q - z.detach()).square().mean(1)


def perplexity(usage: Tensor) -> Tensor:
    """Effective number of codes in use: exponential of the entropy of ``usage``."""
    p = usage / usage.sum().clamp_min(1e-12)
    return torch.exp(-torch.special.xlogy(p, p).sum())
