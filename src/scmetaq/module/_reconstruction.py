from collections.abc import Iterable, Mapping
from typing import NamedTuple

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
    parameters: dict[str, CountParameters],
    data: Inputs,
    n_cells: int,
    missing: Mapping[str, Tensor | None] | None = None,
) -> Reconstruction:
    """Losses of the first cells of a batch.

    Parameters
    ----------
    parameters
        What was decoded, by modality.
    data
        Counts and size factors.
    n_cells
        How many cells were decoded.
    missing
        Selected features that were not measured, by modality; by default none.
    """
    by_modality, per_cell = {}, []
    for name, decoded in parameters.items():
        counts, factor = data[name][COUNTS][:n_cells], data[name]["size_factor"][:n_cells]
        lacking = missing[name] if missing else None
        nll = reconstruction_nll(decoded, counts, factor, is_missing=lacking)  # B
        if PRESENT in data[name]:
            present = data[name][PRESENT][:n_cells, 0]  # B
            nll = nll * present
            by_modality[name] = nll.sum() / present.sum().clamp_min(1)
        else:
            by_modality[name] = nll.mean()
        per_cell.append(nll)
    return Reconstruction(added_up(by_modality.values()), by_modality, added_up(per_cell))


def added_up(parts: Iterable[Tensor]) -> Tensor:
    """Sum of tensors of one shape, at least one."""
    first, *others = parts
    for part in others:
        first = first + part
    return first
