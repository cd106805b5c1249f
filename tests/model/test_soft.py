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
