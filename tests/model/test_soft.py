"""Soft assignments, representative cells, and cells left out of metacells."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scmetaq
from scmetaq.model._soft import SHARPNESS, outliers


def test_soft_assignments_are_weights_of_the_nearest_metacells(model, assignments):
    weights = model.get_soft_assignments()
    assert sparse.isspmatrix_csr(weights)
    assert weights.shape == (400, model.n_metacells)
    assert (np.diff(weights.indptr) == 5).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    best = np.array(model.metacell_names)[np.asarray(weights.argmax(1)).ravel()]
    np.testing.assert_array_equal(best, assignments["metacell"])


def test_soft_assignments_follow_their_equation(model, assignments):
    z, codebook = model.get_latent_representation(), model.module.codebook
    codes, typical = (of.detach().numpy() for of in (codebook.codes, codebook.typical_distance))
    distance = ((z[:, None] - codes) ** 2).sum(2)
    own = distance.argmin(1)
    expected = np.exp(-SHARPNESS * (distance - distance.min(1)[:, None]) / typical[own, None] ** 2)
    expected /= expected.sum(1, keepdims=True)
    found = model.get_soft_assignments(n_neighbors=100).toarray()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_soft_assignments_of_some_cells_are_those_of_all(model, again):
    everything = model.get_soft_assignments()
    some = model.get_soft_assignments(indices=[7, 3])
    np.testing.assert_array_equal(some.toarray(), everything[[7, 3]].toarray())
    new = model.get_soft_assignments(again(index=slice(10, 20)))
    np.testing.assert_allclose(new.toarray(), everything[10:20].toarray(), atol=1e-4)


def test_weights_are_shares_that_other_counts_of_the_cells_would_give(blood):
    rng, counts = np.random.default_rng(0), blood.X.toarray().astype(int)
    half = rng.binomial(counts, 0.5)
    model = trained(blood.copy(), 8)
    kept = (half.sum(1) > 20) & ((counts - half).sum(1) > 20)
    halves = []
    for of in (half, counts - half):
        cells = blood[kept].copy()
        cells.X = sparse.csr_matrix(of[kept].astype(np.float32))
        halves.append(cells)
    share = (
        model.get_assignments(halves[0])["metacell"].to_numpy()
        == model.get_assignments(halves[1])["metacell"].to_numpy()
    ).mean()
    weight = model.get_soft_assignments(halves[0]).max(1).toarray().mean()
    assert weight == pytest.approx(share, abs=0.12)


def test_a_representative_cell_is_the_nearest_of_its_metacell(model, assignments):
    found = model.get_representative_cells()
    assert found.index.tolist() == model.metacell_names
    assert (assignments["metacell"].loc[found] == found.index).all()
    z, codes = model.get_latent_representation(), model.module.codebook.codes.detach().numpy()
    place = {name: i for i, name in enumerate(model.metacell_names)}
    distance = pd.Series(
        [
            np.linalg.norm(row - codes[place[m]])
            for row, m in zip(z, assignments["metacell"], strict=True)
        ],
        assignments.index,
    )
    nearest = distance.groupby(assignments["metacell"].to_numpy()).min()
    np.testing.assert_allclose(distance.loc[found], nearest.loc[found.index], atol=1e-5)


def test_representatives_of_few_cells_leave_out_metacells_without_any(model, again):
    found = model.get_representative_cells(again(index=slice(0, 3)))
    assert 1 <= len(found) <= 3


def trained(adata, n_metacells=None, setup=None, **kwargs):
    scmetaq.MetaQModel.setup_anndata(adata, **(setup or {}))
    model = scmetaq.MetaQModel(adata, n_metacells, **kwargs)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model


def test_outliers_are_left_out_of_metacells(model, assignments):
    scores = model.get_outlier_scores()
    metacells = model.get_metacells(drop_outliers=0.1)
    assert metacells.obs["n_cells"].sum() == 360
    assert metacells.uns["metaq"]["n_cells_left_out"] == 40
    kept = scores.rank(method="first") <= 360
    counts = model.adata.X[kept.to_numpy()].sum()
    assert metacells.layers["counts"].sum() == pytest.approx(counts)
    assert model.get_metacells(drop_outliers=True).obs["n_cells"].sum() > 390
    with pytest.raises(ValueError, match="drop_outliers between 0 and 1, but not 1"):
        model.get_metacells(drop_outliers=1.0)


def test_each_metacell_keeps_its_most_typical_cell_and_far_cells_are_outliers():
    scores = pd.Series([1.0, 1.1, 0.9, 1.0, 50.0, 60.0], [f"c{i}" for i in range(6)])
    metacell = pd.Series(["a", "a", "a", "a", "a", "b"], scores.index)
    assert outliers(scores, metacell, True).tolist() == [False] * 4 + [True, False]
    assert outliers(scores, metacell, 0.9).tolist() == [True, True, False, True, True, False]
    assert not outliers(scores, metacell, 0.0).any()


def test_further_layers_are_summed(model, blood):
    adata = model.adata.copy()
    adata.layers["twice"] = adata.X * 2
    found = model.get_metacells(adata, layers=["twice"])
    np.testing.assert_allclose(
        found.layers["twice"].toarray(), 2 * found.layers["counts"].toarray(), rtol=1e-6
    )
    with pytest.raises(KeyError, match="found no 'thrice'"):
        model.get_metacells(adata, layers=["thrice"])


def weighted(model, adata=None, n_metacells=None):
    """Sums of counts by plain numpy, and the weights."""
    weights = model.get_soft_assignments(adata).toarray().astype(float)
    counts = (model.adata if adata is None else adata).X.toarray().astype(float)
    return weights.T @ counts, weights.sum(0)


def test_soft_metacells_are_means_of_cells_by_their_weights(model):
    sums, weight = weighted(model)
    found, plain = model.get_metacells(soft=True), model.get_metacells()
    assert found.obs_names.tolist() == model.metacell_names
    np.testing.assert_allclose(found.layers["counts"].toarray(), sums, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.X.toarray(), sums / weight[:, None], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.obs["weight"], weight, rtol=1e-6)
    assert found.obs["weight"].sum() == pytest.approx(400)
    assert found.layers["counts"].sum() == pytest.approx(model.adata.X.sum())
    pd.testing.assert_frame_equal(found.obs.drop(columns="weight"), plain.obs)
    assert abs(found.X - plain.X).max() > 0.1
    assert found.uns["metaq"]["settings"]["soft"]
    assert "weight" not in plain.obs


def test_soft_metacells_of_cuts_outliers_some_cells_and_layers(model, again):
    sums, weight = weighted(model)
    coarse = model.get_assignments(n_metacells=4)["metacell"]
    of_code = coarse.groupby(model.get_assignments()["metacell"]).first()[model.metacell_names]
    by = pd.get_dummies(of_code).to_numpy(float)
    found = model.get_metacells(n_metacells=4, soft=True)
    np.testing.assert_allclose(found.layers["counts"].toarray(), by.T @ sums, rtol=1e-5, atol=1e-9)
    some = model.get_metacells(indices=[7, 3, 7], soft=True)
    expected, weight = weighted(model, again(index=[3, 7]))
    used = pd.Index(model.metacell_names).get_indexer(some.obs_names)
    np.testing.assert_allclose(some.layers["counts"].toarray(), expected[used], atol=1e-3)
    np.testing.assert_allclose(some.obs["weight"], weight[used], atol=1e-4)
    found = model.get_metacells(drop_outliers=0.1, soft=True)
    assert found.obs["weight"].sum() == pytest.approx(360)
    found = model.get_metacells(soft=True, layers=["log1p_mean"])
    X, weights = model.adata.X.toarray(), model.get_soft_assignments().toarray()
    logs = np.log1p(X / X.sum(1, keepdims=True) * 1e4)
    expected = weights.T @ logs / weights.sum(0)[:, None]
    np.testing.assert_allclose(found.layers["log1p_mean"].toarray(), expected, rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match="soft=True without within"):
        model.get_metacells(soft=True, within="cell_type")


def test_soft_metacells_of_several_modalities_on_disk(fit, mosaic, tmp_path):
    model = fit(mosaic)
    found = model.get_metacells(soft=True)
    weights = pd.DataFrame(model.get_soft_assignments().toarray(), mosaic.obs_names)
    for kind in ("rna", "adt"):
        part = mosaic[kind]
        of_part = weights.loc[part.obs_names].to_numpy(float)
        kept = [model.metacell_names.index(name) for name in found[kind].obs_names]
        sums = (of_part.T @ part.X.toarray())[kept]
        np.testing.assert_allclose(
            found[kind].layers["counts"].toarray(), sums, rtol=1e-4, atol=1e-9
        )
        np.testing.assert_allclose(found[kind].obs["weight"], of_part.sum(0)[kept], rtol=1e-4)
    assert found.obs["weight"].sum() == pytest.approx(150)
