import math
from typing import Any

from scvi.module.base import BaseModuleClass
from torch import Tensor

from scmetaq.nn import PRESENT, Inputs


class ModalityModule(BaseModuleClass):
    """A module with a part for each modality, of whose batches only a share may be decoded.

    Letters: ``B`` cells of a batch, ``G`` features of a modality.
    """

    parts: Any
    """What each modality has for itself, by its name."""
    decoded_share: float = 1.0
    """Share of the cells of a training batch that are decoded."""

    def read_parts(self, counts: dict[str, Tensor], present: dict[str, Tensor]) -> Inputs:
        """What each part reads of raw counts ``(B, G)``, and which cells have it, ``(B, 1)``."""
        return {
            name: {PRESENT: present[name], **part.read(counts[name])}
            for name, part in self.parts.items()
        }

    def n_decoded(self, n_cells: int) -> int:
        """How many of the first cells of a batch are decoded."""
        return math.ceil(n_cells * self.decoded_share) if self.training else n_cells

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Not a model to draw cells from."""
        raise NotImplementedError(f"{type(self).__name__} does not sample cells.")
