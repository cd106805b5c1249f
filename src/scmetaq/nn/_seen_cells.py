import torch
from torch import Tensor

from ._saved_sizes import SavedSizes


class SeenCells(SavedSizes):
    """Which cells a model was fitted to, by fingerprints: at most those of a reference sample."""

    fingerprints: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fingerprints", torch.zeros(0, dtype=torch.int64))  # S, sorted

    def __len__(self) -> int:
        return len(self.fingerprints)

    def set_cells(self, fingerprints: Tensor) -> None:
        """Take note of the cells, ``(n_cells,)`` int64."""
        self.fingerprints = fingerprints.unique().to(self.fingerprints)

    def contain(self, fingerprints: Tensor) -> Tensor:
        """Which of some cells they are, ``(n_cells,)`` bool."""
        return torch.isin(fingerprints, self.fingerprints.to(fingerprints.device))
