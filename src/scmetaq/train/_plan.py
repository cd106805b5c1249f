from typing import Any

import torch
from scvi.module.base import LossOutput
from scvi.train import TrainingPlan
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from scmetaq.module import MetaQModule
from scmetaq.nn import perplexity

from ._epoch_means import EpochMeans

_FEWEST_CYCLE_STEPS = 5
"""Below so many steps the learning rate stays constant."""


class MetaQTrainingPlan(TrainingPlan):
    """Training of a :class:`~scmetaq.module.MetaQModule`.

    Logs, per epoch, the losses, the perplexity of code usage and the number of empty codes.

    Parameters
    ----------
    module
        The module to train.
    adjust_codes
        Whether over- and under-used codes are disturbed at each step (paper Eq. 12-15).
    one_cycle
        Whether the learning rate rises to ``lr`` and falls to zero over the training; otherwise
        it is constant, as published.
    lr
        Learning rate, the highest of the cycle where there is one.
    weight_decay
        Decoupled weight decay of AdamW.
    eps
        Constant of Adam's denominator: torch's default, not that of scvi-tools.
    optimizer
        See :class:`scvi.train.TrainingPlan`.
    **kwargs
        Arguments of :class:`scvi.train.TrainingPlan`.
    """

    def __init__(
        self,
        module: MetaQModule,
        *,
        adjust_codes: bool = False,
        one_cycle: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        eps: float = 1e-8,
        optimizer: str = "AdamW",
        **kwargs: Any,
    ):
        super().__init__(
            module, lr=lr, weight_decay=weight_decay, eps=eps, optimizer=optimizer, **kwargs
        )
        self.adjust_codes = adjust_codes
        self.one_cycle = one_cycle
        self._means = {"train": EpochMeans(), "validation": EpochMeans()}
        self.register_buffer("_epoch_counts", torch.zeros(module.codebook.n_codes))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimiser of scvi-tools and, if wanted, the one-cycle learning rate."""
        config = super().configure_optimizers()
        total_steps = int(self.trainer.estimated_stepping_batches)
        if self.one_cycle and total_steps >= _FEWEST_CYCLE_STEPS:
            scheduler = OneCycleLR(
                config["optimizer"],
                max_lr=self.lr,
                total_steps=total_steps,
                pct_start=max(0.1, 2 / total_steps),
            )
            config["lr_scheduler"] = {"scheduler": scheduler, "interval": "step"}
        return config

    def on_train_start(self) -> None:
        """Switch to training mode: scvi-tools leaves a model in evaluation mode."""
        super().on_train_start()
        self.module.train()

    def on_train_epoch_start(self) -> None:
        """Begin a new count of code usage."""
        super().on_train_epoch_start()
        self._epoch_counts.zero_()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step: adjust the codes as published, then the gradient of the loss."""
        inference, generative, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        if "assignment" in generative:
            self._count_usage(generative["assignment"], inference["z"].detach())
        if self.on_step:
            self.log("train_loss", loss.loss, on_step=True, on_epoch=True, prog_bar=True)
        else:
            self._means["train"].add({"loss": loss.loss}, loss.n_obs_minibatch)
        self.compute_and_log_metrics(loss, self.train_metrics, "train")
        if self.trainer.is_last_batch:
            self._log_epoch("train")  # here, so that callbacks see it when the epoch ends
        return loss.loss

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
        self._log_epoch("train")  # of an epoch that was cut short
        if self.module.codebook.is_fitted:
            self.log("perplexity_train", perplexity(self._epoch_counts))
            self.log("n_empty_codes_train", (self._epoch_counts == 0).sum().float())

    def on_validation_epoch_end(self) -> None:
        """Log the losses of the cells held out."""
        super().on_validation_epoch_end()
        self._log_epoch("validation")

    def compute_and_log_metrics(
        self, loss_output: LossOutput, metrics: dict[str, Any], mode: str
    ) -> None:
        """Take up the losses of a batch; they are logged when the epoch is over.

        Logging a number in Lightning takes about as long as a layer of the network.
        """
        if self.on_step:
            self._log_step(loss_output, metrics, mode)
            return
        n_cells = loss_output.n_obs_minibatch
        rec = loss_output.reconstruction_loss_sum / n_cells
        losses = {"reconstruction_loss": rec, "elbo": rec, **loss_output.extra_metrics}
        self._means[mode].add(losses, n_cells)

    def _log_step(self, loss_output: LossOutput, metrics: dict[str, Any], mode: str) -> None:
        """As scvi-tools does, but the extra metrics outside inference mode: devices add them up."""
        extra, loss_output.extra_metrics = loss_output.extra_metrics, {}
        super().compute_and_log_metrics(loss_output, metrics, mode)
        for name, value in extra.items():
            key, n_cells = f"{name}_{mode}", loss_output.n_obs_minibatch
            self.log(
                key,
                value,
                on_step=True,
                on_epoch=True,
                batch_size=n_cells,
                sync_dist=self.use_sync_dist,
            )

    def _log_epoch(self, mode: str) -> None:
        for name, mean in self._means[mode].pop().items():
            key = f"{mode}_loss" if name == "loss" else f"{name}_{mode}"
            self.log(
                key,
                mean,
                on_step=False,
                on_epoch=True,
                prog_bar=name == "loss",
                sync_dist=self.use_sync_dist,
            )
