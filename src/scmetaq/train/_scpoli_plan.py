from typing import Any

from torch import Tensor

from scmetaq.module import SCPoliModule

from ._annealed_plan import AnnealedTrainingPlan


class SCPoliTrainingPlan(AnnealedTrainingPlan):
    """Training of a :class:`~scmetaq.module.SCPoliModule`.

    Logs what :class:`AnnealedTrainingPlan` does and, once there are prototypes, their loss.

    Parameters
    ----------
    module
        The module to train.
    eta
        Weight of the prototype loss.
    fine_tuning_lr
        Learning rate of the fine-tuning, constant: the rate of one cycle is next to nothing by
        then. None: that of the pre-training goes on.
    **kwargs
        Arguments of :class:`AnnealedTrainingPlan`, among them ``kl_warmup_fraction`` and
        ``max_kl_weight``.
    """

    def __init__(
        self,
        module: SCPoliModule,
        *,
        eta: float = 1.0,
        fine_tuning_lr: float | None = 2e-3,
        **kwargs: Any,
    ):
        super().__init__(module, **kwargs)
        self.loss_kwargs["eta"] = eta
        self.fine_tuning_lr = fine_tuning_lr

    def set_prototypes(self, prototypes: list[Tensor]) -> None:
        """Hold cells to these prototypes from now on, ``(n_labels, n_latent)`` for each level."""
        self.loss_kwargs["prototypes"] = prototypes

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the fine-tuning: the schedule sets its own at every step."""
        if self.fine_tuning_lr is not None and self.loss_kwargs.get("prototypes") is not None:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self.fine_tuning_lr
