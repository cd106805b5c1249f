import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmetaq.metrics._log_normalise import log_normalise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_numbers_are_those_of_scanpy(rng, dtype, form):
    counts = rng.poisson(1.0, (30, 8)).astype(np.float64)
    cells = AnnData(counts.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    given = form(counts)
    found = log_normalise(given, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.toarray(), cells.X, rtol=1e-5)
    np.testing.assert_array_equal(given if form is np.asarray else given.toarray(), counts)


def test_a_cell_without_counts_has_zeros(rng):
    counts = sp.csr_matrix(rng.poisson(1.0, (5, 8)) + 1.0)
    counts.data[counts.indptr[2] : counts.indptr[3]] = 0
    found = log_normalise(counts).toarray()
    assert (found[2] == 0).all()
    assert (np.delete(found, 2, 0) > 0).all()
