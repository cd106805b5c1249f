import torch
from torch import Tensor

from ._distances import squared_distances

N_NEIGHBORS = 30
_BANDWIDTH_NEIGHBOR = 4
_BLOCK = 1_024


def neighborhood_mean(scores: Tensor, reference: Tensor, values: Tensor | None = None) -> Tensor:
    r"""Mean of the reference cells around each cell, near ones counting most.

    Weights are :math:`\exp(-d_{ij}^2 / \sigma_i^2)` over the 30 nearest reference cells, with
    :math:`\sigma_i` the distance to the 4th: a type with few cells has no near neighbours but
    its own and is not blended into others.

    Parameters
    ----------
    scores
        Scores of the cells, ``(n_cells, n_scores)``.
    reference
        Scores of the reference cells, ``(n_reference, n_scores)``.
    values
        What to average over the reference cells, ``(n_reference, n_values)``; by default their
        scores.

    Returns
    -------
    ``(n_cells, n_values)``.
    """
    values = reference if values is None else values
    return torch.cat([_block_mean(block, reference, values) for block in scores.split(_BLOCK)])


def _block_mean(scores: Tensor, reference: Tensor, values: Tensor) -> Tensor:
    n_neighbors = max(1, min(N_NEIGHBORS, len(reference) // 10))
    distance = squared_distances(scores, reference)  # B x R
    nearest = distance.topk(n_neighbors, dim=1, largest=False)  # B x k
    width = nearest.values[:, min(_BANDWIDTH_NEIGHBOR, n_neighbors - 1)]  # B
    weight = torch.exp(-nearest.values / width.clamp_min(1e-12)[:, None])  # B x k
    weight = weight / weight.sum(1, keepdim=True)
    return torch.einsum("bk,bks->bs", weight, values[nearest.indices])  # B x V
