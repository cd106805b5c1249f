import numpy as np
import scipy.sparse as sp

from scmetaq.data._factors import fit_factors


def test_it_is_the_least_squares_regression_on_scores(rng):
    values = sp.random(200, 12, 0.4, "csr", random_state=0)
    scores = np.linalg.qr(rng.normal(size=(200, 3)))[0] * [5, 3, 1] + [1, 0, -2]
    found = fit_factors(values, scores)
    dense = values.toarray()
    centred = scores - scores.mean(0)
    loadings, rest, *_ = np.linalg.lstsq(centred, dense - dense.mean(0), rcond=None)
    np.testing.assert_allclose(found.mean, dense.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.loadings, loadings, atol=1e-4)
    np.testing.assert_allclose(found.noise, np.maximum(rest / 200, 1e-4), rtol=1e-3)
    np.testing.assert_allclose(found.prior, centred.var(0), rtol=1e-5)


def test_constant_features_and_empty_axes(rng):
    values = sp.csr_matrix(np.hstack([np.zeros((20, 2)), rng.poisson(2.0, (20, 3))]))
    found = fit_factors(values, np.hstack([rng.normal(size=(20, 1)), np.zeros((20, 2))]))
    assert all(np.isfinite(part).all() for part in found)
    assert (found.noise > 0).all()
    assert (found.prior > 0).all()
    assert not found.loadings[:, :2].any()
