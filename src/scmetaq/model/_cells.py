from typing import NamedTuple

import numpy as np

from scmetaq.data._fingerprint import fingerprints
from scmetaq.data._modality_counts import ModalityCounts

_BLOCK = 4_096


class Cells(NamedTuple):
    """What a model reads of cells."""

    counts: dict[str, ModalityCounts]
    """Raw counts by kind."""
    conditions: np.ndarray
    """Category of each condition key, ``(n_cells, n_keys)`` int64."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.conditions)

    def sample(self, cells: np.ndarray) -> "Cells":
        """Some of the cells, by their sorted indices, in memory."""
        counts = {kind: of_kind.sample(cells) for kind, of_kind in self.counts.items()}
        return Cells(counts, self.conditions[cells])

    def fingerprints(self) -> np.ndarray:
        """A number per cell that tells its counts from others', ``(n_cells,)`` int64."""
        starts = range(0, self.n_cells, _BLOCK)
        blocks = [slice(start, min(start + _BLOCK, self.n_cells)) for start in starts]
        return np.concatenate(
            [
                fingerprints({k: of_kind.of(rows) for k, of_kind in self.counts.items()})
                for rows in blocks
            ]
        )
