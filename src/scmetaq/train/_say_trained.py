from lightning.pytorch import Trainer

from ._say import say
from ._stop_rule import StopRule


def say_trained(trainer: Trainer, *, what: str, seconds: float) -> None:
    """Say, where Lightning says such things, what was trained, how long, and what ended it.

    Parameters
    ----------
    trainer
        The trainer, when training is over.
    what
        What was trained on what.
    seconds
        Time that it took.
    """
    say(
        f"Trained {what} in {trainer.current_epoch:,} epochs ({trainer.global_step:,} steps) and "
        f"{seconds:.0f} s; ended by {_reason(trainer)}."
    )


def _reason(trainer: Trainer) -> str:
    rules = [of for of in getattr(trainer, "callbacks", []) if isinstance(of, StopRule)]
    if any(rule.n_calm >= rule.patience for rule in rules):
        return "losses that converged"
    if trainer.max_epochs is not None and trainer.current_epoch < trainer.max_epochs:
        return "early stopping or another limit of the trainer"
    return "the number of epochs"
