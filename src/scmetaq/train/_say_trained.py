from lightning.pytorch import Trainer

from ._say import say
from ._stop_rule import StopRule


def say_trained(
    trainer: Trainer, stop_rule: StopRule | None = None, *, what: str, seconds: float
) -> None:
    """Say, where Lightning says such things, what was trained, how long, and what ended it.

    Parameters
    ----------
    trainer
        The trainer, when training is over.
    stop_rule
        The rule that it was trained under, if any.
    what
        What was trained on what.
    seconds
        Time that it took.
    """
    say(
        f"Trained {what} in {trainer.current_epoch:,} epochs ({trainer.global_step:,} steps) and "
        f"{seconds:.0f} s; ended by {_reason(trainer, stop_rule)}."
    )


def _reason(trainer: Trainer, stop_rule: StopRule | None) -> str:
    if stop_rule is not None and stop_rule.n_calm >= stop_rule.patience:
        return "losses that stood still"
    if trainer.max_epochs is not None and trainer.current_epoch < trainer.max_epochs:
        return "early stopping or another limit of the trainer"
    return "the number of epochs"
