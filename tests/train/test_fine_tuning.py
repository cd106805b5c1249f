from types import SimpleNamespace

import torch

from scmetaq.module import SCPoliModule
from scmetaq.nn import ModalityShape
from scmetaq.train import FineTuning, SCPoliTrainingPlan


def run(pretraining_fraction, n_steps=20, per_epoch=4):
    """Steps at which prototypes are found."""
    plan = SCPoliTrainingPlan(SCPoliModule({"rna": ModalityShape(9)}), eta=2.0)
    trainer = SimpleNamespace(estimated_stepping_batches=n_steps, global_step=0, current_epoch=0)
    steps = []

    def find():
        steps.append(trainer.global_step)
        return [torch.full((2, 10), float(trainer.global_step))]

    callback = FineTuning(find, pretraining_fraction=pretraining_fraction)
    callback.on_train_start(trainer, plan)
    for step in range(n_steps):
        trainer.global_step, trainer.current_epoch = step, step // per_epoch
        callback.on_train_batch_start(trainer, plan, None, step % per_epoch)
    return steps, plan.loss_kwargs


def test_prototypes_are_found_after_pretraining_and_then_every_epoch():
    steps, loss_kwargs = run(0.5)
    assert steps == [10, 12, 16]
    assert loss_kwargs["eta"] == 2.0
    assert (loss_kwargs["prototypes"][0] == 16).all()


def test_fine_tuning_can_be_everything_or_nothing():
    assert run(0.0)[0] == [0, 4, 8, 12, 16]
    steps, loss_kwargs = run(1.0)
    assert steps == []
    assert loss_kwargs.get("prototypes") is None


def test_fine_tuning_that_is_less_than_an_epoch():
    assert run(0.9, n_steps=20, per_epoch=20)[0] == [18]
