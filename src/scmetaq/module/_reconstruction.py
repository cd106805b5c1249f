from typing import NamedTuple

import torch
from torch import Tensor

from scmetaq.nn import COUNTS, PRESENT, CountParameters, Inputs, reconstruction_nll


class Reconstruction(NamedTuple):
    """Negative log-likelihoods in nats per selected feature."""

    loss: Tensor
    """Sum over the modalities of the mean over the cells that have them."""
    by_modality: dict[str, Tensor]
    per_cell: Tensor
    """Sum over the modalities that a cell has, ``(n_cells,)``."""


def reconstruction(
    parameters: dict[str, CountParameters], data: Inputs, n_cells: int
) -> Reconstruction:
    """Losses of the first cells of a batch."""
    by_modality, per_cell = {}, []
    for name, decoded in parameters.items():
        counts, factor = data[name][COUNTS][:n_cells], data[name]["size_factor"][:n_cells]
        present = data[name][PRESENT][:n_cells, 0]  # B
        nll = reconstruction_nll(decoded, counts, factor) * present  # B
        by_modality[name] = nll.sum() / present.sum().clamp_min(1)
        per_cell.append(nll)
    total = torch.stack(list(by_modality.values())).sum()
    return Reconstruction(total, by_modality, torch.stack(per_cell).sum(0))
