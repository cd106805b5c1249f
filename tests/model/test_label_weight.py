"""Labels with a weight in the grouping of cells."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from scmetaq import MetaQModel, metrics

KEY = "cell_type"
SETUP = {"labels_key": [KEY, "lineage"], "unlabeled_category": "?"}


@pytest.fixture(scope="module")
def cells(blood):
    """A third of the cells without a label; the lineage has no part in the grouping."""
    cells = blood.copy()
    cells.obs["truth"] = cells.obs[KEY].astype(str)
    hidden = np.arange(cells.n_obs) % 3 == 0
    cells.obs[KEY] = cells.obs["truth"].mask(hidden, "?")
    cells.obs["lineage"] = np.where(cells.obs["truth"].str.contains("T|NK"), "T", "other")
    return cells


@pytest.fixture(scope="module")
def free(cells, fit):
    """Labels without a part in the grouping, read only."""
    return fit(cells.copy(), 10, 1, setup=SETUP)


@pytest.fixture(scope="module")
def held(cells, fit):
    """The same with a weight, read only."""
    return fit(cells.copy(), 10, 1, setup=SETUP, label_weight=1.5)


def without_labels(cells):
    return anndata.AnnData(cells.X, obs=cells.obs[[]], var=cells.var)


def same(found, expected, *, rtol=0):
    pd.testing.assert_frame_equal(found, expected, check_exact=not rtol, rtol=rtol)


def test_types_are_held_apart_also_among_cells_without_a_label(cells, held, free):
    truth, is_given = cells.obs["truth"], (cells.obs[KEY] != "?").to_numpy()
    right = {}
    for name, model in (("held", held), ("free", free)):
        assignment = model.get_assignments()["metacell"]
        right[name] = [metrics.accuracy(assignment[of], truth[of]) for of in (is_given, ~is_given)]
    assert right["held"][0] > 0.97
    assert right["free"][0] < 0.9
    assert right["held"][1] > right["free"][1] + 0.02
    new = held.get_assignments(without_labels(cells))["metacell"]
    old = free.get_assignments(without_labels(cells))["metacell"]
    assert metrics.accuracy(new, truth) > metrics.accuracy(old, truth) + 0.02


def test_the_weight_is_a_multiple_of_the_distance_of_two_cells_of_a_label(cells, held, free):
    z, learnt = held.get_latent_representation(), free.get_latent_representation()
    names = sorted(set(cells.obs[KEY]) - {"?"})
    np.testing.assert_array_equal(z[:, : -len(names)], learnt)
    given, labels = cells.obs[KEY].to_numpy(), z[:, -len(names) :]
    own = np.array([names.index(of) if of in names else -1 for of in given])
    added = ((labels[own == 0][0] - labels[own == 1][0]) ** 2).sum()
    shared = [k for k in range(len(names)) if (own == k).sum() > 1]
    within = [2 * learnt[own == k].var(0, ddof=1).sum() for k in shared]
    weight = [np.sqrt((own == k).sum() - 1) for k in shared]  # frequent labels do not decide alone
    assert added == pytest.approx(1.5 * np.average(within, weights=weight), rel=1e-3)
    assert (labels[own == 0] == labels[own == 0][0]).all()
    share = labels[own < 0] / np.sqrt(added / 2)
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-4)
    state = held._prototypes[KEY].state
    white = (learnt[own < 0][:, None] - state.means.numpy()) @ state.whitening.numpy()
    distance = (white.astype(float) ** 2).sum(2)
    assert (share.argmax(1) == distance.argmin(1)).mean() > 0.9


def test_cells_are_grouped_by_their_own_counts_and_label_alone(cells, held):
    everything = held.get_assignments()
    same(held.get_assignments(cells.copy()), everything)
    same(held.get_assignments(cells[[7]].copy()), everything.iloc[[7]], rtol=1e-6)  # of margins
    bare = held.get_assignments(without_labels(cells))
    hidden = (cells.obs[KEY] == "?").to_numpy()
    same(bare[hidden], everything[hidden])
    same(held.get_assignments(without_labels(cells[[7]])), bare.iloc[[7]], rtol=1e-6)
    other = cells.copy()
    other.obs[KEY] = "a type that the model does not know"
    same(held.get_assignments(other), bare)
    truth = cells.obs["truth"].astype(str)
    other.obs[KEY] = "Memory CD4 T"  # a wrong label has the weight of a right one
    wrong = held.get_assignments(other)["metacell"]
    of_memory = truth.groupby(everything["metacell"]).agg(lambda of: of.mode()[0]) == "Memory CD4 T"
    drawn = [of[truth == "Naive CD4 T"].map(of_memory).mean() for of in (bare["metacell"], wrong)]
    assert drawn[1] > 0.6 > 0.4 > drawn[0]


def test_predicted_labels_are_those_of_the_latent_without_labels(cells, held, free):
    same(held.predict_labels(), free.predict_labels())
    assert held.get_prototypes().shape[1] == free.get_latent_representation().shape[1]
    kinds = held.get_prototypes(cells.copy()).obs["kind"]
    assert set(kinds) == {"label", "landmark"}


def test_new_types_change_no_assignment(cells, fit):
    model = fit(cells.copy(), 10, 1, setup=SETUP, label_weight=1)
    before = model.get_assignments(without_labels(cells))
    query = cells[:40].copy()
    query.obs[KEY] = "A new type"
    model.add_labels(query, KEY)
    same(model.get_assignments(without_labels(cells)), before)
    assert "A new type" in set(model.get_prototypes().obs["label"])


def test_cuts_are_nested_and_merge_types_last(cells, held, free):
    fine = held.get_assignments()["metacell"]
    given = cells.obs[KEY][cells.obs[KEY] != "?"]
    right = []
    for model in (held, free):
        coarse = model.get_assignments(n_metacells=6)["metacell"]
        right.append(metrics.accuracy(coarse[given.index], given))
    coarse = held.get_assignments(n_metacells=6)["metacell"]
    assert (pd.crosstab(fine, coarse) > 0).sum(1).eq(1).all()
    assert right[0] > right[1]


def test_codes_have_dimensions_for_labels_and_reports_margins_and_weights_follow(cells, held):
    codes = held.get_codebook().drop(columns="usage")
    z = held.get_latent_representation()
    assert codes.shape[1] == z.shape[1]
    distance = ((z[:, None] - codes.to_numpy()) ** 2).sum(2)
    found = held.get_assignments()
    assert (np.array(held.metacell_names)[distance.argmin(1)] == found["metacell"]).all()
    nearest = np.sort(distance, 1)
    np.testing.assert_allclose(found["margin"], nearest[:, 1] - nearest[:, 0], atol=1e-4)
    weights = held.get_soft_assignments()
    assert (np.asarray(weights.argmax(1)).ravel() == distance.argmin(1)).all()
    report = held.get_quantization_report()
    assert 0.9 < report["reconstruction_ratio"] < 1.02
    assert report["n_empty"] == 0
    assert held.get_metacells().uns["metaq"]["settings"]["label_weight"] == 1.5


def test_saved_loaded_and_on_disk(cells, held, tmp_path):
    held.save(tmp_path / "model")
    expected = held.get_assignments()
    loaded = MetaQModel.load(tmp_path / "model", cells.copy(), accelerator="cpu")
    same(loaded.get_assignments(), expected)
    alone = MetaQModel.load(tmp_path / "model", False, accelerator="cpu")
    same(alone.get_assignments(cells.copy()), expected)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    same(held.get_assignments(anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")), expected)


def test_training_on_disk_again_and_with_many_cells(cells, fit, train, held, monkeypatch, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    on_disk = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    model = fit(on_disk, 10, 1, setup=SETUP, label_weight=1.5)
    same(model.get_assignments(), held.get_assignments())
    train(model, 1)
    assert metrics.accuracy(model.get_assignments()["metacell"], cells.obs["truth"]) > 0.9
    monkeypatch.setattr("scmetaq.model._metaq.MAX_REFERENCE_CELLS", 200)
    model = fit(cells.copy(), 10, 1, setup=SETUP, label_weight=1.5)
    given = (cells.obs[KEY] != "?").to_numpy()
    assignment = model.get_assignments()["metacell"]
    assert metrics.accuracy(assignment[given], cells.obs[KEY][given]) > 0.95


def test_a_query_is_grouped_by_the_posterior_of_its_reference(cells, fit, train):
    cells = cells.copy()
    third = np.arange(cells.n_obs) // 7 % 3
    cells.obs["batch"] = np.array(["x", "y", "z"])[third]
    setup = SETUP | {"batch_key": "batch"}
    reference = fit(cells[third < 2].copy(), 8, 1, setup=setup, label_weight=1)
    query = cells[third == 2].copy()
    del query.obs[KEY]
    model = train(MetaQModel.load_query_data(query, reference), 1)
    known, found = reference.module.state_dict(), model.module.state_dict()
    frozen = ("codebook", "prototypes", "label_scale")
    assert all(torch.equal(found[k], known[k]) for k in known if k.startswith(frozen))
    same(model.get_assignments(cells[third < 2].copy()), reference.get_assignments())
    truth = cells.obs["truth"]
    assert metrics.accuracy(model.get_assignments()["metacell"], truth[query.obs_names]) > 0.8
    assert isinstance(model.add_metacells(), list)


def test_mosaic_cells_and_embeddings(fit, mosaic, cells):
    mosaic.obs["state"] = mosaic.obs["state"].astype(str).mask(np.arange(150) % 2 == 0, None)
    setup = {"labels_key": "state"}
    model = fit(mosaic, setup=setup, label_weight=2)
    truth = pd.Series(np.repeat(["a", "b", "c"], 50), mosaic.obs_names)
    assert metrics.accuracy(model.get_assignments()["metacell"], truth) == 1
    own = cells.copy()
    own.obsm["X_own"] = np.random.default_rng(0).normal(size=(400, 5))  # knows no types
    model = fit(own, 12, 1, setup=SETUP | {"use_rep": "X_own"}, label_weight=20)
    given = (cells.obs[KEY] != "?").to_numpy()
    assert metrics.accuracy(model.get_assignments()["metacell"][given], own.obs[KEY][given]) > 0.9


@pytest.mark.parametrize(
    ("setup", "options", "message"),
    [
        ({}, {"label_weight": 1}, "Expected labels for label_weight, found none"),
        (SETUP, {"label_weight": -1}, "label_weight to be a number of at least zero, found -1"),
        (SETUP, {"label_weight": np.inf}, "at least zero, found inf"),
        (SETUP, {"label_weight": "much"}, "at least zero, found 'much'"),
        (SETUP, {"label_weight": 1, "recipe": "published"}, "default recipe with Euclidean"),
        (SETUP, {"label_weight": 1, "distance": "cosine"}, "default recipe with Euclidean"),
    ],
)
def test_what_has_no_meaning_is_refused(cells, setup, options, message):
    adata = cells.copy()
    MetaQModel.setup_anndata(adata, **setup)
    with pytest.raises(ValueError, match=message):
        MetaQModel(adata, 10, **options)


def test_labels_that_change_after_set_up_are_refused(cells, train):
    adata = cells.copy()
    MetaQModel.setup_anndata(adata, **SETUP)
    model = MetaQModel(adata, 10, label_weight=1)
    adata.obs[KEY] = adata.obs["truth"].astype(str).replace("B", "b")
    with pytest.raises(ValueError, match="labels in obs.*set up with, found others.*Register"):
        train(model, 1)
