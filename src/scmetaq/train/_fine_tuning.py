from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ._scpoli_plan import SCPoliTrainingPlan


class FineTuning(Callback):
    """Starts the fine-tuning: finds the prototypes when pre-training is over, then every epoch.

    Parameters
    ----------
    find_prototypes
        Encodes the reference sample with the module as it stands, and returns the prototypes of
        each level of labels, ``(n_labels, n_latent)``.
    pretraining_fraction
        Share of the steps before.
    """

    def __init__(
        self, find_prototypes: Callable[[], list[Tensor]], *, pretraining_fraction: float = 0.9
    ):
        self.find_prototypes = find_prototypes
        self.pretraining_fraction = pretraining_fraction
        self._epoch: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Every training begins with its own pre-training."""
        self._epoch = None

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Find prototypes anew once an epoch, when pre-training is over."""
        n_steps = self.pretraining_fraction * trainer.estimated_stepping_batches
        if trainer.global_step >= n_steps and self._epoch != trainer.current_epoch:
            self._epoch = trainer.current_epoch
            assert isinstance(pl_module, SCPoliTrainingPlan)
            pl_module.set_prototypes(self.find_prototypes())
