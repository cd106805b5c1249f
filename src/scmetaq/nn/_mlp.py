from typing import Literal

from torch import nn

Norm = Literal["layer", "batch"]


def hidden_layers(sizes: list[int], norm: Norm = "layer") -> nn.Sequential:
    """Fully connected layers, each followed by normalisation and ReLU.

    Parameters
    ----------
    sizes
        Width of the input and of every layer.
    norm
        ``"layer"`` normalises each cell by itself: training and inference see the same function
        and a batch may hold one cell. ``"batch"`` is the authors' choice.

    Returns
    -------
    Maps ``(n_cells, sizes[0])`` to ``(n_cells, sizes[-1])``.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        normaliser = nn.LayerNorm(n_out) if norm == "layer" else nn.BatchNorm1d(n_out)
        layers += [nn.Linear(n_in, n_out), normaliser, nn.ReLU()]
    return nn.Sequential(*layers)
