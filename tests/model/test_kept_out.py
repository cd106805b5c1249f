"""How much nearer to prototypes cells are that the latent was not fitted to."""

import numpy as np
import pandas as pd
import pytest
import torch

import scmetaq
from scmetaq import MetaQModel
from scmetaq.model import _kept_out, _reference_fit

KEY = "cell_type"


@pytest.fixture(scope="module")
def cells():
    """Demo cells with their 1,000 most frequent genes, a fifth of them without a label."""
    cells = scmetaq.data.demo()
    frequent = np.argsort(-np.asarray(cells.X.sum(0)).ravel(), kind="stable")[:1000]
    cells = cells[:, np.sort(frequent)].copy()
    is_hidden = np.random.default_rng(0).random(cells.n_obs) < 0.2
    cells.obs[KEY] = cells.obs[KEY].astype(str).where(~is_hidden, None)
    return cells


@pytest.fixture(scope="module")
def half(cells, fit):
    """Trained on every other cell."""
    return fit(cells[::2].copy(), 20, 6, setup={"labels_key": KEY})


def test_new_cells_and_own_ones_are_as_uncertain(half, cells):
    own = half.predict_labels()[f"{KEY}_uncertainty"][half.adata.obs[KEY].isna()]
    new = half.predict_labels(cells[1::2].copy())[f"{KEY}_uncertainty"]
    for uncertainty in (own, new):
        assert 0.3 < uncertainty.median() < 0.7
        assert (uncertainty > 0.99).mean() < 0.04
    assert (new > 0.9).mean() > 0.04
    assert 0.2 < half._prototypes[KEY].new_cells < 0.9


def test_cells_as_if_they_were_new_lie_nearer_to_each_other(half):
    """What is read of cells that the axes were fitted without, in the model's own axes."""
    reference = np.arange(half.adata.n_obs)
    is_out = reference % 5 == 0
    z, as_new = half._latents_if_new(reference, is_out)
    np.testing.assert_array_equal(z, half.get_latent_representation())
    states = half.module.state_dimensions
    own, new = z[is_out][:, states], as_new[:, states]
    assert np.corrcoef(own.ravel(), new.ravel())[0, 1] > 0.9
    truth = pd.Series(np.arange(is_out.sum())).groupby(half.adata.obs[KEY].to_numpy()[is_out])
    within = [[of[rows].var(0).sum() for rows in truth.groups.values()] for of in (own, new)]
    assert np.mean(within[1]) < 0.95 * np.mean(within[0])


def test_own_cells_are_known_by_their_counts(half):
    """Whatever they are called, and whichever come with them."""
    found = half.predict_labels()
    renamed = half.adata[::-7].copy()
    renamed.obs_names = [f"other{i}" for i in range(renamed.n_obs)]
    again = half.predict_labels(renamed)
    np.testing.assert_array_equal(again, found.iloc[::-7])


def test_labels_change_nothing_else(half, fit):
    without = fit(half.adata.copy(), 20, 6)
    np.testing.assert_array_equal(without.get_assignments(), half.get_assignments())
    state = half.module.state_dict()
    for name, values in without.module.state_dict().items():
        assert name.startswith("seen_cells") or torch.equal(values, state[name])


def test_beyond_the_reference_sample_it_is_told_from_the_other_cells(cells, fit, monkeypatch):
    monkeypatch.setattr(_reference_fit, "MAX_REFERENCE_CELLS", 500)
    monkeypatch.setattr(_reference_fit, "_CELLS_PER_CODE", 1)
    monkeypatch.setattr(_kept_out.KeptOutMixin, "_latents_if_new", None)
    model = fit(cells.copy(), 20, 6, setup={"labels_key": KEY})
    is_new = model._is_new(model._cells(model.adata_manager)).numpy()
    assert len(model.module.seen_cells) == (~is_new).sum() == 500
    assert 0.1 < model._prototypes[KEY].new_cells < 0.8
    uncertainty = model.predict_labels()[f"{KEY}_uncertainty"]
    is_hidden = cells.obs[KEY].isna()
    for some in (uncertainty[is_hidden & is_new], uncertainty[is_hidden & ~is_new]):
        assert some.median() == pytest.approx(0.5, abs=0.15)


def test_the_published_recipe_has_no_axes(toy, fit):
    model = fit(toy, 6, 2, recipe="published", setup={"labels_key": "state"})
    assert model._prototypes["state"].new_cells == 1
    assert len(model.module.seen_cells) == 0


@pytest.mark.parametrize(
    ("n_labelled", "n_out"), [(0, 0), (3, 0), (8, 2), (200, 50), (400, 50), (900, 90)]
)
def test_how_many_are_kept_out(n_labelled, n_out):
    is_labelled = np.zeros(1000, bool)
    is_labelled[50 : 50 + n_labelled] = True
    is_out = _kept_out._kept_out(is_labelled)
    assert is_out.sum() == n_out
    assert not (is_out & ~is_labelled).any()


@pytest.mark.parametrize("labels", [["a", "a"], ["a", "a", "b"], ["a"] * 8])
def test_few_labels_are_enough_to_go_on(toy, fit, labels):
    toy.obs["few"] = pd.Series([*labels, *[None] * (150 - len(labels))], toy.obs_names)
    found = fit(toy, 6, 2, setup={"labels_key": "few"}).predict_labels()
    assert found["few_uncertainty"].between(0, 1).all()


def test_of_several_modalities_and_keys(mosaic, fit, tmp_path):
    state = mosaic.obs["state"].astype(str)
    mosaic.obs["coarse"] = state.replace({"b": "a"}).where(np.arange(len(state)) % 2 == 0, None)
    model = fit(mosaic, 6, 5, setup={"labels_key": ["state", "coarse"]})
    ratios = [float(of_key.new_cells) for of_key in model._prototypes.values()]
    assert all(0.1 <= ratio <= 1 for ratio in ratios)
    found = model.predict_labels()
    model.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", mosaic.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.predict_labels(), found, check_exact=True)
