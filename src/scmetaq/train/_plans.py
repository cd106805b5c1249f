"""Training plans, and the cells that they train on."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter
from scvi.module.base import BaseModuleClass, LossOutput
from scvi.train import TrainingPlan
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from scmetaq.module import MetaQModule, SCPoliModule
from scmetaq.nn import perplexity

from ._published import adjust_large, adjust_small, update_usage

_FEWEST_CYCLE_STEPS: Final = 5
"""Below this number of steps the learning rate stays constant."""
_ADAMW: Final = {"lr": 1e-3, "weight_decay": 1e-2, "eps": 1e-8, "optimizer": "AdamW"}


class TrainingSetSplitter(DataSplitter):
    """scvi-tools' split of cells, applied to a training set in place of the user's cells."""

    def __init__(
        self, adata_manager: AnnDataManager, *, training_set: AnnDataManager, **kwargs: Any
    ):
        super().__init__(training_set, **kwargs)

    def val_dataloader(self) -> Any:
        """Loader of the cells held out; without any, an empty list, which Lightning ignores."""
        loader = super().val_dataloader()
        return [] if loader is None else loader


class EpochTrainingPlan(TrainingPlan):
    """Training that logs every loss once per epoch, with a learning rate that may rise and fall.

    Parameters
    ----------
    module
        The module to train.
    one_cycle
        Whether the learning rate rises to ``lr`` and falls to zero over the training; otherwise
        it is constant.
    **kwargs
        Arguments of :class:`scvi.train.TrainingPlan`, among them ``lr`` (1e-3), the highest rate of
        the cycle where there is one, ``optimizer`` (``"AdamW"``), its decoupled ``weight_decay``
        (1e-2) and ``eps`` (1e-8, torch's default, not that of scvi-tools). With ``compile``, code
        that cannot be compiled on the machine runs uncompiled.
    """

    def __init__(self, module: BaseModuleClass, *, one_cycle: bool = False, **kwargs: Any):
        super().__init__(module, **{**_ADAMW, **kwargs})
        if kwargs.get("compile"):
            torch._dynamo.config.suppress_errors = True  # imported with the first use
        self.one_cycle = one_cycle
        # sums of losses over cells, and numbers of cells; on the device until an epoch is over
        self._sums: dict[str, dict[str, Any]] = {"train": {}, "validation": {}}

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
            self._add("train", {"loss": loss.loss}, loss.n_obs_minibatch)
        self.compute_and_log_metrics(loss, self.train_metrics, "train")
        if self.trainer.is_last_batch:
            self._log_epoch("train")  # here, so that callbacks see it when the epoch ends
        return loss.loss

    def see_outputs(self, inference: dict[str, Any], generative: dict[str, Any]) -> None:
        """For plans that use the outputs of a training step."""

    def on_train_epoch_end(self) -> None:
        """Log the rest of an epoch that was cut short."""
        super().on_train_epoch_end()
        self._log_epoch("train")

    def on_train_end(self) -> None:
        """Give all processes the same buffers, such as those of batch normalisation."""
        super().on_train_end()
        if self.trainer.world_size > 1:
            for buffer in self.module.buffers():
                buffer.copy_(self.trainer.strategy.broadcast(buffer))

    def on_validation_epoch_end(self) -> None:
        """Log the losses of the cells held out."""
        super().on_validation_epoch_end()
        self._log_epoch("validation")

    def compute_and_log_metrics(
        self, loss_output: LossOutput, metrics: dict[str, Any], mode: str
    ) -> None:
        """Store the losses of a batch; they are logged when the epoch is over.

        Logging a number in Lightning takes about as long as a layer of the network.
        """
        n_cells = loss_output.n_obs_minibatch
        if not self.on_step:
            rec = loss_output.reconstruction_loss_sum / n_cells
            kl = loss_output.kl_local_sum / n_cells
            losses = {"reconstruction_loss": rec, "elbo": rec + kl, **loss_output.extra_metrics}
            if "kl_weight" in self.loss_kwargs:
                losses["kl_local"] = kl
            self._add(mode, losses, n_cells)
            return
        # as scvi-tools does; extra metrics outside inference mode, since devices sum them
        extra, loss_output.extra_metrics = loss_output.extra_metrics, {}
        super().compute_and_log_metrics(loss_output, metrics, mode)
        options = {"batch_size": n_cells, "sync_dist": self.use_sync_dist}
        for name, value in extra.items():
            self.log(f"{name}_{mode}", value, on_step=True, on_epoch=True, **options)

    def _add(self, mode: str, means: Mapping[str, Tensor], n_cells: int) -> None:
        """Add the means over a batch of ``n_cells``, each ``()``."""
        for name, value in means.items():
            total, n = self._sums[mode].get(name, (0, 0))
            self._sums[mode][name] = total + value.detach() * n_cells, n + n_cells

    def _log_epoch(self, mode: str) -> None:
        options = {"on_step": False, "on_epoch": True, "sync_dist": self.use_sync_dist}
        for name, (total, n) in self._sums[mode].items():
            key = f"{mode}_loss" if name == "loss" else f"{name}_{mode}"
            # shown with the bar, since it falls; the loss rises as terms of it set in
            self.log(key, total / n, prog_bar=name == "reconstruction_loss", **options)
        self._sums[mode] = {}


class MetaQTrainingPlan(EpochTrainingPlan):
    """Training of a :class:`~scmetaq.module.MetaQModule`.

    Logs, per epoch, the losses, the perplexity of code usage and the number of empty codes.

    Parameters
    ----------
    module
        The module to train.
    adjust_codes
        Whether over- and under-used codes are disturbed at each step (paper Eq. 11-15).
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
        """Record how the codes are used, and adjust them as published."""
        if "assignment" not in generative:
            return
        codebook, assignment, z = self.module.codebook, generative["assignment"], inference["z"]
        is_alone = self.trainer.world_size == 1
        if not is_alone:  # the cells of all processes
            assignment, z = (self.all_gather(of).flatten(0, 1) for of in (assignment, z))
        self._epoch_counts += codebook.count_cells(assignment)
        if self.adjust_codes:
            update_usage(codebook, assignment)
            adjust_small(codebook, z.detach())
            adjust_large(codebook, z.detach())
            if not is_alone:  # which draw cells of their own
                codebook.codes.data = self.trainer.strategy.broadcast(codebook.codes.data)

    def on_train_epoch_end(self) -> None:
        """Log how the codes were used in this epoch."""
        super().on_train_epoch_end()
        if self.module.codebook.is_fitted:
            self.log("perplexity_train", perplexity(self._epoch_counts))
            self.log("n_empty_codes_train", (self._epoch_counts == 0).sum().float())


class AnnealedTrainingPlan(EpochTrainingPlan):
    """Training of a variational autoencoder with a warm-up of the divergences' weight.

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

    def __init__(self, module: BaseModuleClass, *, kl_warmup_fraction: float = 0.5, **kwargs: Any):
        super().__init__(module, **{"n_epochs_kl_warmup": None, **kwargs})
        self.kl_warmup_fraction = kl_warmup_fraction
        given = [kwargs.get(f"n_{of}_kl_warmup") for of in ("steps", "epochs")]
        self._is_warmup_given = given != [None, None]

    def on_train_start(self) -> None:
        """Derive the length of the warm-up from that of the training."""
        super().on_train_start()
        if not self._is_warmup_given:
            n_steps = self.kl_warmup_fraction * self.trainer.estimated_stepping_batches
            self.n_steps_kl_warmup = max(1, int(n_steps))

    def on_train_epoch_end(self) -> None:
        """Log the weight of the divergences."""
        super().on_train_epoch_end()
        self.log("kl_weight", float(self.kl_weight))


class CoemTrainingPlan(AnnealedTrainingPlan):
    """Training of a :class:`~scmetaq.module.CoemModule`: see :class:`AnnealedTrainingPlan`."""


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
        Learning rate of the fine-tuning, constant: that of one cycle is nearly zero by then.
        None: that of the pre-training continues.
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
        """Set the prototypes of the loss, ``(n_labels, n_latent)`` for each level of labels."""
        self.loss_kwargs["prototypes"] = prototypes

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the fine-tuning: the schedule sets its own at every step."""
        if self.fine_tuning_lr is not None and self.loss_kwargs.get("prototypes") is not None:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self.fine_tuning_lr


class QueryTrainingPlan(EpochTrainingPlan):
    """Training of the embeddings of new conditions, everything else being frozen.

    The module stays in evaluation mode: running statistics do not move, and every cell is decoded.
    """

    def on_train_start(self) -> None:
        """Stay in evaluation mode."""
        super().on_train_start()
        self.module.eval()
