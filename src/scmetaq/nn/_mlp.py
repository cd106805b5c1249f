from typing import Literal

import torch
from torch import Tensor, nn

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


def forward_weighted(layers: nn.Sequential, rows: Tensor, n_cells: Tensor) -> Tensor:
    """What :func:`hidden_layers` make of rows that each stand for several cells with equal values.

    Batch statistics are those of the cells: the result, and the change of running statistics, is
    the same as if each row were there once per cell.

    Parameters
    ----------
    layers
        Output of :func:`hidden_layers`.
    rows
        Distinct inputs, ``(n_rows, n_input)``.
    n_cells
        Cells that each row stands for, ``(n_rows,)``.

    Returns
    -------
    ``(n_rows, n_output)``.
    """
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d) and layer.training:
            rows = _weighted_batch_norm(layer, rows, n_cells)
        else:
            rows = layer(rows)
    return rows


def _weighted_batch_norm(norm: nn.BatchNorm1d, rows: Tensor, n_cells: Tensor) -> Tensor:
    n = n_cells.sum()
    share = (n_cells / n)[:, None]  # R x 1
    rows = rows.to(norm.weight)  # single precision, as of all statistics, also under autocast
    mean = (share * rows).sum(0)  # H
    variance = (share * (rows - mean).square()).sum(0)  # H
    _move_running(norm, mean, variance * (n / (n - 1).clamp_min(1)))
    scale = norm.weight * torch.rsqrt(variance + norm.eps)  # H
    return (rows - mean) * scale + norm.bias  # R x H


@torch.no_grad()
def _move_running(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    assert norm.momentum is not None
    for running, now in ((norm.running_mean, mean), (norm.running_var, variance)):
        assert running is not None
        running.lerp_(now, norm.momentum)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
