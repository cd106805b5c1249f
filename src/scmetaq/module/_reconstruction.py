from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from scmetaq.nn import PRESENT, CountParameters, Inputs, NonZeroCounts, reconstruction_nll


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
    counts: Mapping[str, NonZeroCounts],
    missing: Mapping[str, Tensor | None] | None = None,
) -> Reconstruction:
    """Losses of the first cells of a batch.

    Parameters
    ----------
    parameters
        What was decoded, by modality.
    data
        Size factors and, where some cells lack a modality, which have it.
    counts
        Counts of the cells that were decoded, the first ones of ``data``.
    missing
        Selected features that were not measured, by modality; by default none.
    """
    by_modality, per_cell = {}, []
    for name, decoded in parameters.items():
        n_cells = counts[name].shape[0]
        factor, lacking = data[name]["size_factor"][:n_cells], missing[name] if missing else None
        nll = reconstruction_nll(decoded, counts[name], factor, is_missing=lacking)  # B
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
