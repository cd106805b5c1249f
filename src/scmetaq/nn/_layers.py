"""Layers of the networks."""

import math
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ._fitted import Fitted

Norm = Literal["layer", "batch"]
_CLIP: Final = 10.0


def hidden_layers(sizes: list[int], norm: Norm = "layer", *, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers of these widths, each with normalisation, ReLU and dropout.

    ``"layer"`` normalises each cell by itself: training and inference compute the same function and
    a batch may hold one cell. ``"batch"`` is the authors' choice.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        normaliser = nn.LayerNorm(n_out) if norm == "layer" else nn.BatchNorm1d(n_out)
        layers += [nn.Linear(n_in, n_out), normaliser, nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class GatedLayer(nn.Module):
    r"""Dense layer gated by a sigmoid of itself: the channel of RNA in COEM.

    .. math:: h = \mathrm{ReLU}(\mathrm{LN}(W x + b)), \qquad y = h \odot \sigma(U h + c)
    """

    def __init__(self, n_input: int, n_hidden: int):
        super().__init__()
        self.dense = hidden_layers([n_input, n_hidden])
        self.gate = nn.Linear(n_hidden, n_hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(n_cells, n_input)`` to ``(n_cells, n_hidden)``."""
        h = self.dense(x)  # B x H
        return h * torch.sigmoid(self.gate(h))  # B x H


class AttentionLayer(nn.Module):
    r"""Dense layer, then multi-head self-attention over hidden units: the channel of ATAC in COEM.

    The ``n_hidden`` units of a cell are cut into ``n_tokens`` groups, each a token. In every head a
    token is replaced by a mean of all tokens of the cell, weighted by its query and their keys:

    .. math:: \mathrm{softmax}\!\big(Q K^\top / \sqrt{d}\big)\, V

    with :math:`d` units per head. The result is added to the hidden units and normalised. Each cell
    is computed by itself.

    References
    ----------
    Vaswani et al., Attention is all you need, NeurIPS 2017.
    """

    def __init__(self, n_input: int, n_hidden: int, *, n_tokens: int = 8, n_heads: int = 4):
        super().__init__()
        self.n_tokens = n_tokens
        self.n_heads = n_heads
        width = n_hidden // n_tokens
        self.dense = hidden_layers([n_input, n_hidden])
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(n_hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(n_cells, n_input)`` to ``(n_cells, n_hidden)``."""
        h = self.dense(x)  # B x H
        return self.norm(h + self._attended(h))  # B x H

    def _attended(self, h: Tensor) -> Tensor:
        tokens = h.unflatten(1, (self.n_tokens, -1))  # B x T x W
        parts = self.query_key_value(tokens).unflatten(2, (3, self.n_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each B x heads x T x d
        score = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])  # B x heads x T x T
        mixed = torch.softmax(score, 3) @ value  # B x heads x T x d
        return self.mix(mixed.transpose(1, 2).flatten(2)).flatten(1)  # B x H


class Scaling(NamedTuple):
    """Features that a network reads and their statistics, each ``(n_selected,)``."""

    features: Tensor
    """Indices of the selected features."""
    mean: Tensor
    """Mean log1p counts per 10k."""
    scale: Tensor
    """Their standard deviation."""


class FeatureScaling(Fitted[Scaling]):
    """The selected features as scaled log counts."""

    def __init__(self, n_selected: int):
        features = torch.arange(n_selected)
        super().__init__(Scaling(features, torch.zeros(n_selected), torch.ones(n_selected)))

    def forward(
        self, selected: Tensor, size_factor: Tensor, is_missing: Tensor | None = None
    ) -> Tensor:
        """Log1p counts per 10k of zero mean and unit variance, clipped at 10.

        From raw counts ``(n_cells, n_selected)`` and library sizes over 10k ``(n_cells, 1)``;
        missing features, ``(n_selected,)`` bool, are average.
        """
        log = torch.log1p(selected / size_factor)  # B x M
        scaled = ((log - self.mean) / self.scale).clamp(-_CLIP, _CLIP)
        return scaled if is_missing is None else scaled.masked_fill(is_missing, 0)


class Encoder(nn.Module):
    """Multi-layer perceptron from scaled features or scores to the state, as in the paper."""

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
