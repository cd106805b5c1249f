from typing import NamedTuple

import torch
from torch import Tensor

from ._prototype_distances import prototype_distances
from ._saved_sizes import SavedSizes


class LabelScoresState(NamedTuple):
    """What is known of the scores of labels; see :class:`LabelScores`."""

    axes: Tensor
    offset: Tensor
    means: Tensor
    n_cells: Tensor
    whitening: Tensor
    spread: Tensor


class LabelScores(SavedSizes):
    r"""Scores that single out each label by its features, and prototypes among them.

    A latent keeps what sets most cells apart, and a label that differs from another in a few
    features may not be among it. Scores :math:`s(x) = A^\top x + b`, one per label, are told from
    the features themselves by ridge regression; cells are compared with the mean :math:`\mu_k` of
    the :math:`n_k` cells of a label by the same distance as in the latent,

    .. math:: \lVert W (s(x) - \mu_k) \rVert^2 - e_k ,

    where :math:`e_k` is what the mean of few cells errs by. Means and :math:`W` are those of scores
    that cells have when they are left out of the regression, since its own cells are told apart
    better than others. Letters: ``M`` values of a cell, ``L`` scores, ``K`` labels, which are more
    where some were added after the fit.
    """

    axes: Tensor
    offset: Tensor
    means: Tensor
    n_cells: Tensor
    whitening: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("axes", torch.zeros(0, 0))  # M x L
        self.register_buffer("offset", torch.zeros(0))  # L
        self.register_buffer("means", torch.zeros(0, 0))  # K x L
        self.register_buffer("n_cells", torch.zeros(0, dtype=torch.int64))  # K
        self.register_buffer("whitening", torch.zeros(0, 0))  # L x L
        self.register_buffer("spread", torch.zeros(()))

    @property
    def is_fitted(self) -> bool:
        """Whether there are any."""
        return len(self.axes) > 0

    def forward(self, values: Tensor) -> Tensor:
        """Scores of cells ``(B, M)``: ``(B, L)``."""
        return values @ self.axes + self.offset

    @torch.no_grad()
    def set_state(self, state: LabelScoresState) -> None:
        """Take over what :func:`~scmetaq.nn.fit_label_scores` has found."""
        for name, values in state._asdict().items():
            old = self._buffers[name]
            assert old is not None
            self._buffers[name] = values.to(old)

    @torch.no_grad()
    def add(self, means: Tensor, n_cells: Tensor) -> None:
        """Add further labels by the means of the scores of their cells; nothing else changes.

        Parameters
        ----------
        means
            ``(n_new, L)``.
        n_cells
            Number of these cells, ``(n_new,)``.
        """
        self.means = torch.cat([self.means, means.to(self.means)])
        self.n_cells = torch.cat([self.n_cells, n_cells.to(self.n_cells)])

    def distances(self, scores: Tensor) -> Tensor:
        """Squared distances of scores ``(B, L)`` to those of labels, ``(B, K)`` float64."""
        parts = (self.means, self.n_cells, self.whitening, self.spread)
        means, n_cells, whitening, spread = (part.to(scores.device) for part in parts)
        return prototype_distances(scores, means, n_cells, whitening=whitening, spread=spread)
