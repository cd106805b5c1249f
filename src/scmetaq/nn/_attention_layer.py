import math

import torch
from torch import Tensor, nn

from ._mlp import hidden_layers


class AttentionLayer(nn.Module):
    r"""Dense layer, then multi-head self-attention over hidden units: the channel of ATAC in COEM.

    The hidden units of a cell are cut into groups, each a token. In every head a token is
    replaced by a mean of all tokens of the cell, weighted by how well its query meets their keys:

    .. math:: \mathrm{softmax}\!\big(Q K^\top / \sqrt{d}\big)\, V

    with :math:`d` units per head. The result is added to the hidden units and normalised. Cells
    do not see each other.

    Parameters
    ----------
    n_input
        Number of inputs.
    n_hidden
        Number of outputs, a multiple of ``n_tokens``.
    n_tokens
        Number of groups of hidden units.
    n_heads
        Number of heads, a divisor of the units per token.

    References
    ----------
    Vaswani et al., Attention is all you need, NeurIPS 2017.
    """

    def __init__(self, n_input: int, n_hidden: int, *, n_tokens: int = 8, n_heads: int = 4):
        super().__init__()
        self.n_tokens = n_tokens
        self.n_heads = n_heads
        width = n_hidden // n_tokens
        assert n_hidden == n_tokens * width
        assert width % n_heads == 0
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
