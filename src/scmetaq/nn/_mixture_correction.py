from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_WIDTH = 0.1
"""Width of the softmax over clusters, in units of one minus the cosine."""
_DIVERSITY = 2.0
"""How strongly clusters of few conditions are avoided."""
_RIDGE = 1.0
_N_ROUNDS = 10
_N_SWEEPS = 10
_N_BLOCKS = 20
_TOLERANCE = 1e-3
_N_REFINEMENTS = 2


class Mixture(NamedTuple):
    """Clusters of cells and what conditions add to the cells of each.

    Letters: ``C`` clusters, ``A`` categories of all condition keys together, ``D`` dimensions.
    """

    centroids: Tensor
    """Mean of the cells of a cluster without their conditions, ``(C, D)``."""
    offsets: Tensor
    """What a category adds to the cells of a cluster, ``(C, A, D)``."""
    log_penalty: Tensor
    """Log of expected over observed cells of a category in a cluster, ``(C, A)``."""


class MixtureCorrection(nn.Module):
    r"""Takes off a cell's values what its conditions add to them, cluster by cluster.

    .. math:: \hat x_i = x_i - \sum_c r_{ic} \sum_{a \in A_i} w_{ca}

    with soft clusters :math:`r` and offsets :math:`w` of the categories :math:`A_i` of the cell.
    Cells are first compared with what a cluster looks like under their own conditions.

    Parameters
    ----------
    n_clusters
        Number of clusters, ``C``.
    n_categories
        Number of categories of each condition key.
    n_dims
        Dimension of the values, ``D``.

    References
    ----------
    Korsunsky et al., Harmony, Nature Methods 2019; Kang et al., Symphony, Nature Communications
    2021.
    """

    centroids: Tensor
    offsets: Tensor
    log_penalty: Tensor

    def __init__(self, n_clusters: int, n_categories: list[int], n_dims: int):
        super().__init__()
        n_all = sum(n_categories)
        self.n_categories = n_categories
        self.register_buffer("centroids", torch.zeros(n_clusters, n_dims))  # C x D
        self.register_buffer("offsets", torch.zeros(n_clusters, n_all, n_dims))  # C x A x D
        self.register_buffer("log_penalty", torch.zeros(n_clusters, n_all))  # C x A

    @torch.no_grad()
    def forward(self, values: Tensor, conditions: Tensor) -> Tensor:
        """Values without what conditions add; unchanged before :meth:`set_mixture`.

        Parameters
        ----------
        values
            ``(n_cells, D)``.
        conditions
            Category of each key, ``(n_cells, n_keys)`` int64.
        """
        design = one_hot(conditions, self.n_categories)  # B x A
        penalty = design @ self.log_penalty.T  # B x C
        under = self.centroids + torch.einsum("ba,cad->bcd", design, self.offsets)  # B x C x D
        similarity = F.cosine_similarity(values[:, None], under, dim=2)  # B x C
        corrected = values
        for _ in range(1 + _N_REFINEMENTS):
            share = torch.softmax(2 * (similarity - 1) / _WIDTH + penalty, 1)  # B x C
            corrected = values - self._added(share, design)
            similarity = _cosine(corrected, self.centroids)
        return corrected

    def _added(self, share: Tensor, design: Tensor) -> Tensor:
        """What conditions add to cells, ``(n_cells, D)``."""
        added = [
            (share * design[:, [a]]) @ self.offsets[:, a] for a in range(self.offsets.shape[1])
        ]
        return torch.stack(added).sum(0)

    def shares(self, corrected: Tensor) -> Tensor:
        """Shares of the clusters in cells without what conditions add, ``(n_cells, C)``."""
        return torch.softmax(2 * (_cosine(corrected, self.centroids) - 1) / _WIDTH, 1)

    @torch.no_grad()
    def take_over(self, reference: "MixtureCorrection") -> None:
        """Take over another's clusters and what its categories add; further ones add nothing.

        Parameters
        ----------
        reference
            Correction with the same clusters and keys, whose categories come first here.
        """
        known = self.columns([range(n) for n in reference.n_categories])
        self._set_n_clusters(len(reference.centroids))
        self.centroids.copy_(reference.centroids)
        self.offsets.zero_()[:, known] = reference.offsets
        self.log_penalty.zero_()[:, known] = reference.log_penalty

    def _set_n_clusters(self, n_clusters: int) -> None:
        """Make room for so many clusters: there were as many as codes, which may have grown."""
        for name in ("centroids", "offsets", "log_penalty"):
            buffer = getattr(self, name)
            if len(buffer) != n_clusters:
                setattr(self, name, buffer.new_zeros(n_clusters, *buffer.shape[1:]))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if f"{prefix}centroids" in state_dict:
            self._set_n_clusters(len(state_dict[f"{prefix}centroids"]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def columns(self, categories: Sequence[Iterable[int]]) -> Tensor:
        """Positions of some categories of each key among those of all keys side by side."""
        starts = [sum(self.n_categories[:i]) for i in range(len(self.n_categories))]
        found = [start + a for start, of in zip(starts, categories, strict=True) for a in of]
        return torch.tensor(found, dtype=torch.long, device=self.offsets.device)

    @torch.no_grad()
    def set_mixture(self, mixture: Mixture) -> None:
        """Take over what :func:`fit_mixture` has found."""
        for name, values in mixture._asdict().items():
            getattr(self, name).copy_(values)


def fit_mixture(
    values: Tensor,
    conditions: Tensor,
    n_categories: list[int],
    *,
    start: Tensor,
    generator: torch.Generator,
) -> Mixture:
    """Find clusters that conditions share, and what conditions add to each.

    Soft clusters that favour a mixture of conditions and ridge regressions on the conditions
    within them alternate until the clusters stand still.

    Parameters
    ----------
    values
        ``(n_cells, D)``.
    conditions
        Category of each key, ``(n_cells, n_keys)`` int64.
    n_categories
        Number of categories of each key.
    start
        Centroids to begin with, ``(C, D)``.
    generator
        Order in which cells are looked at.

    References
    ----------
    Korsunsky et al., Harmony, Nature Methods 2019.
    """
    design = one_hot(conditions, n_categories).to(values)  # N x A
    share_of = design.mean(0)  # A
    corrected, centroids = values, F.normalize(start, dim=1)
    share = torch.softmax(2 * (_cosine(values, centroids) - 1) / _WIDTH, 1)  # N x C
    offsets = values.new_zeros(len(start), design.shape[1], values.shape[1])
    for _ in range(_N_ROUNDS):
        before = share
        share = _clustered(corrected, share, design, share_of, generator)
        offsets = _ridge(values, share, design)
        corrected = values - torch.einsum("nc,na,cad->nd", share, design, offsets)
        if (share - before).abs().sum(1).mean() < _TOLERANCE:
            break
    mass = share.sum(0).clamp_min(1e-6)
    centroids = share.T @ corrected / mass[:, None]
    return Mixture(centroids, offsets, _log_penalty(share, design, share_of))


def _clustered(
    corrected: Tensor,
    share: Tensor,
    design: Tensor,
    share_of: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Soft clusters of corrected cells, the fuller of a condition the less attractive to it."""
    unit = F.normalize(corrected, dim=1)
    share = share.clone()
    for _ in range(_N_SWEEPS):
        before = share.clone()
        centroids = F.normalize(share.T @ unit, dim=1)  # C x D
        near = 2 * (unit @ centroids.T - 1) / _WIDTH  # N x C
        order = torch.randperm(len(unit), generator=generator, device=generator.device)
        for block in order.to(unit.device).chunk(_N_BLOCKS):
            others = share.clone()
            others[block] = 0
            penalty = _log_penalty(others, design, share_of)  # C x A
            share[block] = torch.softmax(near[block] + design[block] @ penalty.T, 1)
        if (share - before).abs().sum(1).mean() < _TOLERANCE:
            break
    return share


def _log_penalty(share: Tensor, design: Tensor, share_of: Tensor) -> Tensor:
    observed = share.T @ design  # C x A
    expected = share.sum(0)[:, None] * share_of  # C x A
    return _DIVERSITY * torch.log((expected + 1) / (observed + 1))


def _ridge(values: Tensor, share: Tensor, design: Tensor) -> Tensor:
    """What categories add in each cluster, beside an intercept that is not penalised."""
    with_intercept = torch.cat([torch.ones_like(design[:, :1]), design], 1)  # N x (1 + A)
    penalty = torch.full_like(with_intercept[0], _RIDGE)
    penalty[0] = 0
    offsets = []
    for of_cluster in share.T:  # N
        weighted = with_intercept * of_cluster[:, None]  # N x (1 + A)
        gram = weighted.T @ with_intercept + torch.diag(penalty + 1e-6)
        offsets.append(torch.linalg.solve(gram, weighted.T @ values)[1:])
    return torch.stack(offsets)  # C x A x D


def one_hot(conditions: Tensor, n_categories: list[int]) -> Tensor:
    """Indicators of the categories of all keys side by side, ``(n_cells, A)``."""
    parts = [F.one_hot(codes, n) for codes, n in zip(conditions.T, n_categories, strict=True)]
    return torch.cat(parts, 1).float()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of rows, ``(n, D)`` and ``(m, D)`` to ``(n, m)``."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
