from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ._fitted import Fitted

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
_QUERY_RIDGE = 10.0
_QUERY_HALF = 1.5
"""Squared distance, in medians, at which a cell of a query has half the weight."""
_N_WEIGHTINGS = 5
_BLOCK = 1_024


class Mixture(NamedTuple):
    """Clusters of cells and effects of conditions on the cells of each.

    Letters: ``C`` clusters, ``A`` categories of all condition keys together, ``D`` dimensions.
    """

    centroids: Tensor
    """Mean of the corrected cells of a cluster, ``(C, D)``."""
    offsets: Tensor
    """Effect of a category on the cells of a cluster, ``(C, A, D)``."""
    log_penalty: Tensor
    """Log of expected over observed cells of a category in a cluster, ``(C, A)``."""


class MixtureCorrection(Fitted[Mixture]):
    r"""Subtract the effects of a cell's conditions from its values, cluster by cluster.

    .. math:: \hat x_i = x_i - \sum_c r_{ic} \sum_{a \in A_i} w_{ca}

    with soft clusters :math:`r` and offsets :math:`w` of the categories :math:`A_i` of the cell.
    Cells are first compared with centroids under their own conditions, then, corrected, with the
    centroids themselves.

    References
    ----------
    Korsunsky et al., Harmony, Nature Methods 2019; Kang et al., Symphony, Nature Communications
    2021.
    """

    def __init__(self, n_clusters: int, n_categories: list[int], n_dims: int):
        n_all = sum(n_categories)
        shapes = (n_clusters, n_dims), (n_clusters, n_all, n_dims), (n_clusters, n_all)
        super().__init__(Mixture(*map(torch.zeros, shapes)))
        self.n_categories = n_categories

    @torch.no_grad()
    def forward(self, values: Tensor, conditions: Tensor) -> Tensor:
        """Values ``(n_cells, D)`` without the effects of conditions; unchanged before the fit.

        ``conditions`` are the category of each key, ``(n_cells, n_keys)`` int64.
        """
        design = one_hot(conditions, self.n_categories)  # B x A
        penalty = design @ self.log_penalty.T  # B x C
        under = self.centroids + torch.einsum("ba,cad->bcd", design, self.offsets)  # B x C x D
        similarity = F.cosine_similarity(values[:, None], under, dim=2)  # B x C
        corrected = values
        for _ in range(1 + _N_REFINEMENTS):
            share = torch.softmax(2 * (similarity - 1) / _WIDTH + penalty, 1)  # B x C
            corrected = values - self.effects(share, design)
            similarity = _cosine(corrected, self.centroids)
        return corrected

    def effects(self, share: Tensor, design: Tensor) -> Tensor:
        """Effects of the categories ``(n_cells, A)`` of cells, by their shares ``(n_cells, C)``."""
        by_category = zip(design.T, self.offsets.transpose(0, 1), strict=True)
        effects = [(share * of_cell[:, None]) @ offsets for of_cell, offsets in by_category]
        return torch.stack(effects).sum(0)

    @torch.no_grad()
    def take_over(self, reference: "MixtureCorrection") -> None:
        """Copy another correction, whose categories come first; further ones have no effect."""
        known, old = self.columns([range(n) for n in reference.n_categories]), reference.state
        n_clusters, _, n_dims = old.offsets.shape
        offsets = old.offsets.new_zeros(n_clusters, sum(self.n_categories), n_dims)
        log_penalty = offsets[:, :, 0].clone()
        offsets[:, known], log_penalty[:, known] = old.offsets, old.log_penalty
        self.set_state(Mixture(old.centroids, offsets, log_penalty))

    def columns(self, categories: Sequence[Iterable[int]]) -> Tensor:
        """Positions of categories of each key among those of all keys concatenated."""
        starts = [sum(self.n_categories[:i]) for i in range(len(self.n_categories))]
        found = [start + a for start, of in zip(starts, categories, strict=True) for a in of]
        return torch.tensor(found, dtype=torch.long, device=self.offsets.device)


def fit_mixture(
    values: Tensor,
    conditions: Tensor,
    n_categories: list[int],
    *,
    start: Tensor,
    generator: torch.Generator,
) -> Mixture:
    """Fit clusters that conditions share, and the effects of conditions in each.

    Soft clusters that favour a mixture of conditions alternate with ridge regressions on the
    conditions within them until the clusters converge. Values are ``(n_cells, D)``, conditions the
    category of each key, ``(n_cells, n_keys)`` int64, initial centroids ``(C, D)``; the generator
    is that of the order in which cells are updated.

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
    corrected: Tensor, share: Tensor, design: Tensor, share_of: Tensor, generator: torch.Generator
) -> Tensor:
    """Soft clusters of corrected cells, with a penalty on a cluster's excess of a condition."""
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
    """Effects of categories in each cluster; the intercept is not penalised."""
    with_intercept = torch.cat([torch.ones_like(design[:, :1]), design], 1)  # N x (1 + A)
    penalty = torch.full_like(with_intercept[0], _RIDGE)
    penalty[0] = 0
    offsets = []
    for of_cluster in share.T:  # N
        weighted = with_intercept * of_cluster[:, None]  # N x (1 + A)
        gram = weighted.T @ with_intercept + torch.diag(penalty + 1e-6)
        offsets.append(torch.linalg.solve(gram, weighted.T @ values)[1:])
    return torch.stack(offsets)  # C x A x D


@torch.no_grad()
def fit_query_offsets(
    correction: MixtureCorrection, values: Tensor, conditions: Tensor, *, new: Tensor
) -> None:
    r"""Estimate the effects of new categories within the clusters of a reference.

    Centroids and effects of known categories stay as they are. With shares :math:`r` of the
    clusters in the cells, corrected for known categories, the effect of a new category is estimated
    in all clusters, :math:`g_a`, then what remains of it in each:

    .. math::

        g_a = \frac{\sum_i \omega_i y_i}{\lambda + \sum_i \omega_i}, \qquad
        w_{ca} = g_a
        + \frac{\sum_i \omega_i r_{ic} (y_i - g_a)}{\lambda + \sum_i \omega_i r_{ic}}, \qquad
        y_i = x_i - \sum_c r_{ic} \mu_c, \quad \lambda = 10,

    for cells :math:`i` of category :math:`a` alone. Cells of a state that the reference lacks are
    far from :math:`g_a` and get a low weight, a redescending M-estimate:

    .. math:: \omega_i = \frac{1}{1 + (q_i / h)^6}, \qquad q_i = \lVert y_i - g_a \rVert^2

    with :math:`h` 1.5 times the median of :math:`q` among cells of the same new categories, most of
    which must be in known states.

    Parameters
    ----------
    correction
        Correction of the reference, with columns for the new categories, which are filled in.
    values
        Values of the query, ``(n_cells, D)``.
    conditions
        Category of each key, ``(n_cells, n_keys)`` int64.
    new
        Columns of the new categories among those of all keys, ``(n_new,)``.

    References
    ----------
    Kang et al., Symphony, Nature Communications 2021; Hampel, The influence curve and its role in
    robust estimation, Journal of the American Statistical Association 1974.
    """
    known = one_hot(conditions, correction.n_categories).to(values)  # N x A
    design = known[:, new]  # N x n_new
    known[:, new] = 0
    groups = design.unique(dim=0, return_inverse=True)[1]  # N
    penalty = _QUERY_RIDGE * torch.eye(len(new)).to(values)
    correction.offsets[:, new] = 0
    blocks = zip(values.split(_BLOCK), conditions.split(_BLOCK), strict=True)
    near = torch.cat([_cosine(correction(v, c), correction.centroids) for v, c in blocks])
    share = torch.softmax(2 * (near - 1) / _WIDTH, 1)  # N x C
    moved = values - correction.effects(share, known) - share @ correction.centroids  # N x D
    weight, rest = torch.ones_like(values[:, :1]), moved
    for _ in range(_N_WEIGHTINGS):
        weighted = weight * design
        shared = torch.linalg.solve(weighted.T @ design + penalty, weighted.T @ moved)  # n_new x D
        rest = moved - design @ shared
        weight = _weights(rest.square().sum(1), groups)[:, None]
    in_clusters = [weight * share * column[:, None] for column in design.T]  # each N x C
    gram = torch.stack([of.T @ design for of in in_clusters], 1)  # C x n_new x n_new
    target = torch.stack([of.T @ rest for of in in_clusters], 1)  # C x n_new x D
    correction.offsets[:, new] = shared + torch.linalg.solve(gram + penalty, target)


def _weights(distance: Tensor, groups: Tensor) -> Tensor:
    """Weights of cells by their squared distance, in medians of their group."""
    median = torch.stack([distance[groups == g].median() for g in range(int(groups.max()) + 1)])
    return 1 / (1 + (distance / (_QUERY_HALF * median[groups]).clamp_min(1e-12)) ** 6)


def one_hot(conditions: Tensor, n_categories: list[int]) -> Tensor:
    """Indicators of the categories of all keys concatenated, ``(n_cells, A)``."""
    parts = [F.one_hot(codes, n) for codes, n in zip(conditions.T, n_categories, strict=True)]
    return torch.cat(parts, 1).float()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of rows, ``(n, D)`` and ``(m, D)`` to ``(n, m)``."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
