import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics import _block_correlation as kernel
from scmetaq.metrics import _correlation, compactness, separation
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


@pytest.fixture
def _few_compared(monkeypatch):
    """More than 40 cells are compared with a sample of 40, and two of these with all."""
    monkeypatch.setattr(_correlation, "_COMPARED", 40)


@pytest.mark.usefixtures("_few_compared")
def test_samples_that_are_compared_with_samples_have_no_bias(expression, assignment):
    exact = separation(expression, assignment)
    found = [separation(expression, assignment, max_cells=20, seed=s) for s in range(60)]
    means = np.array([of.mean() for of in found])
    assert abs(means.mean() - exact.mean()) < 4 * np.std(means) / np.sqrt(60)
    assert np.std(means) < 0.15 * exact.mean()
    assert found[0].index.equals(exact.index)
    again = separation(expression, assignment, max_cells=20, seed=0)
    pd.testing.assert_series_equal(found[0], again)
    blocks = separation(expression, assignment, max_cells=20, seed=0, block_size=7)
    np.testing.assert_allclose(found[0], blocks, atol=1e-6)


@pytest.mark.usefixtures("_few_compared")
def test_a_cell_has_a_neighbour_in_every_sample_however_small_the_other_metacell(expression):
    own = np.arange(90) == 17
    found = [separation(expression, own, max_cells=3, seed=s) for s in range(20)]
    np.testing.assert_array_less(np.abs(found), 2 * 2)


@pytest.mark.usefixtures("_few_compared")
def test_few_cells_are_compared_with_all_of_them(expression, assignment):
    """The sample compared is at least twice as large as that which asks."""
    sampled = separation(expression, assignment, max_cells=45)
    codes = np.unique(assignment, return_inverse=True)[1]
    asking, every = _sample(codes, 45, seed=0), np.arange(90)
    nearest = kernel.nearest_outside(expression, codes, 90, asking, every)
    of = codes[asking]
    expected = np.bincount(of, 1 - nearest) / np.bincount(of) * np.bincount(codes) * 7 / 90
    np.testing.assert_allclose(sampled, expected)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), ("10", TypeError)])
def test_samples_have_a_whole_number_of_cells(expression, assignment, number, error):
    with pytest.raises(error, match=f"max_cells to be .*, found {number!r}"):
        separation(expression, assignment, max_cells=number)
