from typing import Literal

from torch import nn

Norm = Literal["layer", "batch"]


def hidden_layers(sizes: list[int], norm: Norm = "layer", *, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers, each followed by normalisation, ReLU and, if wanted, dropout.

    Parameters
    ----------
    sizes
        Width of the input and of every layer.
    norm
        ``"layer"`` normalises each cell by itself: training and inference see the same function
        and a batch may hold one cell. ``"batch"`` is the authors' choice.
    dropout
        Share of the units that are silenced at each step of training.

    Returns
    -------
    Maps ``(n_cells, sizes[0])`` to ``(n_cells, sizes[-1])``.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        normaliser = nn.LayerNorm(n_out) if norm == "layer" else nn.BatchNorm1d(n_out)
        layers += [nn.Linear(n_in, n_out), normaliser, nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
