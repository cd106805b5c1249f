import torch
from torch import Tensor, nn

from ._mlp import hidden_layers


class GatedLayer(nn.Module):
    r"""Dense layer gated by a sigmoid of itself: the channel of RNA in COEM.

    .. math:: h = \mathrm{ReLU}(\mathrm{LN}(W x + b)), \qquad y = h \odot \sigma(U h + c)

    Parameters
    ----------
    n_input
        Number of inputs.
    n_hidden
        Number of outputs.
    """

    def __init__(self, n_input: int, n_hidden: int):
        super().__init__()
        self.dense = hidden_layers([n_input, n_hidden])
        self.gate = nn.Linear(n_hidden, n_hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(n_cells, n_input)`` to ``(n_cells, n_hidden)``."""
        h = self.dense(x)  # B x H
        return h * torch.sigmoid(self.gate(h))  # B x H
