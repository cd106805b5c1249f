import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from scmetaq.tl import weighted_pca


@pytest.fixture
def metacells(rng):
    obs = pd.DataFrame({"n_cells": rng.integers(1, 60, 40)}, index=[f"mc{i}" for i in range(40)])
    return AnnData(rng.normal(2, 1, (40, 15)) @ rng.normal(size=(15, 15)), obs)


def test_components_are_those_of_cells_in_the_place_of_their_metacells(metacells):
    before = metacells.X.copy()
    scores, axes = weighted_pca(metacells, 5)
    n_cells = metacells.obs["n_cells"].to_numpy()
    pca = PCA(5, svd_solver="full").fit(np.repeat(metacells.X, n_cells, axis=0))
    sign = np.sign((pca.components_ * axes).sum(1))
    np.testing.assert_allclose(axes * sign[:, None], pca.components_, atol=1e-9)
    np.testing.assert_allclose(scores * sign, pca.transform(metacells.X), atol=1e-8)
    variance = np.average(scores**2, axis=0, weights=n_cells) * n_cells.sum() / (n_cells.sum() - 1)
    np.testing.assert_allclose(variance, pca.explained_variance_)
    np.testing.assert_array_equal(metacells.X, before)
    without = PCA(5, svd_solver="full").fit(metacells.X).components_
    assert np.abs((without * axes).sum(1)).min() < 0.99


def test_sparse_values_do_as_dense_ones_and_weights_may_be_given(metacells):
    expected = weighted_pca(metacells, 3)
    weights = metacells.obs.pop("n_cells")
    metacells.X = sparse.csr_matrix(metacells.X)
    for given in (weights[::-1], weights.to_numpy(), 2.5 * weights):
        found = weighted_pca(metacells, 3, weights=given)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_what_cannot_be_used_is_named(metacells):
    metacells.obs["text"], metacells.obs["none"] = "large", 0
    for options, error, message in (
        ({"n_components": 15}, ValueError, "n_components to be at most 14, found 15"),
        ({"n_components": 0}, ValueError, "n_components to be at least 1"),
        ({"weights": "size"}, KeyError, "`weights` to name a column of `obs`, found no 'size'"),
        ({"weights": "text"}, ValueError, "numbers above 0 as `weights`, found \\['large'"),
        ({"weights": "none"}, ValueError, r"found \[0, 0, 0\], ... Pass the number of cells"),
        ({"weights": np.ones(3)}, ValueError, "`weights` of shape"),
    ):
        with pytest.raises(error, match=message):
            weighted_pca(metacells, **({"n_components": 3} | options))
    metacells.X[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite numbers"):
        weighted_pca(metacells, 3)
    with pytest.raises(TypeError, match="`metacells` as an AnnData, found ndarray"):
        weighted_pca(metacells.X)
