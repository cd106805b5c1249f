"""Callbacks that fit something to the training set during training, and messages about it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info as say
from torch import Tensor

from scmetaq.module import CoemModule, ModalityModule
from scmetaq.nn import Gaussian, class_means
from scmetaq.nn._gaussian import initial_mixture
from scmetaq.nn._inputs import COUNTS, LABELS

from ._plans import SCPoliTrainingPlan
from ._published import StopRule

_BLOCK: Final = 1_024
"""Cells per pass of the encoder; the last block is padded, as where cells are read."""


@torch.no_grad()
def encode(
    module: ModalityModule,
    inputs: Mapping[str, Any],
    choose: Callable[[Any], Iterable[Tensor]],
    *,
    apply: Callable[[dict[str, Tensor]], Any] | None = None,
) -> list[Tensor]:
    """Encode cells in evaluation mode, block by block; return the tensors chosen, on the CPU.

    Inputs are those of training by name, ``(n_cells, any)``, dense or CSR. The module's inference,
    or another function given to ``apply``, reads those of a block.
    """
    reads_counts = any(part.linear_path is None for part in module.parts.values())
    read = {k: v for k, v in inputs.items() if reads_counts or not k.endswith(f"_{COUNTS}")}
    n_cells = next(iter(read.values())).shape[0]
    was_training = module.training
    module.eval()
    blocks = []
    for start in range(0, n_cells, _BLOCK):
        n, tensors = min(_BLOCK, n_cells - start), {}
        for name, values in read.items():
            rows = values[start : start + n]
            rows = torch.as_tensor(rows.toarray() if hasattr(rows, "toarray") else rows)
            more = rows.new_zeros(_BLOCK - n, *rows.shape[1:])  # may have no columns: no pad
            tensors[name] = torch.cat([rows, more]).to(module.device)
        outputs = (
            apply(tensors) if apply else module.inference(**module._get_inference_input(tensors))
        )
        blocks.append([values[:n].cpu() for values in choose(outputs)])
    module.train(was_training)
    return [torch.cat(of_all) for of_all in zip(*blocks, strict=True)]


@dataclass(eq=False, repr=False)
class FineTuning(Callback):
    """Starts the fine-tuning: sets the prototypes when pre-training is over, then every epoch.

    Parameters
    ----------
    inputs
        Inputs of the training with the labels of the cells, whose means the prototypes are.
    pretraining_fraction
        Share of the steps before.
    """

    inputs: Mapping[str, Any]
    pretraining_fraction: float = 0.9
    _epoch: int | None = field(default=None, init=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Every training begins with its own pre-training."""
        self._epoch = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the prototypes once an epoch, when pre-training is over."""
        n_steps = self.pretraining_fraction * trainer.estimated_stepping_batches
        if trainer.global_step >= n_steps and self._epoch != trainer.current_epoch:
            self._epoch = trainer.current_epoch
            assert isinstance(pl_module, SCPoliTrainingPlan)
            module = pl_module.module
            (z,) = encode(module, self.inputs, lambda outputs: [outputs["z"]])
            labels = torch.as_tensor(self.inputs[LABELS]).long()
            pl_module.set_prototypes([class_means(z, of).to(module.device) for of in labels.T])


@dataclass(eq=False, repr=False)
class MixtureFit(Callback):
    """Fits the prior to the posteriors of the training cells, once, when the warm-up is over.

    From then on it learns too. Before, the prior is the standard normal distribution.

    Parameters
    ----------
    module
        The module with the prior.
    inputs
        Inputs of the training.
    warmup_fraction
        Share of the steps before.
    seed
        Seed of the fit.
    """

    module: CoemModule
    inputs: Mapping[str, Any]
    warmup_fraction: float
    seed: int

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Fit the prior once the warm-up is over."""
        prior = self.module.prior
        n_warmup = int(self.warmup_fraction * trainer.estimated_stepping_batches)
        if trainer.global_step >= n_warmup and not prior.is_fitted:
            posteriors = Gaussian(*encode(self.module, self.inputs, lambda o: o["joint"]))
            prior.set_mixture(*initial_mixture(posteriors, len(prior.logits), seed=self.seed))


def say_trained(trainer: Trainer, *, what: str, seconds: float) -> None:
    """Log what was trained, for how long, and what ended it."""
    rules = [rule for rule in getattr(trainer, "callbacks", []) if isinstance(rule, StopRule)]
    reason = "all epochs are done"
    if any(rule.n_calm >= rule.patience for rule in rules):
        reason = "losses converged"
    elif trainer.max_epochs is not None and trainer.current_epoch < trainer.max_epochs:
        reason = "early stopping or another limit of the trainer"
    say(
        f"Trained {what} in {trainer.current_epoch:,} epochs ({trainer.global_step:,} steps) and "
        f"{seconds:.0f} s; stopped: {reason}."
    )
