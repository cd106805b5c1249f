from types import SimpleNamespace

import torch

from scmetaq.train import StopRule


def epochs_until_stop(losses, **kwargs):
    """Number of epochs seen, and whether the rule stopped there."""
    rule = StopRule(**kwargs)
    trainer = SimpleNamespace(should_stop=False, callback_metrics={})
    for epoch, metrics in enumerate(losses, 1):
        trainer.callback_metrics = {
            f"{name}_train": torch.tensor(value, dtype=torch.float64)
            for name, value in metrics.items()
        }
        rule.on_train_epoch_end(trainer, None)
        if trainer.should_stop:
            return epoch, True
    return len(losses), False


def still(n):
    return [{"quantized_loss": 1.0, "codebook_loss": 0.5}] * n


def test_stops_after_as_many_calm_epochs_in_a_row():
    assert epochs_until_stop(still(30)) == (11, True)
    assert epochs_until_stop(still(30), patience=3) == (4, True)


def test_both_losses_must_be_calm():
    for moving in ("quantized_loss", "codebook_loss"):
        losses = [{**epoch, moving: 1 / (n + 1)} for n, epoch in enumerate(still(30))]
        assert epochs_until_stop(losses, patience=3) == (30, False)


def test_a_move_starts_the_count_anew():
    losses = [*still(3), {"quantized_loss": 2.0, "codebook_loss": 0.5}, *still(9)]
    assert epochs_until_stop(losses, patience=3) == (8, True)


def test_tolerance():
    losses = [{"quantized_loss": 1 + 1e-3 * n, "codebook_loss": 0.5} for n in range(9)]
    assert epochs_until_stop(losses, patience=3, tolerance=1e-2) == (4, True)
    assert epochs_until_stop(losses, patience=3, tolerance=1e-4) == (9, False)


def test_waits_for_the_codes():
    assert epochs_until_stop([{"reconstruction_loss": 1.0}] * 30) == (30, False)
