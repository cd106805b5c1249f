"""Stages of training that a caller keeps, and training that goes on after them."""

import io
import os
import signal

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback

from scmetaq import COEM, MetaQModel, SCPoli

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}


class Stages(dict):
    """Stages as files would keep them; what is set after the ``last`` one is lost."""

    last = None

    def __getitem__(self, name):
        with np.load(io.BytesIO(super().__getitem__(name))) as found:
            return dict(found)

    def __setitem__(self, name, arrays):
        if self.last in self:
            raise InterruptedError
        file = io.BytesIO()
        np.savez(file, **arrays)
        super().__setitem__(name, file.getvalue())


def made(cls, data, setup, stages, **kwargs):
    scvi.settings.seed = 0
    (cls.setup_mudata if hasattr(data, "mod") else cls.setup_anndata)(data, **setup)
    model = cls(data, **kwargs)
    model._stored = stages
    return model


CASES = {
    "batches and labels": (MetaQModel, {"batch_key": "lane", "labels_key": "cell_type"}, {}),
    "published": (MetaQModel, {}, {"recipe": "published"}),
    "mosaic": (MetaQModel, {"labels_key": "state"}, {}),
    "scPoli": (SCPoli, {"batch_key": "lane"}, {}),
    "COEM": (COEM, {}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_after_any_stage_with_the_same_result(case, blood, mosaic, paired):
    cls, setup, kwargs = CASES[case]
    data = {"mosaic": mosaic, "COEM": paired}.get(case, blood).copy()
    if not hasattr(data, "mod"):
        data.obs["lane"] = np.array(["x", "y"])[np.arange(data.n_obs) % 2]
    elif case == "COEM":
        del data.mod["adt"]
    if cls is MetaQModel:
        kwargs = kwargs | {"n_metacells": 8}
    whole = made(cls, data, setup, None, **kwargs)
    whole.train(3, **TRAINER)
    assert whole._stored is None
    names = ["training", "prototypes"]
    if cls is MetaQModel:
        names = ["statistics", *(["codes"] if not kwargs.get("recipe") else []), *names]
    for last in names:
        stages = Stages()
        stages.last = last
        if last != "prototypes":
            with pytest.raises(InterruptedError):
                made(cls, data, setup, stages, **kwargs).train(3, **TRAINER)
            stages.last = None
            assert list(stages)[-1] == last
        else:
            made(cls, data, setup, stages, **kwargs).train(3, **TRAINER)
        found = made(cls, data, setup, stages, **kwargs)
        found.train(3, **TRAINER)
        assert found.is_trained
        assert not hasattr(found, "trainer") or last in ("statistics", "codes")
        state, expected = found.module.state_dict(), whole.module.state_dict()
        assert list(state) == list(expected)
        for name, values in expected.items():
            torch.testing.assert_close(state[name], values, rtol=0, atol=0, equal_nan=True)
        assert list(found.history) == list(whole.history)
        for name, curve in whole.history.items():
            assert found.history[name].equals(curve), name
            assert found.history[name].index.equals(curve.index)
        np.testing.assert_array_equal(found.train_indices, whole.train_indices)
        z = found.get_latent_representation()
        np.testing.assert_array_equal(z, whole.get_latent_representation())


def test_random_states_are_restored(toy, monkeypatch):
    stages, drawn, finish = Stages(), [], MetaQModel._finish

    def draw(*args):
        drawn.append((torch.rand(3).tolist(), np.random.rand(3).tolist()))  # noqa: NPY002
        return finish(*args)

    monkeypatch.setattr(MetaQModel, "_finish", draw)
    for _ in range(2):
        made(MetaQModel, toy.copy(), {}, stages, n_metacells=6).train(1, **TRAINER)
        drawn.append((torch.rand(3).tolist(), np.random.rand(3).tolist()))  # noqa: NPY002
    in_training, after, again = drawn
    assert in_training != after == again


class Interrupt(Callback):
    """Sends Ctrl-C at the end of the second epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stage", ["epochs", "codes", "prototypes"])
@pytest.mark.parametrize("was_trained", [False, True])
def test_ctrl_c_raises_and_leaves_the_model_as_it_was(
    toy, train, capsys, caplog, monkeypatch, stage, was_trained
):
    MetaQModel.setup_anndata(toy, labels_key="state")
    model = MetaQModel(toy, n_metacells=6)
    if was_trained:
        train(model, 3)
        before = model.get_assignments()
    state = {k: v.clone() for k, v in model.module.state_dict().items()}

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run behind
    monkeypatch.setattr("scmetaq.model._stages.say", lambda text: told.append(text))
    told, callbacks = [], [Interrupt()] if stage == "epochs" else []
    if stage != "epochs":
        monkeypatch.setattr(model, {"codes": "_fit_codes", "prototypes": "_finish"}[stage], stop)
    with pytest.raises(KeyboardInterrupt):
        train(model, 4, callbacks=callbacks)
    n_epochs = {"epochs": 1, "codes": 0, "prototypes": 4}[stage]
    assert told == [f"Stopped after {n_epochs} epochs: the model is as it was before train()."]
    assert "NameError" not in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert model.is_trained_ is was_trained
    assert max(map(len, (model.history_ or {}).values()), default=0) == 3 * was_trained
    after = model.module.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], of) for name, of in state.items())
    monkeypatch.undo()
    if was_trained:
        pd.testing.assert_frame_equal(model.get_assignments(), before)
    else:
        with pytest.raises(RuntimeError, match="untrained"):
            model.get_assignments()
    train(model, 2)
    assert model.get_assignments()["metacell"].nunique() == 6


def test_errors_of_training_leave_the_model_as_it_was(toy, train):
    class Fail(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise ZeroDivisionError("odd")

    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, n_metacells=6)
    with pytest.raises(ZeroDivisionError, match="odd"):
        train(model, 4, callbacks=[Fail()])
    assert not model.is_trained_
    assert model.history_ is None
    assert not model.module.codebook.fitted
