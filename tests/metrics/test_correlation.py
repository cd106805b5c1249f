import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics import _block_correlation as kernel
from scmetaq.metrics import compactness, separation
from scmetaq.metrics._correlation import _sample


def compact_by_pairs(X, assignment):
    """Eq. 23 over all pairs, weighted by |M| K / N."""
    correlation = np.corrcoef(X)
    names = np.unique(assignment)
    weight = len(names) / len(assignment)
    inside = [correlation[np.ix_(assignment == m, assignment == m)] for m in names]
    return np.array([block.sum() / len(block) * weight for block in inside])


def separate_by_pairs(X, assignment):
    """Eq. 24 over all pairs, weighted by |M| K / N."""
    distance = 1 - np.corrcoef(X)
    distance[assignment[:, None] == assignment[None, :]] = np.inf
    nearest = pd.Series(distance.min(axis=1)).groupby(assignment)
    return nearest.sum() * len(nearest) / len(assignment)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("block_size", [2048, 90, 32, 7])
def test_both_agree_with_all_pairs(expression, assignment, make, block_size):
    found = compactness(make(expression), assignment, block_size=block_size)
    np.testing.assert_allclose(found, compact_by_pairs(expression, assignment), rtol=1e-10)
    found = separation(make(expression), assignment, block_size=block_size)
    np.testing.assert_allclose(found, separate_by_pairs(expression, assignment), atol=1e-5)


def test_identical_cells_are_compact_and_opposite_ones_apart(rng):
    sizes = [1, 2, 3, 4, 5]
    cells = np.repeat(rng.normal(size=(5, 20)), sizes, axis=0)
    assert compactness(cells, np.repeat(range(5), sizes)).mean() == pytest.approx(1)
    # Two opposite cells: the zeros that pad a block must not be their nearest neighbours
    opposite, assignment = np.array([[0.0, 1, 2], [2, 1, 0], [2.1, 1, 0]]), np.array([0, 1, 1])
    found = separation(opposite, assignment, block_size=2)
    np.testing.assert_allclose(found, separate_by_pairs(opposite, assignment), atol=1e-6)
    assert found[0] > 1


def test_blocks_share_one_compilation_and_one_metacell_has_no_neighbour(expression, assignment):
    jax.clear_caches()
    separation(expression, assignment, block_size=11)
    assert kernel.best_of_block._cache_size() == 1
    with pytest.raises(ValueError, match="at least two metacells, found only 'all'"):
        separation(expression, ["all"] * 90)


@pytest.mark.parametrize("block_size", [2048, 7])
def test_sampled_cells_are_compared_with_all(expression, block_size):
    """With one metacell of one cell each, the sample of at least one cell is everything."""
    own = np.arange(90)
    found = separation(expression, own, max_cells=10, block_size=block_size)
    np.testing.assert_allclose(found, separate_by_pairs(expression, own), atol=1e-5)


def test_samples_hold_each_metacells_share_and_have_no_bias(expression, assignment):
    exact = separation(expression, assignment).mean()
    assert separation(expression, assignment, max_cells=90).mean() == exact
    found = [separation(expression, assignment, max_cells=30, seed=s).mean() for s in range(40)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - exact) < 4 * error
    assert 0 < np.std(found) < 0.1 * exact
    assert found[0] == separation(expression, assignment, max_cells=30, seed=0).mean()
    codes = np.unique(assignment, return_inverse=True)[1]
    sample = _sample(codes, 45, seed=0)
    expected = np.maximum(1, np.bincount(codes) // 2)
    assert np.bincount(codes[sample]).tolist() == expected.tolist()
    assert len(np.unique(sample)) == len(sample)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), ("10", TypeError)])
def test_samples_have_a_whole_number_of_cells(expression, assignment, number, error):
    with pytest.raises(error, match=f"max_cells to be .*, found {number!r}"):
        separation(expression, assignment, max_cells=number)
