import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from scmetaq.tl._log_counts import log_counts


def test_agrees_with_scanpy():
    counts = np.random.default_rng(0).poisson(2.0, (30, 8)).astype(np.float32)
    adata = AnnData(sparse.csr_matrix(counts), layers={"raw": counts})
    log = sc.pp.normalize_total(adata, target_sum=1e4, copy=True)
    sc.pp.log1p(log)
    for layer in (None, "raw"):
        np.testing.assert_allclose(log_counts(adata, layer).toarray(), log.X.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(adata.X.toarray(), counts)


def test_bad_counts_are_named():
    adata = AnnData(np.array([[1.0, -1.0]]))
    with pytest.raises(ValueError, match="raw counts in `X`, found negative"):
        log_counts(adata, None)
    with pytest.raises(KeyError, match="found no 'raw'"):
        log_counts(adata, "raw")


def test_fractions_are_told_of():
    adata = AnnData(np.array([[1.0, 0.5]]))
    with pytest.warns(UserWarning, match="raw counts in `X`, found fractions.* name `basis` with"):
        log_counts(adata, None, otherwise="`basis`")
