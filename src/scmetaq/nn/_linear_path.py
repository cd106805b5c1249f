from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Transform = Literal["log", "sqrt", "profile"]


class LinearView(nn.Module):
    """Frozen linear scores of transformed counts.

    Parameters
    ----------
    n_selected
        Number of features read.
    n_components
        Number of scores.
    transform
        ``"log"``: log1p counts per 10k; ``"sqrt"``: square root of counts per 10k;
        ``"profile"``: log counts centred and scaled to unit length within each cell, whose
        inner products are Pearson correlations.
    """

    features: Tensor
    axes: Tensor
    offset: Tensor

    def __init__(self, n_selected: int, n_components: int, *, transform: Transform):
        super().__init__()
        self.transform = transform
        self.register_buffer("features", torch.arange(n_selected))  # M
        self.register_buffer("axes", torch.zeros(n_selected, n_components))  # M x P
        self.register_buffer("offset", torch.zeros(n_components))  # P

    def forward(self, counts: Tensor, size_factor: Tensor) -> Tensor:
        """Scores of raw counts ``(n_cells, n_features)``: ``(n_cells, n_components)``."""
        scaled = counts.index_select(1, self.features) / size_factor  # B x M
        values = scaled.sqrt() if self.transform == "sqrt" else torch.log1p(scaled)  # B x M
        if self.transform == "profile":
            values = F.normalize(values - values.mean(1, keepdim=True), dim=1)
        return values @ self.axes - self.offset  # B x P

    @torch.no_grad()
    def set_map(self, features: Tensor, axes: Tensor, offset: Tensor) -> None:
        """Take over fitted axes ``(n_selected, n_components)`` and their offset."""
        self.features.copy_(features)
        self.axes.copy_(axes)
        self.offset.copy_(offset)


class LinearPath(nn.Module):
    """Frozen linear part of the encoder: principal components beside the network.

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
        super().__init__()
        self.profile = LinearView(n_selected, n_components, transform="profile")
        self.log = LinearView(n_selected, n_scores, transform="log")
        self.sqrt = LinearView(n_selected, n_scores, transform="sqrt")
        self.to_state = nn.Linear(2 * n_scores, n_latent).requires_grad_(False)
        self.smooth_to_state = nn.Linear(2 * n_scores, n_latent).requires_grad_(False)

    def scores(self, counts: Tensor, size_factor: Tensor) -> Tensor:
        """Scores of both views, ``(n_cells, 2 * n_scores)``."""
        return torch.cat([self.log(counts, size_factor), self.sqrt(counts, size_factor)], 1)
