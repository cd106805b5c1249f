import numpy as np
import scanpy as sc
from anndata import AnnData

from scmetaq.data._reference import size_factor
from scmetaq.data._scaling import fit_scaling


def test_scaling_is_that_of_scanpys_log_counts(blood):
    features = np.arange(3, 400, 7)
    found = fit_scaling(blood.X, features)
    cells = AnnData(blood.X.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    log = cells.X[:, features].toarray()
    np.testing.assert_allclose(found.mean, log.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.scale, np.maximum(log.std(0), 1e-6), rtol=1e-3, atol=1e-6)
    total = blood.X[:, features].toarray().sum(0)
    np.testing.assert_allclose(found.mean_rate * size_factor(blood.X).sum(), total, rtol=1e-4)
