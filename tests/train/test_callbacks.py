import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from scmetaq.module import CoemModule, SCPoliModule
from scmetaq.nn import ModalityShape, class_means
from scmetaq.nn._inputs import nested
from scmetaq.train import FineTuning, MixtureFit, SCPoliTrainingPlan, StopRule, say, say_trained
from scmetaq.train._callbacks import _BLOCK, encode


def scpoli(n_cells=30, seed=0):
    """A module with dropout, and a training set with two levels of labels, some missing."""
    torch.manual_seed(0)
    rng = np.random.default_rng(seed)
    module = SCPoliModule({"rna": ModalityShape(9)}, n_latent=3, dropout=0.5)
    inputs = {
        "rna_counts": sparse.csr_matrix(rng.poisson(2.0, (n_cells, 9)), dtype=np.float32),
        "rna_size_factor": np.full((n_cells, 1), 0.01, np.float32),
        "rna_present": np.ones((n_cells, 1), np.float32),
        "conditions": np.empty((n_cells, 0), np.float32),
        "labels": rng.integers(-1, 2, (n_cells, 2)).astype(np.float32),
    }
    return module, inputs


@pytest.mark.parametrize("n_cells", [30, _BLOCK + 5])
def test_cells_are_encoded_in_evaluation_mode_whatever_the_mode(n_cells):
    module, inputs = scpoli(n_cells)
    module.train()
    (found,) = encode(module, inputs, lambda outputs: [outputs["z"]])
    assert module.training
    module.eval()
    inputs["rna_counts"] = inputs["rna_counts"].toarray()
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    conditions = torch.zeros(n_cells, 0, dtype=torch.long)
    expected = module.inference(nested(tensors, ["rna"]), conditions)["z"]
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def fine_tuned(pretraining_fraction, n_steps=20, per_epoch=4):
    """Steps at which prototypes are set, and the arguments of the loss after the last step."""
    module, inputs = scpoli()
    plan = SCPoliTrainingPlan(module, eta=2.0)
    trainer = SimpleNamespace(estimated_stepping_batches=n_steps, global_step=0, current_epoch=0)
    callback = FineTuning(inputs, pretraining_fraction=pretraining_fraction)
    callback.on_train_start(trainer, plan)
    steps, last = [], None
    for step in range(n_steps):
        trainer.global_step, trainer.current_epoch = step, step // per_epoch
        callback.on_train_batch_start(trainer, plan, None, step % per_epoch)
        if plan.loss_kwargs.get("prototypes") is not last:
            last = plan.loss_kwargs["prototypes"]
            steps.append(step)
    return steps, plan.loss_kwargs


def test_prototypes_are_the_means_of_labels_set_after_pretraining_and_every_epoch():
    assert fine_tuned(0.5)[0] == [10, 12, 16]
    assert fine_tuned(0.0)[0] == [0, 4, 8, 12, 16]
    assert fine_tuned(0.9, per_epoch=20)[0] == [18]  # less than an epoch
    steps, loss_kwargs = fine_tuned(1.0)
    assert steps == []
    assert loss_kwargs.get("prototypes") is None
    assert loss_kwargs["eta"] == 2.0
    prototypes = fine_tuned(0.5)[1]["prototypes"]
    module, inputs = scpoli()
    (z,) = encode(module, inputs, lambda outputs: [outputs["z"]])
    for found, labels in zip(prototypes, inputs["labels"].T, strict=True):
        torch.testing.assert_close(found, class_means(z, torch.from_numpy(labels).long()))
        torch.testing.assert_close(found[1], z[torch.from_numpy(labels == 1)].mean(0))


def test_the_prior_is_fitted_once_when_the_warm_up_is_over():
    torch.manual_seed(0)
    shapes = {"rna": ModalityShape(6, n_components=2, n_scores=2)}
    module = CoemModule(shapes, {"rna": "gated"}, n_latent=2, n_hidden=32, n_components=2)
    group = (np.arange(60) % 2)[:, None].astype(np.float32)
    rng = np.random.default_rng(0)
    inputs = {
        "rna_scores": (8 * group + rng.normal(size=(60, 4))).astype(np.float32),
        "rna_profile": rng.normal(size=(60, 2)).astype(np.float32),
        "rna_size_factor": np.ones((60, 1), np.float32),
        "rna_counts": rng.poisson(1, (60, 6)).astype(np.float32),
    }
    prior = module.prior
    fit = MixtureFit(module, inputs, warmup_fraction=0.3, seed=0)
    trainer = SimpleNamespace(global_step=2, estimated_stepping_batches=10)
    fit.on_train_batch_start(trainer, None, None, 0)
    assert not prior.is_fitted
    trainer.global_step = 3
    fit.on_train_batch_start(trainer, None, None, 0)
    assert prior.is_fitted
    (z,) = encode(module, inputs, lambda outputs: [outputs["joint"].mean])
    wanted = class_means(z, torch.from_numpy(group[:, 0]).long())
    nearest = torch.cdist(prior.means, wanted).min(1).values
    assert nearest.max() < 0.1 * torch.dist(*wanted)
    with torch.no_grad():
        prior.means.add_(1)
    before = prior.means.clone()
    fit.on_train_batch_start(trainer, None, None, 0)
    torch.testing.assert_close(prior.means, before, rtol=0, atol=0)


@pytest.fixture
def log(caplog):
    """What Lightning's own logger gets."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_messages_go_where_lightning_logs_also_at_the_end_of_training(log, fit, toy):
    say("40 cells were mapped")
    assert [record.getMessage() for record in log.records][-1] == "40 cells were mapped"
    fit(toy)
    assert "Trained 6 metacells on 150 cells x 60 features in 3 epochs" in log.text


@pytest.mark.parametrize(
    ("calm", "n_epochs", "reason"),
    [(0, 9, "all epochs are done"), (10, 5, "losses converged"), (0, 5, "early stopping")],
)
def test_a_training_says_what_was_trained_how_long_and_what_ended_it(log, calm, n_epochs, reason):
    rule = StopRule()
    rule.n_calm = calm
    trainer = SimpleNamespace(
        max_epochs=9, global_step=1234, current_epoch=n_epochs, callbacks=[rule]
    )
    say_trained(trainer, what="6 metacells", seconds=7.4)
    assert f"Trained 6 metacells in {n_epochs} epochs (1,234 steps) and 7 s; stopped:" in log.text
    assert reason in log.text
