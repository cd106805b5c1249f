import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import pearsonr

from scmetaq.tl import feature_association


@pytest.fixture
def cells(samples):
    """480 cells of 23 of the 24 samples; the first gene is induced by the treatment."""
    rng = np.random.default_rng(1)
    of_cell = rng.integers(0, 23, 480)
    rate = np.full((480, 12), 3.0)
    rate[:, 0] += 6 * (samples.obs["stim"] == "stim").to_numpy()[of_cell]
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 11] = 0
    obs = pd.DataFrame(
        {"sample": samples.obs_names.to_numpy()[of_cell]}, index=[f"c{i}" for i in range(480)]
    )
    obs.iloc[:3, 0] = None
    var = pd.DataFrame(index=[f"gene{i}" for i in range(12)])
    return AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


def test_agrees_with_pearson_of_means(cells, samples):
    found = feature_association(cells, samples, "sample")
    log = cells.copy()
    sc.pp.normalize_total(log, target_sum=1e4)
    sc.pp.log1p(log)
    means = log.to_df().groupby(cells.obs["sample"]).mean()
    components = pd.DataFrame(samples.obsm["X_pca"], samples.obs_names).loc[means.index]
    for row in found.dropna(subset="r").itertuples():
        expected = pearsonr(means[row.feature], components[int(row.component[2:]) - 1])
        np.testing.assert_allclose([row.r, row.pvalue], expected, rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(row.mean, means[row.feature].mean(), rtol=1e-5)


def test_sorted_by_component_and_strength(cells, samples):
    found = feature_association(cells, samples, "sample")
    assert found["component"].tolist() == sorted(found["component"])
    first = found[found["component"] == "PC1"]
    assert first["feature"].iloc[0] == "gene0"
    assert first["r"].iloc[0] > 0.8
    assert first["r"].abs().dropna().is_monotonic_decreasing
    assert first["feature"].iloc[-1] == "gene11"
    assert np.isnan(first["r"].iloc[-1])


def test_counts_of_a_layer(cells, samples):
    expected = feature_association(cells, samples, "sample")
    cells.layers["raw"] = cells.X
    cells.X = sparse.csr_matrix(cells.shape, dtype=np.float32)
    found = feature_association(cells, samples, "sample", layer="raw")
    pd.testing.assert_frame_equal(found, expected)


def test_bad_input_is_named(cells, samples):
    cells.obs["other"] = "x"
    with pytest.raises(ValueError, match="at least three of the 24 samples in 'other'.*of 0"):
        feature_association(cells, samples, "other")
    with pytest.raises(KeyError, match="`by` to name a column.*found no 'donor'"):
        feature_association(cells, samples, "donor")
    with pytest.raises(KeyError, match="found no 'raw'"):
        feature_association(cells, samples, "sample", layer="raw")
    with pytest.raises(TypeError, match="`adata` as an AnnData, found str"):
        feature_association("cells", samples, "sample")
