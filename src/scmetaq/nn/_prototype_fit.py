import torch
from torch import Tensor

from ._prototypes import N_QUANTILES, PrototypeState, compared

N_FOLDS = 5
_FLOOR = 1e-6
"""Smallest variance of a whitened dimension, as a share of the mean variance."""
_PRIOR_CELLS = 100
"""Cells that the mean over all labels counts for in what is typical of one of them."""
_FEWEST = 100
"""Cells of each kind from which it is told how much nearer new cells are."""


class PrototypeFit:
    r"""Prototypes, their metric and its scale, from labelled cells that come block by block.

    Letters: ``L`` labels, ``D`` dimensions of the latent, ``F`` folds. The metric is the inverse of
    the covariance within labels

    .. math:: S = (1 - \lambda) \hat S + \lambda \frac{\mathrm{tr} \hat S}{D} I, \qquad
        \hat S = \frac{\sum_k w_k \sum_{i \in k} (z_i - \mu_k) (z_i - \mu_k)^T}
        {\sum_k w_k (n_k - 1)}, \qquad w_k = (n_k - 1)^{-1/2}

    so that frequent labels do not decide alone, with the shrinkage :math:`\lambda` of Ledoit and
    Wolf; that of the states is told from their dimensions of :math:`\hat S`. For the scale each
    fold of the cells is compared with prototypes and a metric that were fitted without it. Memory
    does not grow with the number of cells.

    Parameters
    ----------
    n_cells
        Number of labelled cells of each label, ``(L,)``, at least two of one of them.
    n_latent
        Dimension of the latent, ``D``.
    states
        Dimensions of the latent that are cell states, ``(E,)``; by default all of them.

    References
    ----------
    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal
    of Multivariate Analysis 2004.
    """

    def __init__(self, n_cells: Tensor, n_latent: int, states: Tensor | None = None):
        n_labels = len(n_cells)
        self.every = torch.arange(n_latent)  # D
        self.states = self.every if states is None else states.cpu()  # E
        self.weight = (n_cells.double() - 1).clamp_min(1).rsqrt()  # L
        self.n = torch.zeros(N_FOLDS, n_labels, dtype=torch.float64)  # F x L
        self.sums = torch.zeros(N_FOLDS, n_labels, n_latent, dtype=torch.float64)  # F x L x D
        self.outer = torch.zeros(N_FOLDS, n_latent, n_latent, dtype=torch.float64)  # F x D x D

    def add(self, z: Tensor, label: Tensor, fold: Tensor) -> None:
        """Take note of some cells.

        Parameters
        ----------
        z
            Latents, ``(B, D)``.
        label
            Index of the label of each, ``(B,)``.
        fold
            Fold of each, ``(B,)``.
        """
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
        is_new: Tensor | None = None,
        new_cells: float = 1.0,
    ) -> PrototypeState:
        """Prototypes of all cells.

        Parameters
        ----------
        z, label, fold
            Some of the cells, from which the shrinkage and the scale are told.
        is_new
            Which of them the latent was not fitted to, ``(B,)`` bool; by default none.
        new_cells
            Median distance of such cells over that of others; where there are a hundred of both, it
            is told from them.
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
        found = [
            compared(z[rows], self._state(folds != fold[rows[0]], shrinkage)) for rows in chosen
        ]
        nearest, distance = (torch.cat(parts) for parts in zip(*found, strict=True))
        if is_new is not None:
            is_new = is_new[torch.cat(chosen)]
            new_cells = _ratio_of_medians(distance, is_new, default=new_cells)
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
        typical = state_spread.expand(len(n))
        metric = (whitening, spread, states, state_whitening, state_spread)
        return PrototypeState(
            means, n, *metric, typical, torch.zeros(N_QUANTILES), torch.tensor(1.0)
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


def _ratio_of_medians(distance: Tensor, is_new: Tensor, *, default: float) -> float:
    """Median distance of new cells over that of others, if there are enough of both."""
    n_new = int(is_new.sum())
    if min(n_new, len(is_new) - n_new) < _FEWEST:
        return default
    return float(distance[is_new].median() / distance[~is_new].median().clamp_min(_FLOOR))
