import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from scipy import sparse

from scmetaq.data._training_set import training_set
from scmetaq.train import MetaQTrainingPlan, TrainingSetSplitter


class Watch(Callback):
    """Keeps what a training run looked like from the inside."""

    def __init__(self):
        self.modes, self.rates, self.codes, self.counts = [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.modes.append(pl_module.module.training)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        codebook = pl_module.module.codebook
        self.counts.append(pl_module._epoch_counts.clone())
        self.codes.append(codebook.codes.detach().clone())


@pytest.fixture
def watch():
    return Watch()


def test_history_has_the_losses_the_perplexity_and_the_empty_codes(model):
    history = model.history
    always = ["train_loss", "reconstruction_loss_train"]
    with_codes = ["quantized_loss_train", "codebook_loss_train"]
    use = ["perplexity_train", "n_empty_codes_train"]
    for key in always + with_codes + use:
        assert np.isfinite(history[key].to_numpy(dtype=float)).all(), key
    assert all(len(history[key]) == 4 for key in always)
    perplexity = history["perplexity_train"].to_numpy(dtype=float)
    assert ((perplexity >= 1) & (perplexity <= 10)).all()
    empty = history["n_empty_codes_train"].to_numpy(dtype=float)
    assert ((empty >= 0) & (empty < 10) & (empty % 1 == 0)).all()
    assert 0 < len(perplexity) <= 4


def test_losses_fall_and_every_training_is_in_training_mode(fit, toy, train, watch):
    history = fit(toy, max_epochs=12).history
    loss = history["reconstruction_loss_train"].to_numpy(dtype=float).ravel()
    assert loss[-3:].mean() < loss[:3].mean()
    model = fit(toy)
    assert not model.module.training
    train(model, callbacks=[watch])
    assert watch.modes
    assert all(watch.modes)
    assert not model.module.training


def test_losses_of_validation_and_of_every_step_are_logged(fit, toy):
    history = fit(toy, train={"check_val_every_n_epoch": 1, "train_size": 0.8}).history
    for name in ("reconstruction_loss", "quantized_loss", "codebook_loss", "elbo"):
        assert f"{name}_validation" in history
        assert f"{name}_train" in history
    history = fit(toy, train={"plan_kwargs": {"on_step": True}}).history
    for name in ("train_loss", "reconstruction_loss_train"):
        assert np.isfinite(history[f"{name}_epoch"].to_numpy(dtype=float)).all()
    assert "train_loss_step" in history


def test_one_cycle_rises_to_the_rate_and_falls(fit, toy, watch):
    plan = {"one_cycle": True, "lr": 0.01}
    fit(toy, max_epochs=5, train={"callbacks": [watch], "plan_kwargs": plan})
    peak = int(np.argmax(watch.rates))
    assert watch.rates[peak] == pytest.approx(0.01, rel=0.2)
    assert 0 < peak < len(watch.rates) // 2
    assert watch.rates[0] < 0.005
    assert watch.rates[-1] < 0.001


def test_without_the_cycle_the_rate_is_constant_and_one_may_have_any_length(fit, toy, watch):
    plan = {"one_cycle": False, "lr": 0.004}
    fit(toy, train={"callbacks": [watch], "plan_kwargs": plan})
    assert set(watch.rates) == {0.004}
    for n_steps in (1, 2, 9, 11, 10):
        train = {"batch_size": 150, "plan_kwargs": {"one_cycle": True}}
        assert fit(toy, max_epochs=n_steps, train=train).trainer.global_step == n_steps


@pytest.mark.parametrize("adjust", [True, False])
def test_only_adjusting_moves_codes_that_nothing_uses(fit, toy, watch, adjust):
    plan = {"adjust_codes": adjust}
    train = {"callbacks": [watch], "plan_kwargs": plan}
    fit(toy, n_metacells=30, recipe="published", train=train)
    if adjust:  # at the very first step they jump from near the origin onto cells
        unused = watch.counts[0] == 0
        assert unused.sum() > 3
        assert (watch.codes[0][unused].norm(dim=1) > 1).all()
    else:
        unused = torch.stack(watch.counts).amax(0) == 0
        first, last = watch.codes[0][unused], watch.codes[-1][unused]
        assert len(first) > 3
        assert ((last - first).norm(dim=1) / first.norm(dim=1)).max() < 1e-3  # weight decay alone


def test_the_optimizer_is_the_authors_or_that_asked_for(fit, toy, toy_model):
    optimizer = fit(toy, recipe="published", max_epochs=1).trainer.optimizers[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    options = optimizer.defaults
    assert (options["lr"], options["weight_decay"], options["eps"]) == (1e-3, 1e-2, 1e-8)
    plan = MetaQTrainingPlan(toy_model.module, lr=0.1, optimizer="Adam", state_weight=0.3)
    assert plan.loss_kwargs["state_weight"] == 0.3
    assert (plan.lr, plan.optimizer_name) == (0.1, "Adam")


def test_batches_are_those_of_the_training_set():
    counts = sparse.random(20, 5, 0.5, "csr", np.float32, np.random.default_rng(0))
    scores = np.arange(40, dtype=np.float32).reshape(20, 2)
    manager = training_set({"counts": counts, "scores": scores})
    splitter = TrainingSetSplitter(None, training_set=manager, train_size=0.8, batch_size=4)
    splitter.setup()
    batches = list(splitter.train_dataloader())
    cells = np.concatenate([batch["scores"][:, 0].numpy() for batch in batches]).astype(int) // 2
    assert sorted(cells) == sorted(splitter.train_idx)
    assert len(cells) == 16
    found = np.concatenate([batch["counts"].numpy() for batch in batches])
    np.testing.assert_array_equal(found, counts.toarray()[cells])
    splitter = TrainingSetSplitter(None, training_set=manager, train_size=1.0)
    splitter.setup()
    assert splitter.val_dataloader() == []  # without cells held out


def test_means_of_an_epoch_weight_batches_by_their_cells(toy_model, monkeypatch):
    monkeypatch.setattr(MetaQTrainingPlan, "use_sync_dist", False)
    plan, logged = MetaQTrainingPlan(toy_model.module), {}
    plan.log = lambda name, value, **options: logged.update({name: value})
    plan._add("train", {"a": torch.tensor(1.0), "b": torch.tensor(5.0)}, 30)
    plan._add("train", {"a": torch.tensor(4.0, requires_grad=True) * 1}, 10)
    plan._log_epoch("train")
    assert not logged["a_train"].requires_grad
    assert {k: v.item() for k, v in logged.items()} == {"a_train": 1.75, "b_train": 5.0}
    plan._add("train", {"a": torch.tensor(2.0)}, 3)
    plan._log_epoch("train")
    assert logged["a_train"] == 2
