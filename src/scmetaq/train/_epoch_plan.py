from typing import Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from scvi.train import TrainingPlan
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from ._epoch_means import EpochMeans

_FEWEST_CYCLE_STEPS = 5
"""Below so many steps the learning rate stays constant."""


class EpochTrainingPlan(TrainingPlan):
    """Training that logs every loss once per epoch, with a learning rate that may rise and fall.

    Parameters
    ----------
    module
        The module to train.
    one_cycle
        Whether the learning rate rises to ``lr`` and falls to zero over the training; otherwise
        it is constant.
    lr
        Learning rate, the highest of the cycle where there is one.
    weight_decay
        Decoupled weight decay of AdamW.
    eps
        Constant of Adam's denominator: torch's default, not that of scvi-tools.
    optimizer
        See :class:`scvi.train.TrainingPlan`.
    **kwargs
        Arguments of :class:`scvi.train.TrainingPlan`. With ``compile``, what cannot be compiled on
        the machine runs as it is.
    """

    def __init__(
        self,
        module: BaseModuleClass,
        *,
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
        if kwargs.get("compile"):
            torch._dynamo.config.suppress_errors = True  # imported with the first use
        self.one_cycle = one_cycle
        self._means = {"train": EpochMeans(), "validation": EpochMeans()}

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

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step: the gradient of the loss."""
        if "kl_weight" in self.loss_kwargs:
            self.loss_kwargs["kl_weight"] = self.kl_weight
        inference, generative, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self.see_outputs(inference, generative)
        if self.on_step:
            self.log("train_loss", loss.loss, on_step=True, on_epoch=True, prog_bar=True)
        else:
            self._means["train"].add({"loss": loss.loss}, loss.n_obs_minibatch)
        self.compute_and_log_metrics(loss, self.train_metrics, "train")
        if self.trainer.is_last_batch:
            self._log_epoch("train")  # here, so that callbacks see it when the epoch ends
        return loss.loss

    def see_outputs(self, inference: dict[str, Any], generative: dict[str, Any]) -> None:
        """For plans that do something with the outputs of a training step."""

    def on_train_epoch_end(self) -> None:
        """Log what is left of an epoch that was cut short."""
        super().on_train_epoch_end()
        self._log_epoch("train")

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
        kl = loss_output.kl_local_sum / n_cells
        losses = {"reconstruction_loss": rec, "elbo": rec + kl, **loss_output.extra_metrics}
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
