from typing import Any

import torch
from torch import Tensor

from scmetaq.module import MetaQModule
from scmetaq.nn import perplexity

from ._plans import EpochTrainingPlan


class MetaQTrainingPlan(EpochTrainingPlan):
    """Training of a :class:`~scmetaq.module.MetaQModule`.

    Logs, per epoch, the losses, the perplexity of code usage and the number of empty codes.

    Parameters
    ----------
    module
        The module to train.
    adjust_codes
        Whether over- and under-used codes are disturbed at each step (paper Eq. 12-15).
    **kwargs
        Arguments of :class:`EpochTrainingPlan`.
    """

    def __init__(self, module: MetaQModule, *, adjust_codes: bool = False, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.adjust_codes = adjust_codes
        self.register_buffer("_epoch_counts", torch.zeros(module.codebook.n_codes))

    def on_train_epoch_start(self) -> None:
        """Begin a new count of code usage."""
        super().on_train_epoch_start()
        self._epoch_counts.zero_()

    def see_outputs(self, inference: dict[str, Any], generative: dict[str, Any]) -> None:
        """Take up how the codes are used, and adjust them as published."""
        if "assignment" in generative:
            self._count_usage(generative["assignment"], inference["z"].detach())

    def _count_usage(self, assignment: Tensor, z: Tensor) -> None:
        codebook = self.module.codebook
        self._epoch_counts += codebook.count_cells(assignment)
        codebook.update_usage(assignment)
        if self.adjust_codes:
            codebook.adjust_small(z)
            codebook.adjust_large(z)

    def on_train_epoch_end(self) -> None:
        """Log how the codes were used in this epoch."""
        super().on_train_epoch_end()
        if self.module.codebook.is_fitted:
            self.log("perplexity_train", perplexity(self._epoch_counts))
            self.log("n_empty_codes_train", (self._epoch_counts == 0).sum().float())
