import torch
from torch import Tensor

from ._prototypes import N_QUANTILES, PrototypeState, encoded, nearest_prototype, state_distance

N_FOLDS = 5
_FLOOR = 1e-6
"""Smallest variance of a whitened dimension, as a share of the mean variance."""
_PRIOR_CELLS = 100
"""Weight, in cells, of the mean over all labels in the typical distance of one of them."""
_NEAREST = 0.1
"""Least distance of new cells, as a share of that of others."""


class PrototypeFit:
    r"""Prototypes, their metric and its scale, from labelled cells that come block by block.

    Letters: ``L`` labels, ``D`` dimensions of the latent, ``F`` folds. The metric is the inverse of
    the covariance within labels

    .. math:: S = (1 - \lambda) \hat S + \lambda \frac{\mathrm{tr} \hat S}{D} I, \qquad
        \hat S = \frac{\sum_k w_k \sum_{i \in k} (z_i - \mu_k) (z_i - \mu_k)^T}
        {\sum_k w_k (n_k - 1)}, \qquad w_k = (n_k - 1)^{-1/2}

    so that frequent labels do not decide alone, with the shrinkage :math:`\lambda` of Ledoit and
    Wolf; that of the states is estimated from their dimensions of :math:`\hat S`. For the scale
    each fold of the cells is compared with prototypes and a metric that were fitted without it.
    Memory does not grow with the number of cells. At least one label has two of the ``n_cells``,
    ``(L,)``; ``states`` are the dimensions of the latent that are cell states, ``(E,)``, or all.

    References
    ----------
    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal
    of Multivariate Analysis 2004.
    """

    def __init__(
        self, labels: list[str], n_cells: Tensor, n_latent: int, states: Tensor | None = None
    ):
        self.names = encoded(labels)
        self.every = torch.arange(n_latent)  # D
        self.states = self.every if states is None else states.cpu()  # E
        self.weight = (n_cells.double() - 1).clamp_min(1).rsqrt()  # L
        n_labels = len(labels)
        self.n = torch.zeros(N_FOLDS, n_labels, dtype=torch.float64)  # F x L
        self.sums = torch.zeros(N_FOLDS, n_labels, n_latent, dtype=torch.float64)  # F x L x D
        self.outer = torch.zeros(N_FOLDS, n_latent, n_latent, dtype=torch.float64)  # F x D x D

    def add(self, z: Tensor, label: Tensor, fold: Tensor) -> None:
        """Add the latents ``(B, D)`` of some cells, of labels ``(B,)`` and folds ``(B,)``."""
        for f in fold.unique():
            rows, of_cell = z[fold == f].double(), label[fold == f]
            self.n[f].index_add_(0, of_cell, torch.ones(len(rows), dtype=torch.float64))
            self.sums[f].index_add_(0, of_cell, rows)
            self.outer[f] += rows.T @ (rows * self.weight[of_cell, None])

    def finish(
        self,
        z: Tensor,
        label: Tensor,
        fold: Tensor,
        *,
        as_new: Tensor | None = None,
        is_new: Tensor | None = None,
    ) -> PrototypeState:
        """Prototypes of all cells; some of them are given to estimate the shrinkage and the scale.

        ``as_new`` are their latents if the latent was not fitted to them, ``(B, D)``, by default
        the same, and ``is_new`` are those to which it is not, ``(B,)`` bool, by default none.
        """
        folds = torch.arange(N_FOLDS)
        shrinkage = [self._shrinkage(z.double(), label, of) for of in (self.every, self.states)]
        state = self._state(folds >= 0, shrinkage)
        chosen = [
            (fold == f).nonzero()[:, 0]
            for f in folds
            if (fold == f).any() and (self.n[folds != f].sum(0) > 1).any()
        ]
        if not chosen:
            return state
        as_new = z if as_new is None else as_new
        is_new = torch.zeros(len(z), dtype=torch.bool) if is_new is None else is_new
        found = []
        for rows in chosen:
            others = self._state(folds != fold[rows[0]], shrinkage)
            nearest = nearest_prototype(z[rows], others)
            both = [state_distance(of[rows], nearest, others) for of in (z, as_new)]
            found.append((nearest, *both, is_new[rows]))
        nearest, distance, if_new, is_new = map(torch.cat, zip(*found, strict=True))
        new_cells = 1.0
        if not is_new.all():
            own = distance[~is_new].median().clamp_min(_FLOOR)
            new_cells = float((if_new[~is_new].median() / own).clamp(_NEAREST, 1))
        distance = torch.where(is_new, distance / new_cells, distance)
        typical = _typical(nearest, distance, len(state.n_cells))
        ranks = torch.arange(N_QUANTILES, dtype=torch.float64) / N_QUANTILES
        quantiles = torch.quantile(distance / typical[nearest], ranks)
        return state._replace(
            typical=typical, quantiles=quantiles, new_cells=torch.tensor(new_cells)
        )

    def _means(self, folds: Tensor) -> tuple[Tensor, Tensor]:
        """Number of cells of each label, ``(L,)``, and their mean, ``(L, D)``."""
        n = self.n[folds].sum(0)
        return n, self.sums[folds].sum(0) / n.clamp_min(1)[:, None]

    def _covariance(self, folds: Tensor) -> Tensor:
        """Covariance within labels, ``(D, D)``."""
        n, means = self._means(folds)
        between = means.T @ (means * (self.weight * n)[:, None])
        freedom = (self.weight * (n - 1).clamp_min(0)).sum()
        return (self.outer[folds].sum(0) - between) / freedom.clamp_min(1e-12)

    def _shrinkage(self, z: Tensor, label: Tensor, dimensions: Tensor) -> Tensor:
        """Share of the identity in the covariance that is expected to be best."""
        every = torch.ones(N_FOLDS, dtype=torch.bool)
        n, means = self._means(every)
        covariance = self._covariance(every)[dimensions][:, dimensions]
        weight, away = self.weight[label], (z - means[label])[:, dimensions]  # B, B x E
        fourth = (weight * away.square().sum(1).square()).sum() / weight.sum()
        n_effective = (self.weight * n).sum().square() / (self.weight.square() * n).sum()
        error = (fourth - covariance.square().sum()) / n_effective
        off = covariance - torch.eye(len(covariance)) * covariance.trace() / len(covariance)
        return (error / off.square().sum().clamp_min(1e-12)).clamp(0, 1)

    def _state(self, folds: Tensor, shrinkage: list[Tensor]) -> PrototypeState:
        n, means = self._means(folds)
        covariance, states = self._covariance(folds), self.states
        whitening, spread = _whitening(covariance, shrinkage[0])
        state_whitening, state_spread = _whitening(covariance[states][:, states], shrinkage[1])
        return PrototypeState(
            names=self.names,
            means=means,
            n_cells=n,
            whitening=whitening,
            spread=spread,
            states=states,
            state_whitening=state_whitening,
            state_spread=state_spread,
            typical=state_spread.expand(len(n)),
            quantiles=torch.zeros(N_QUANTILES),
            new_cells=torch.tensor(1.0),
            fitted_to=torch.zeros(0, dtype=torch.int64),
        )


def _whitening(covariance: Tensor, shrinkage: Tensor) -> tuple[Tensor, Tensor]:
    """Root of the inverse of a shrunk covariance, and the mean square of what it whitens."""
    mean_variance = covariance.trace() / len(covariance)
    identity = torch.eye(len(covariance), dtype=torch.float64)
    shrunk = torch.lerp(covariance, identity * mean_variance, shrinkage)
    variances, axes = torch.linalg.eigh(shrunk)
    floor = (mean_variance * _FLOOR).clamp_min(1e-12)
    whitening = axes * variances.clamp_min(floor).rsqrt() @ axes.T
    return whitening, (whitening @ covariance @ whitening).trace()


def _typical(nearest: Tensor, distance: Tensor, n_labels: int) -> Tensor:
    """Mean distance of the cells next to each prototype, ``(L,)``; of few cells that of all."""
    n = torch.zeros(n_labels, dtype=torch.float64).index_add_(0, nearest, torch.ones_like(distance))
    total = torch.zeros_like(n).index_add_(0, nearest, distance)
    typical = (total + _PRIOR_CELLS * distance.mean()) / (n + _PRIOR_CELLS)
    return typical.clamp_min(_FLOOR)
