import torch
from torch import Tensor, nn

from ._mlp import Norm, hidden_layers

_CLIP = 10.0


class Encoder(nn.Module):
    """Non-linear encoder of scaled log counts, 512-128-32 as in the paper.

    Scaling is part of the encoder: it reads raw counts of all features, picks the selected
    ones, and brings log1p counts per 10k to zero mean and unit variance, clipped at 10.

    Parameters
    ----------
    n_selected
        Number of selected features.
    n_latent
        Dimension of the output.
    hidden
        Widths of the hidden layers.
    norm
        Normalisation after each hidden layer.
    """

    features: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        n_selected: int,
        n_latent: int,
        *,
        hidden: tuple[int, ...] = (512, 128),
        norm: Norm = "layer",
    ):
        super().__init__()
        self.register_buffer("features", torch.arange(n_selected))  # M
        self.register_buffer("mean", torch.zeros(n_selected))  # M
        self.register_buffer("scale", torch.ones(n_selected))  # M
        self.hidden = hidden_layers([n_selected, *hidden], norm)
        self.head = nn.Linear(hidden[-1], n_latent)

    def forward(self, counts: Tensor, size_factor: Tensor) -> Tensor:
        """Latent of raw counts ``(n_cells, n_features)``: ``(n_cells, n_latent)``."""
        return self.head(self.hidden(self.scaled(counts, size_factor)))  # B x D

    def select(self, counts: Tensor) -> Tensor:
        """Counts of the selected features, ``(n_cells, n_selected)``."""
        return counts.index_select(1, self.features)

    def scaled(self, counts: Tensor, size_factor: Tensor) -> Tensor:
        """Scaled log counts of the selected features, ``(n_cells, n_selected)``."""
        log = torch.log1p(self.select(counts) / size_factor)  # B x M
        return ((log - self.mean) / self.scale).clamp(-_CLIP, _CLIP)

    @torch.no_grad()
    def set_scaling(self, features: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Take over the selected features and their statistics, each ``(n_selected,)``."""
        self.features.copy_(features)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Start as the zero function, so that a residual encoder starts at its linear part."""
        self.head.weight.zero_()
        self.head.bias.zero_()
