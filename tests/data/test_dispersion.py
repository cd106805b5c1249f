import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from scmetaq.data._dispersion import normalised_dispersion


def test_dispersions_are_those_of_scanpy(rng):
    scaled = rng.poisson(rng.gamma(0.5, 2.0, size=200), size=(80, 200)).astype(float)
    scaled[:, :3] = 0
    scaled[:, 3] *= 1e3  # alone among features of like mean
    cells = AnnData(sparse.csr_matrix(np.log1p(scaled)), uns={"log1p": {}})
    genes = sc.pp.highly_variable_genes(cells, n_top_genes=10, inplace=False)
    expected = genes["dispersions_norm"].fillna(-np.inf)
    found = normalised_dispersion(scaled.mean(0), (scaled**2).mean(0), 80)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found[3] == pytest.approx(1)
