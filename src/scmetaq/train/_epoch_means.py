from collections.abc import Mapping

import torch
from torch import Tensor


class EpochMeans:
    """Means over the cells of an epoch.

    Sums stay on the device: nothing waits for them until the epoch is over.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._n_cells: dict[str, int] = {}

    @torch.no_grad()
    def add(self, means: Mapping[str, Tensor], n_cells: int) -> None:
        """Take up the means over a batch of ``n_cells``, each ``()``."""
        for name, value in means.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach() * n_cells
            self._n_cells[name] = self._n_cells.get(name, 0) + n_cells

    def pop(self) -> dict[str, Tensor]:
        """Means since the last call; the next epoch begins."""
        means = {name: total / self._n_cells[name] for name, total in self._sums.items()}
        self._sums, self._n_cells = {}, {}
        return means
