import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import diffusion_map, diffusion_separation


def test_agrees_with_all_pairs_of_means(cloud, of_cloud):
    components = diffusion_map(cloud).components
    means = np.array([components[of_cloud == m].mean(axis=0) for m in range(21)])
    distance = np.linalg.norm(means[:, None] - means[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    found = diffusion_separation(cloud, of_cloud)
    np.testing.assert_allclose(found, distance.min(axis=1), rtol=1e-9)
    assert (found.name, found.index.name) == ("diffusion_separation", "metacell")


def test_agrees_with_seacells(of_seacells):
    """``SEACells.evaluate.separation``."""
    found = diffusion_separation(of_seacells["embedding"], of_seacells["metacells"])
    np.testing.assert_allclose(found, of_seacells["separation"], rtol=1e-4)


def test_higher_is_better(cloud, of_cloud, rng):
    space = diffusion_map(cloud)
    good, bad = (diffusion_separation(space, a) for a in (of_cloud, rng.permutation(of_cloud)))
    assert good.drop(20).median() > 2 * bad.drop(20).median()


def test_names_do_not_matter(cloud, of_cloud):
    names = pd.Series(of_cloud).map(lambda m: f"mc{m:02d}")
    expected = diffusion_separation(cloud, of_cloud)
    np.testing.assert_allclose(diffusion_separation(cloud, names), expected)


def test_cells_left_out_are_no_neighbours(cloud, of_cloud):
    without = np.where(of_cloud % 2 == 1, -1, of_cloud)
    found = diffusion_separation(cloud, without)
    assert (found >= diffusion_separation(cloud, of_cloud)[found.index]).all()


def test_one_metacell_has_nothing_to_be_apart_from(cloud):
    with pytest.raises(ValueError, match=r"at least two metacells, found only \['all'\]"):
        diffusion_separation(cloud, ["all"] * 300)


def test_metacells_in_a_small_piece_have_no_neighbour(cloud, of_cloud):
    apart = np.concatenate([cloud, cloud[:40] + 1e3])
    assignment = np.concatenate([of_cloud, np.arange(40) // 20 + 30])
    with pytest.warns(UserWarning, match="without 40 of 340"):
        found = diffusion_separation(apart, assignment)
    assert found.index[found.isna()].tolist() == [30, 31]
    np.testing.assert_allclose(found[:21], diffusion_separation(cloud, of_cloud), rtol=1e-4)
