import numpy as np
import pandas as pd

from scmetaq.metrics import diffusion_compactness, diffusion_map


def test_agrees_with_counting_by_numpy(cloud, of_cloud):
    components = diffusion_map(cloud).components
    found = diffusion_compactness(cloud, of_cloud)
    for metacell in range(20):
        variances = [np.var(c[of_cloud == metacell], ddof=1) for c in components.T]
        assert np.isclose(found[metacell], np.mean(variances))
    assert np.isnan(found[20])
    assert (found.name, found.index.name) == ("diffusion_compactness", "metacell")


def test_agrees_with_seacells(of_seacells):
    """``SEACells.evaluate.compactness``; NaN for the metacells of a single cell."""
    found = diffusion_compactness(of_seacells["embedding"], of_seacells["metacells"])
    np.testing.assert_allclose(found, of_seacells["compactness"], rtol=1e-4)
    assert (found > 0).sum() > 15


def test_lower_is_better(cloud, of_cloud, rng):
    space = diffusion_map(cloud)
    good, bad = (diffusion_compactness(space, a) for a in (of_cloud, rng.permutation(of_cloud)))
    assert good.mean() < 0.2 * bad.mean()


def test_a_map_computed_once_gives_the_same(cloud, of_cloud):
    pd.testing.assert_series_equal(
        diffusion_compactness(diffusion_map(cloud), of_cloud),
        diffusion_compactness(cloud, of_cloud),
    )


def test_cells_left_out_stay_in_the_map(cloud, of_cloud):
    """The space is that of all cells: dropping one metacell does not change the others."""
    without = np.where(of_cloud == 3, -1, of_cloud)
    pd.testing.assert_series_equal(
        diffusion_compactness(cloud, without), diffusion_compactness(cloud, of_cloud).drop(3)
    )
