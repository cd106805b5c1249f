"""Defaults of training, and checks of its arguments before any work starts."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Final

import numpy as np
import torch
from scvi.model._utils import parse_device_args
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import SaveCheckpoint, Trainer

from scmetaq._errors import InputTypeError, InputValueError, check_int, check_share, reason
from scmetaq.data._training_set import training_set

MOST_EPOCHS: Final = 1_000_000
"""Of a training: a slip of the pen would never end."""
_FEWEST_EPOCHS: Final = 4
"""Epochs by default, at least, where the number of steps is given: curves of losses need some."""


def default_batch_size(largest: int, n_cells: int) -> int:
    """Cells of a batch: no more than an eighth of all, but 32 where there are as many."""
    return min(largest, max(32, n_cells // 8))


@dataclass
class Preparation:
    """What training reads, and what it does besides the gradient steps."""

    cells: np.ndarray
    """Indices of the cells to train on."""
    inputs: dict[str, Any]
    """What training reads of them, by name, each ``(n_cells, any)``."""
    batch_size: int
    """Cells per step by default."""
    n_steps: int | None
    """Steps after which training ends by default; None for ``most_epochs`` epochs."""
    most_epochs: int
    plan: dict[str, Any] = field(default_factory=dict)
    """Arguments of the training plan by default."""
    callbacks: list[Any] = field(default_factory=list)
    drops_last: bool = False
    """Whether a last batch that is smaller than the others is left out by default."""
    monitor: str | None = None
    """What early stopping watches by default; None for scvi-tools' own."""

    def n_epochs(self, batch_size: int) -> int:
        """Epochs by default, at least one."""
        if self.n_steps is None:
            return self.most_epochs
        per_epoch = self.n_steps_each(batch_size) or np.ceil(len(self.cells) / batch_size)
        return int(np.clip(round(self.n_steps / per_epoch), 1, self.most_epochs))

    def n_steps_each(self, batch_size: int) -> int | None:
        """Steps per epoch by default; None: all cells, once."""
        n = None if self.n_steps is None else self.n_steps // _FEWEST_EPOCHS
        return n if n and n * batch_size < len(self.cells) else None

    def splitter(self, batch_size: int, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of the data splitter; indices of cells become rows of the training set."""
        options = {"training_set": training_set(self.inputs), **given}
        if self.drops_last and len(self.cells) > batch_size:
            options.setdefault("drop_last", True)
        if options.get("external_indexing") is not None:
            options["external_indexing"] = [
                np.flatnonzero(np.isin(self.cells, chosen))
                for chosen in options["external_indexing"]
            ]
        return options


@contextmanager
def few_cells_allowed() -> Iterator[None]:
    """Keep scvi-tools from warning of categories with few cells where no network is trained."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Category .* has fewer than 3 cells", UserWarning)
        yield


def looks_at_held_out(callbacks: list[Any], options: dict[str, Any]) -> bool:
    """Whether callbacks and arguments of the trainer ask for cells that are held out."""
    monitors = [str(c.monitor) for c in callbacks if isinstance(c, SaveCheckpoint)]
    saves = options.get("enable_checkpointing") or any("validation" in m for m in monitors)
    return bool(saves) or options.get("check_val_every_n_epoch") is not None


def check_train_size(train_size: float | None, *, early_stopping: bool) -> None:
    """Refuse an invalid train_size, and one that leaves no held-out cells for early stopping."""
    if train_size is not None:
        check_share("train_size", train_size, excluded=(0,))
    if early_stopping and train_size == 1:
        problem = f"Expected cells held out for early_stopping, found train_size={train_size}."
        fix = "Leave train_size out, or pass a share below one."
        raise InputValueError(problem, fix, "train_size")


def check_batch_size(batch_size: int | None, module: torch.nn.Module) -> None:
    """Refuse a batch size below 1, or, with batch normalisation, below 2."""
    needs_two = any(isinstance(of, torch.nn.BatchNorm1d) for of in module.modules())
    check_int("batch_size", batch_size, least=1 + needs_two, optional=True)


def check_plan_kwargs(plan: type, loss: Any, plan_kwargs: dict[str, Any] | None) -> None:
    """Refuse arguments that neither the training plan nor the loss of the module takes."""
    inits = [vars(of)["__init__"] for of in plan.__mro__ if "__init__" in vars(of)]
    known = {name for of in (*inits, loss) for name in signature(of).parameters}
    odd = sorted(set(plan_kwargs or {}) - known)
    if odd:
        problem = f"Expected plan_kwargs to be arguments of scmetaq.train.{plan.__name__}, found"
        raise InputTypeError(f"{problem} {odd[0]!r}.", argument="plan_kwargs")
    for name in ("lr", "fine_tuning_lr"):
        if (rate := (plan_kwargs or {}).get(name)) is not None:
            check_share(f"{name} of plan_kwargs", rate)


def check_others(given: Mapping[str, Any]) -> None:
    """Refuse arguments that neither scvi-tools' training nor its trainer takes."""
    trains = (UnsupervisedTrainingMixin.train, Trainer, Trainer.__mro__[1])
    known = {name for of in trains for name in signature(of).parameters}
    if odd := sorted(set(given) - known):
        problem = f"Expected arguments of train or of its Trainer, found {odd[0]!r}."
        raise InputTypeError(problem, argument=odd[0])


def device_of(accelerator: str, devices: Any, **options: bool) -> torch.device:
    """Return the device that training or inference runs on; refuse one that is not there."""
    try:
        return parse_device_args(accelerator, devices, return_device="torch", **options)[-1]
    except Exception as error:
        problem = f"Expected a device of this machine, found accelerator={accelerator!r} and"
        problem += f" {devices!r} ({reason(error)})."
        raise InputValueError(problem, 'Pass accelerator="cpu".', "accelerator") from error


def check_strategy(accelerator: str, devices: Any, strategy: Any) -> None:
    """Refuse several devices without a strategy for layers that a step does not use."""
    found = parse_device_args(accelerator, devices, return_device="torch")[1]
    n = len(found) if isinstance(found, list) else int(found)
    if n > 1 and strategy in (None, "auto"):
        problem = f"Expected a strategy of the trainer for {n} devices, found none."
        fix = 'Pass strategy="ddp_find_unused_parameters_true", or devices=1.'
        raise InputValueError(problem, fix, "devices")


def check_precision(precision: Any) -> None:
    """Refuse weights of another precision than those that statistics were fitted in."""
    allowed = ("32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")
    if precision is not None and str(precision) not in allowed:
        problem = f"Expected precision with weights in 32 bits, one of {', '.join(allowed)}, found"
        fix = "For steps in half precision use 'bf16-mixed'."
        raise InputValueError(f"{problem} {precision!r}.", fix, "precision")


def check_losses(model: Any) -> None:
    """Refuse a training that diverged; the model is as good as untrained."""
    losses = (model.history or {}).get("train_loss")
    if losses is not None and not np.isfinite(losses.iloc[-1].astype(float)).all():
        model.is_trained_ = False
        problem = "The training diverged: its last loss is no number."
        raise InputValueError(problem, "Lower the learning rate, plan_kwargs={'lr': 1e-3}.")
