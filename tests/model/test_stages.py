"""Stages of training that a caller keeps, and training that goes on after them."""

import io

import numpy as np
import pytest
import scvi
import torch

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
