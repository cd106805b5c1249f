from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._count_batch import CountBatch
from ._factor_model import FactorModel
from ._feature_coverage import FeatureCoverage


class Axes(nn.Module):
    """Frozen principal axes: an affine map that does not learn.

    Parameters
    ----------
    n_input
        Number of values per cell.
    n_components
        Number of axes.
    """

    axes: Tensor
    offset: Tensor

    def __init__(self, n_input: int, n_components: int):
        super().__init__()
        self.register_buffer("axes", torch.zeros(n_input, n_components))  # M x P
        self.register_buffer("offset", torch.zeros(n_components))  # P

    def forward(self, values: Tensor, length: Tensor | None = None) -> Tensor:
        """Scores of values ``(n_cells, n_input)``: ``(n_cells, n_components)``.

        They are those of the values over ``length``, ``(n_cells, 1)``, where it is given.
        """
        scores = values @ self.axes  # B x P
        return (scores if length is None else scores / length) - self.offset

    @torch.no_grad()
    def set_map(self, axes: Tensor, offset: Tensor) -> None:
        """Take over fitted axes ``(n_input, n_components)`` and their offset."""
        self.axes.copy_(axes)
        self.offset.copy_(offset)


class LinearScores(NamedTuple):
    """What the linear path says of a batch of cells."""

    scores: Tensor
    """Scores of the log and of the square-root view, ``(n_cells, 2 * n_scores)``."""
    profile: Tensor
    """Principal components of the profile, ``(n_cells, n_components)``."""


class LinearViews(nn.Module):
    """Principal components of raw counts, fitted before training and frozen.

    Three views of counts per 10k: their ``log1p``; their square root, of features of its own;
    and the profile, which is the log view centred and scaled to unit length within each cell,
    so that inner products are Pearson correlations.

    Parameters
    ----------
    n_selected
        Number of features that each view reads.
    n_components
        Number of principal components of the profile.
    n_scores
        Number of scores of the log and of the square-root view.
    """

    features: Tensor
    sqrt_features: Tensor

    def __init__(self, n_selected: int, n_components: int, *, n_scores: int):
        super().__init__()
        self.register_buffer("features", torch.arange(n_selected))  # M
        self.register_buffer("sqrt_features", torch.arange(n_selected))  # M
        self.profile = Axes(n_selected, n_components)
        self.log = Axes(n_selected, n_scores)
        self.sqrt = Axes(n_selected, n_scores)
        self.log_factors = FactorModel(n_selected, n_scores)
        self.sqrt_factors = FactorModel(n_selected, n_scores)

    def forward(self, counts: CountBatch, coverage: FeatureCoverage | None = None) -> LinearScores:
        """Scores and profile of a batch of cells.

        Parameters
        ----------
        counts
            Raw counts of all features.
        coverage
            Which features are missing and are filled in; by default none.
        """
        log = self.log_values(counts, coverage)  # B x M
        sqrt = counts.dense(self.sqrt_features, counts.per_10k.sqrt())  # B x M
        if coverage is not None:
            sqrt = _filled(sqrt, self.sqrt_factors, coverage.missing_of(self.sqrt_features))
        scores = torch.cat([self.log(log), self.sqrt(sqrt)], 1)  # B x 2S
        centred = log.sub_(log.mean(1, keepdim=True))  # B x M
        length = torch.linalg.vector_norm(centred, dim=1, keepdim=True).clamp_min(1e-12)  # B x 1
        return LinearScores(scores, self.profile(centred, length))

    def log_values(self, counts: CountBatch, coverage: FeatureCoverage | None = None) -> Tensor:
        """Log1p counts per 10k of the features of the log view, ``(n_cells, n_selected)``.

        Parameters
        ----------
        counts
            Raw counts of all features.
        coverage
            Which features are missing and are filled in; by default none.
        """
        log = counts.dense(self.features, counts.per_10k.log1p())  # B x M
        if coverage is None:
            return log
        return _filled(log, self.log_factors, coverage.missing_of(self.features))

    @torch.no_grad()
    def set_features(self, features: Tensor, sqrt_features: Tensor) -> None:
        """Take over the features that are read, ``(n_selected,)`` each."""
        self.features.copy_(features)
        self.sqrt_features.copy_(sqrt_features)


def _filled(values: Tensor, factors: FactorModel, is_missing: Tensor | None) -> Tensor:
    return values if is_missing is None else factors(values, is_missing)


class LinearPath(LinearViews):
    """Frozen linear part of an encoder: principal components beside the network.

    Parameters
    ----------
    n_selected
        Number of features that each view reads.
    n_latent
        Dimension of the cell state.
    n_components
        Number of principal components of the profile.
    n_scores
        Number of scores of the log and of the square-root view.
    """

    def __init__(self, n_selected: int, n_latent: int, n_components: int, *, n_scores: int):
        super().__init__(n_selected, n_components, n_scores=n_scores)
        self.to_state = nn.Linear(2 * n_scores, n_latent).requires_grad_(False)
        self.smooth_to_state = nn.Linear(2 * n_scores, n_latent).requires_grad_(False)
