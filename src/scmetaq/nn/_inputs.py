"""Inputs of a module: tensors of each modality, flat in a batch of a loader, nested in a module."""

from collections.abc import Iterable
from typing import Final

from torch import Tensor

Inputs = dict[str, dict[str, Tensor]]
"""Tensors by modality and name, each with one row per cell."""

COUNTS: Final = "counts"
"""Raw counts of the selected features."""
PRESENT: Final = "present"
"""Which cells have the modality: 1 or 0. Left out in training where all have it."""
EMBEDDING: Final = "embedding"
"""The latent of cells, where it is given; of all cells, with each modality."""
CONDITIONS: Final = "conditions"
"""Category of each condition key, an entry that is of no modality."""
SIZES: Final = "library_size"
"""Library sizes of cells, where they are given, ``(n_cells, 1)``, with each modality."""
LABELS: Final = "labels"
"""Label of each cell at each level, -1 where there is none; of no modality either. Of MetaQ that
by which the cell is grouped, with each modality."""


def flat(inputs: dict[str, dict]) -> dict:
    """One entry ``modality_name`` for each modality and name."""
    return {f"{m}_{name}": values for m, part in inputs.items() for name, values in part.items()}


def nested(tensors: dict, modalities: Iterable[str]) -> dict[str, dict]:
    """Entries ``modality_name`` by modality and name; others are left out."""
    return {
        m: {key.removeprefix(f"{m}_"): v for key, v in tensors.items() if key.startswith(f"{m}_")}
        for m in modalities
    }


def on_cpu(values: Tensor) -> bool:
    """Whether values are in the host's memory, where looking at them before computing is cheap."""
    return values.device.type == "cpu"
