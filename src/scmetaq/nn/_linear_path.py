"""Principal components of counts, fitted before training and frozen."""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from ._count_batch import CountBatch, FeatureCoverage
from ._fitted import Fitted

N_RANDOM: Final = 1024
"""Random features from which states are estimated."""


class AffineMap(NamedTuple):
    """Scores ``values[:, features] @ axes - offset``."""

    features: Tensor
    """Indices of the features read, ``(n_input,)`` int64."""
    axes: Tensor
    """``(n_input, n_components)``."""
    offset: Tensor
    """``(n_components,)``."""


class Axes(Fitted[AffineMap]):
    """Frozen principal axes: an affine map that does not learn."""

    def __init__(self, n_input: int, n_components: int):
        axes, offset = torch.zeros(n_input, n_components), torch.zeros(n_components)
        super().__init__(AffineMap(torch.arange(n_input), axes, offset))

    def forward(self, values: Tensor, length: Tensor | None = None) -> Tensor:
        """Scores of values ``(n_cells, n_input)``, over ``length`` ``(n_cells, 1)`` if given."""
        scores = values @ self.axes  # B x P
        return (scores if length is None else scores / length) - self.offset


class FactorState(NamedTuple):
    """Fitted factor model."""

    mean: Tensor
    """Of each feature, ``(n_features,)``."""
    loadings: Tensor
    """``(n_factors, n_features)``."""
    noise: Tensor
    """Variance that the factors do not explain, ``(n_features,)``."""
    prior: Tensor
    """Variance of each factor, ``(n_factors,)``."""


class FactorModel(Fitted[FactorState]):
    r"""Estimate of missing features from those that were measured.

    .. math:: x = \mu + L^\top t + \epsilon, \quad t \sim N(0, \Lambda), \quad
        \epsilon \sim N(0, \Psi)

    with diagonal :math:`\Lambda` and :math:`\Psi`. Missing features get their mean given the
    others, as in probabilistic principal component analysis.

    References
    ----------
    Tipping and Bishop, J. R. Stat. Soc. B 61 (1999), doi:10.1111/1467-9868.00196.
    """

    def __init__(self, n_features: int, n_factors: int):
        mean, loadings = torch.zeros(n_features), torch.zeros(n_factors, n_features)
        super().__init__(FactorState(mean, loadings, torch.ones(n_features), torch.ones(n_factors)))

    def forward(self, values: Tensor, is_missing: Tensor) -> Tensor:
        """Fill in features that all cells lack, ``(M,)`` bool, in values ``(n_cells, M)``."""
        known = ~is_missing
        weighted = self.loadings[:, known] / self.noise[known]  # S x K
        precision = torch.diag(1 / self.prior) + weighted @ self.loadings[:, known].T  # S x S
        centred = (values - self.mean)[:, known]  # B x K
        factors = torch.linalg.solve(precision, weighted @ centred.T).T  # B x S
        return torch.where(is_missing, self.mean + factors @ self.loadings, values)  # B x M


class LinearScores(NamedTuple):
    """Linear summary of a batch of cells."""

    scores: Tensor
    """Scores of the log and of the square-root view, ``(n_cells, 2 * n_scores)``."""
    profile: Tensor
    """Principal components of the profile, ``(n_cells, n_components)``."""


class LinearViews(nn.Module):
    """Principal components of raw counts, fitted before training and frozen.

    Three views of counts per 10k: their ``log1p``; their square root, of features of its own;
    and the profile, which is the log view centred and scaled to unit length within each cell,
    so that inner products are Pearson correlations.

    Each view reads ``n_selected`` features; the profile has ``n_components`` components, the log
    and the square-root view ``n_scores`` scores each.
    """

    kept: Tensor
    """Share of each score that is left if axes are fitted without the cell, ``(2 * n_scores,)``."""

    def __init__(self, n_selected: int, n_components: int, *, n_scores: int):
        super().__init__()
        self.register_buffer("kept", torch.ones(2 * n_scores))  # 2S
        self.profile = Axes(n_selected, n_components)
        self.log = Axes(n_selected, n_scores)
        self.sqrt = Axes(n_selected, n_scores)
        self.log_factors = FactorModel(n_selected, n_scores)
        self.sqrt_factors = FactorModel(n_selected, n_scores)

    @property
    def features(self) -> Tensor:
        """Indices of the features that any view reads, increasing."""
        return torch.cat([self.log.features, self.sqrt.features]).unique()

    def forward(self, counts: CountBatch, coverage: FeatureCoverage | None = None) -> LinearScores:
        """Scores and profile of cells; features that ``coverage`` lacks are filled in."""
        log = self._view(counts, "log", counts.per_10k.log1p(), coverage)  # B x M
        sqrt = self._view(counts, "sqrt", counts.per_10k.sqrt(), coverage)  # B x M
        scores = torch.cat([self.log(log), self.sqrt(sqrt)], 1)  # B x 2S
        centred = log.sub_(log.mean(1, keepdim=True))  # B x M
        length = torch.linalg.vector_norm(centred, dim=1, keepdim=True).clamp_min(1e-12)  # B x 1
        return LinearScores(scores, self.profile(centred, length))

    def _view(
        self, counts: CountBatch, of: str, values: Tensor, coverage: FeatureCoverage | None
    ) -> Tensor:
        """Transformed counts of the features of a view, ``(n_cells, n_selected)``."""
        features = getattr(self, of).features
        read = counts.dense(features, values)
        missing = None if coverage is None else coverage.missing_of(features)
        return read if missing is None else getattr(self, f"{of}_factors")(read, missing)


class StateRegression(NamedTuple):
    """Ridge regression of states on scores and on random features of them."""

    directions: Tensor
    """Random directions of the scores, ``(n_read, n_random)``."""
    shift: Tensor
    """Of each, ``(n_random,)``."""
    coefficients: Tensor
    """``(n_read + n_random, n_latent)``."""
    intercept: Tensor
    """``(n_latent,)``."""


class StateMap(Fitted[StateRegression]):
    r"""Map from the scores of a cell to its state, ``n_latent``, fitted and frozen.

    .. math:: \phi(x) = [x, \mathrm{ReLU}(x D + b)], \qquad s = \phi(x)\, C + c

    with random :math:`D` and :math:`b`: a network of one hidden layer of which the last is fitted,
    in closed form.

    References
    ----------
    Rahimi and Recht, Weighted sums of random kitchen sinks, NeurIPS 2008.
    """

    def __init__(self, n_read: int, n_latent: int):
        n_features = n_read + N_RANDOM
        super().__init__(
            StateRegression(
                torch.zeros(n_read, N_RANDOM),
                torch.zeros(N_RANDOM),
                torch.zeros(n_features, n_latent),
                torch.zeros(n_latent),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """State of cells, ``(n_cells, n_latent)``, from scores ``(n_cells, n_read)``."""
        hidden = torch.addmm(self.shift, x, self.directions).relu_()  # B x R
        n_read = x.shape[1]
        linear = torch.addmm(self.intercept, x, self.coefficients[:n_read])
        return torch.addmm(linear, hidden, self.coefficients[n_read:])  # B x D
