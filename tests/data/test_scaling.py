import numpy as np
from scipy import sparse

from scmetaq.data._scaling import fit_scaling


def test_scaling_is_that_of_log_counts_per_10k():
    counts = np.random.default_rng(0).poisson(0.7, (50, 40)).astype(np.float32)
    features = np.arange(3, 40, 5)
    found = fit_scaling(sparse.csr_matrix(counts), features)
    total = counts.sum(1, keepdims=True)
    log = np.log1p(counts / total * 1e4)[:, features]
    np.testing.assert_allclose(found.mean, log.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.scale, log.std(0), rtol=1e-3)
    rate = counts.sum(0) / (total.sum() / 1e4)
    np.testing.assert_allclose(found.rate, rate, rtol=1e-4)


def test_a_feature_that_does_not_vary_has_a_scale():
    found = fit_scaling(sparse.csr_matrix(np.eye(3, 4, dtype=np.float32)), np.array([3]))
    assert found.scale[0] > 0
