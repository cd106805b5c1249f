"""Callbacks that fit something to the training set during training, and messages about it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
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
    """Encode cells in evaluation mode, block by block.

    Parameters
    ----------
    module
        The module as it stands.
    inputs
        Inputs of its training by name, each ``(n_cells, any)``, dense or CSR.
    choose
        Picks tensors ``(n_cells, any)`` from the outputs.
    apply
        What to apply to the inputs of a block; by default the module's inference.

    Returns
    -------
    The chosen tensors of all cells, on the CPU.
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
            tensors[name] = F.pad(rows, (0, 0, 0, _BLOCK - n)).to(module.device)
        outputs = (
            apply(tensors) if apply else module.inference(**module._get_inference_input(tensors))
        )
        blocks.append([values[:n].cpu() for values in choose(outputs)])
    module.train(was_training)
    return [torch.cat(of_all) for of_all in zip(*blocks, strict=True)]


class FineTuning(Callback):
    """Starts the fine-tuning: sets the prototypes when pre-training is over, then every epoch.

    Parameters
    ----------
    inputs
        Inputs of the training with the labels of the cells, whose means the prototypes are.
    pretraining_fraction
        Share of the steps before.
    """

    def __init__(self, inputs: Mapping[str, Any], *, pretraining_fraction: float = 0.9):
        self.inputs = inputs
        self.pretraining_fraction = pretraining_fraction
        self._epoch: int | None = None

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

    def __init__(
        self,
        module: CoemModule,
        inputs: Mapping[str, Any],
        *,
        warmup_fraction: float,
        seed: int,
    ):
        self.module = module
        self.inputs = inputs
        self.warmup_fraction = warmup_fraction
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Fit the prior once the warm-up is over."""
        prior = self.module.prior
        n_warmup = int(self.warmup_fraction * trainer.estimated_stepping_batches)
        if trainer.global_step >= n_warmup and not prior.is_fitted:
            posteriors = Gaussian(*encode(self.module, self.inputs, lambda o: o["joint"]))
            prior.set_mixture(*initial_mixture(posteriors, prior.n_components, seed=self.seed))


def say(message: str) -> None:
    """Log a message where Lightning does, once for all devices."""
    rank_zero_info(message)


def say_trained(trainer: Trainer, *, what: str, seconds: float) -> None:
    """Log what was trained, for how long, and what ended it."""
    say(
        f"Trained {what} in {trainer.current_epoch:,} epochs ({trainer.global_step:,} steps) and "
        f"{seconds:.0f} s; stopped: {_reason(trainer)}."
    )


def _reason(trainer: Trainer) -> str:
    rules = [rule for rule in getattr(trainer, "callbacks", []) if isinstance(rule, StopRule)]
    if any(rule.n_calm >= rule.patience for rule in rules):
        return "losses converged"
    if trainer.max_epochs is not None and trainer.current_epoch < trainer.max_epochs:
        return "early stopping or another limit of the trainer"
    return "all epochs are done"
