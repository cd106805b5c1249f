import torch
from torch import Tensor, nn

from ._mlp import Norm, hidden_layers

_CLIP = 10.0


class FeatureScaling(nn.Module):
    """The selected features as scaled log counts.

    Parameters
    ----------
    n_selected
        Number of selected features.
    """

    features: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, n_selected: int):
        super().__init__()
        self.register_buffer("features", torch.arange(n_selected))  # M
        self.register_buffer("mean", torch.zeros(n_selected))  # M
        self.register_buffer("scale", torch.ones(n_selected))  # M

    def forward(
        self, selected: Tensor, size_factor: Tensor, is_missing: Tensor | None = None
    ) -> Tensor:
        """Log1p counts per 10k of zero mean and unit variance, clipped at 10.

        Parameters
        ----------
        selected
            Raw counts of the selected features, ``(n_cells, n_selected)``.
        size_factor
            Library size over 10k, ``(n_cells, 1)``.
        is_missing
            Which features are missing and taken as average, ``(n_selected,)`` bool; by default
            none.

        Returns
        -------
        ``(n_cells, n_selected)``.
        """
        log = torch.log1p(selected / size_factor)  # B x M
        scaled = ((log - self.mean) / self.scale).clamp(-_CLIP, _CLIP)
        return scaled if is_missing is None else scaled.masked_fill(is_missing, 0)

    @torch.no_grad()
    def set_scaling(self, features: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Take over the selected features and their statistics, each ``(n_selected,)``."""
        self.features.copy_(features)
        self.mean.copy_(mean)
        self.scale.copy_(scale)


class Encoder(nn.Module):
    """Multi-layer perceptron from what is known of a cell to its state, as in the paper.

    Parameters
    ----------
    n_input
        Number of inputs: scaled features or scores.
    n_latent
        Dimension of the output.
    hidden
        Widths of the hidden layers.
    norm
        Normalisation after each hidden layer.
    """

    def __init__(
        self,
        n_input: int,
        n_latent: int,
        *,
        hidden: tuple[int, ...] = (512, 128),
        norm: Norm = "layer",
    ):
        super().__init__()
        self.hidden = hidden_layers([n_input, *hidden], norm)
        self.head = nn.Linear(hidden[-1], n_latent)

    def forward(self, x: Tensor) -> Tensor:
        """Latent of inputs ``(n_cells, n_input)``: ``(n_cells, n_latent)``."""
        return self.head(self.hidden(x))  # B x D

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Start as the zero function, so that a residual encoder starts at its linear part."""
        self.head.weight.zero_()
        self.head.bias.zero_()
