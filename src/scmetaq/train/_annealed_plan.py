from typing import Any

from scvi.module.base import BaseModuleClass

from ._epoch_plan import EpochTrainingPlan


class AnnealedTrainingPlan(EpochTrainingPlan):
    """Training of a variational autoencoder whose divergences gain weight on the way.

    Logs, per epoch, the losses, the divergence from the prior and the weight that it has.

    Parameters
    ----------
    module
        The module to train.
    kl_warmup_fraction
        Share of the steps over which the weight of the divergences rises from ``min_kl_weight`` to
        ``max_kl_weight``. ``n_steps_kl_warmup`` or ``n_epochs_kl_warmup`` take its place if given.
    n_steps_kl_warmup, n_epochs_kl_warmup
        See :class:`scvi.train.TrainingPlan`.
    **kwargs
        Arguments of :class:`EpochTrainingPlan`, among them ``max_kl_weight``.
    """

    def __init__(
        self,
        module: BaseModuleClass,
        *,
        kl_warmup_fraction: float = 0.5,
        n_steps_kl_warmup: int | None = None,
        n_epochs_kl_warmup: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            module,
            n_steps_kl_warmup=n_steps_kl_warmup,
            n_epochs_kl_warmup=n_epochs_kl_warmup,
            **kwargs,
        )
        self.kl_warmup_fraction = kl_warmup_fraction
        self._is_warmup_given = not (n_steps_kl_warmup is None and n_epochs_kl_warmup is None)

    def on_train_start(self) -> None:
        """Take the length of the warm-up from that of the training."""
        super().on_train_start()
        if not self._is_warmup_given:
            n_steps = self.kl_warmup_fraction * self.trainer.estimated_stepping_batches
            self.n_steps_kl_warmup = max(1, int(n_steps))

    def on_train_epoch_end(self) -> None:
        """Log the weight of the divergences."""
        super().on_train_epoch_end()
        self.log("kl_weight", float(self.kl_weight))
