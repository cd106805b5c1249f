from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from scmetaq.nn import Codebook, squared_distances
from scmetaq.train import StopRule
from scmetaq.train._published import adjust_large, adjust_small, update_usage


class Usage(Callback):
    def __init__(self):
        self.total = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.total.append(pl_module.module.codebook.usage.sum().item())


def latents(n=200, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def codebook_of(codes, usage):
    codebook = Codebook(*codes.shape, distance="cosine")
    codebook.set_codes(codes)
    codebook.usage.copy_(torch.as_tensor(usage))
    return codebook


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_only_the_published_recipe_averages_usage_and_has_the_stop_rule(fit, toy, recipe):
    watch = Usage()
    model = fit(toy, max_epochs=4, recipe=recipe, train={"callbacks": [watch]})
    has_rule = any(isinstance(callback, StopRule) for callback in model.trainer.callbacks)
    assert has_rule == (recipe == "published")
    expected = 1 - 0.9 ** np.arange(1, len(watch.total) + 1)
    # usage of the default recipe is that of the codes, which are fitted before
    np.testing.assert_allclose(watch.total, expected if has_rule else 1, rtol=1e-5)


def test_usage_moves_a_tenth_of_the_way_and_fills_up_to_one():
    codebook = codebook_of(latents(3), [0.0, 0, 0])
    update_usage(codebook, torch.tensor([0, 0, 1, 2]))
    torch.testing.assert_close(codebook.usage, torch.tensor([0.05, 0.025, 0.025]))
    update_usage(codebook, torch.tensor([1, 1]))
    torch.testing.assert_close(codebook.usage, torch.tensor([0.045, 0.0225 + 0.1, 0.0225]))
    for _ in range(200):
        update_usage(codebook, torch.tensor([0, 1, 1, 1]))
    torch.testing.assert_close(codebook.usage, torch.tensor([0.25, 0.75, 0.0]))


def test_small_adjustment_moves_hardly_used_codes_onto_cells_and_no_others():
    torch.manual_seed(0)
    codes, z = latents(4, seed=1), latents()
    codebook = codebook_of(codes, [0.5, 0.0, 0.5, 0.0])
    adjust_small(codebook, z)
    assert torch.equal(codebook.codes[[0, 2]], codes[[0, 2]])
    to_cells = squared_distances(codebook.codes[[1, 3]], z).amin(1).sqrt()
    assert (to_cells < 0.01).all()  # a step of exp(-0.001) of the way


def test_small_adjustment_draws_cells_that_no_code_serves():
    z = torch.cat([torch.eye(1, 5).repeat(50, 1), -torch.eye(1, 5).repeat(50, 1)])
    need = (1 - codebook_of(torch.eye(2, 5), [1, 0]).similarity(z)).softmax(1).amax(1).detach()
    torch.manual_seed(0)
    n_lost = 0
    for _ in range(100):
        codebook = codebook_of(torch.eye(2, 5), [1, 0])
        adjust_small(codebook, z)
        n_lost += bool(codebook.codes[1, 0] < 0)
    expected = (need[50:].sum() / need.sum()).item()
    assert n_lost / 100 == pytest.approx(expected, abs=0.15)


def test_large_adjustment_moves_crowded_codes_part_of_the_way_once_the_average_has_filled_up():
    codes = latents(4, seed=1)
    codebook = codebook_of(codes, [0.9, 0.05, 0.0, 0.0])
    adjust_large(codebook, latents())
    assert torch.equal(codebook.codes, codes)
    torch.manual_seed(0)
    codes, z = latents(4, seed=1), latents()
    codebook = codebook_of(codes, [0.97, 0.01, 0.01, 0.01])
    adjust_large(codebook, z)
    assert torch.equal(codebook.codes[1:], codes[1:])
    step = np.exp(-10 * 0.25 / 0.97 - 1e-3)
    reachable = codes[0] + step * (z - codes[0])
    assert (codebook.codes[0] - reachable).abs().amax(1).min() < 1e-6


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


def test_stops_after_as_many_epochs_in_a_row_in_which_both_losses_are_calm():
    assert epochs_until_stop(still(30)) == (11, True)
    assert epochs_until_stop(still(30), patience=3) == (4, True)
    for moving in ("quantized_loss", "codebook_loss"):
        losses = [{**epoch, moving: 1 / (n + 1)} for n, epoch in enumerate(still(30))]
        assert epochs_until_stop(losses, patience=3) == (30, False)
    # a move restarts the count
    losses = [*still(3), {"quantized_loss": 2.0, "codebook_loss": 0.5}, *still(9)]
    assert epochs_until_stop(losses, patience=3) == (8, True)
    losses = [{"quantized_loss": 1 + 1e-3 * n, "codebook_loss": 0.5} for n in range(9)]
    assert epochs_until_stop(losses, patience=3, tolerance=1e-2) == (4, True)
    assert epochs_until_stop(losses, patience=3, tolerance=1e-4) == (9, False)
    # before there are codes
    assert epochs_until_stop([{"reconstruction_loss": 1.0}] * 30) == (30, False)
