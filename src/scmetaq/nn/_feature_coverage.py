from typing import Any

import torch
from torch import Tensor, nn

from ._count_batch import CountBatch


class FeatureCoverage(nn.Module):
    """Which features of a model its cells were measured in.

    Parameters
    ----------
    n_features
        Number of features, ``G``; 0 where none will ever be missing.
    """

    rate: Tensor
    """Mean count per unit of size factor in the reference sample, ``(G,)``."""
    is_missing: Tensor

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("rate", torch.zeros(n_features))  # G
        self.register_buffer("is_missing", torch.zeros(n_features, dtype=torch.bool))  # G
        self._lacks_any = False  # so that nothing waits for the device to know it

    def batch(self, counts: Tensor) -> CountBatch:
        """Raw counts, ``(n_cells, G)``, whose library sizes allow for what was not measured."""
        return CountBatch(counts, share=self.share) if self._lacks_any else CountBatch(counts)

    @property
    def share(self) -> Tensor:
        """Share of the counts of an average cell that fall on the features measured, ``()``."""
        return self.rate[~self.is_missing].sum() / self.rate.sum().clamp_min(1e-12)

    def missing_of(self, features: Tensor) -> Tensor | None:
        """Which of some features are missing, ``(n_selected,)`` bool; None if none of all is."""
        return self.is_missing[features] if self._lacks_any else None

    @torch.no_grad()
    def set_rate(self, rate: Tensor) -> None:
        """Take over the mean counts per unit of size factor, ``(G,)``."""
        self.rate.copy_(rate)

    @torch.no_grad()
    def set_missing(self, is_missing: Tensor) -> None:
        """Say which features are missing, ``(G,)`` bool."""
        self.is_missing.copy_(is_missing)
        self._lacks_any = bool(is_missing.any())

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._lacks_any = bool(self.is_missing.any())
