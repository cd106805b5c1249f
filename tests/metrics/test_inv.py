import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics import inv


@pytest.fixture
def counts(rng):
    return rng.poisson(rng.gamma(0.5, 1.0, size=40), size=(90, 40)).astype(float)


def by_pandas(X, assignment):
    groups = pd.DataFrame(X).groupby(assignment)
    return (groups.var() / groups.mean()).fillna(1).quantile(0.95, axis=1)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("block_size", [256, 2])
def test_agrees_with_pandas(counts, assignment, make, block_size):
    found = inv(make(counts), assignment, block_size=block_size)
    np.testing.assert_allclose(found, by_pandas(counts, assignment), rtol=1e-9)
    assert (found.name, found.index.name) == ("inv", "metacell")


def test_alike_cells_do_not_vary_and_one_cell_has_no_variance(counts):
    counts[:, counts[0] == 0] = 1
    counts[:4] = counts[0]
    found = inv(counts[:5], [0, 0, 0, 0, 1])
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(found[1])


def test_genes_without_expression_count_as_poisson():
    assert inv(np.zeros((4, 5)), [0, 0, 1, 1]).tolist() == [1, 1]


def test_mixed_states_are_seen(rng):
    rate = rng.gamma(1, 2, size=(2, 60))
    state = np.repeat([0, 1], 100)
    X = rng.poisson(rate[state])
    apart, mixed = state * 2 + np.tile([0, 1], 100), np.tile(np.repeat([0, 1, 2, 3], 2), 25)
    assert inv(X, apart).max() < inv(X, mixed).min()


def test_cells_left_out_are_as_if_absent(counts, assignment):
    left_out = np.where(np.arange(90) % 9 == 0, -1, assignment)
    kept = left_out >= 0
    pd.testing.assert_series_equal(inv(counts, left_out), inv(counts[kept], assignment[kept]))


def test_scaled_values_are_refused(counts, assignment):
    with pytest.raises(ValueError, match="without negative values"):
        inv(counts - counts.mean(axis=0), assignment)


def test_tables_and_columns_in_another_order_are_refused(counts, assignment):
    names = [f"cell{i}" for i in range(90)]
    table, column = pd.DataFrame(counts, names), pd.Series(assignment, names)
    pd.testing.assert_series_equal(inv(table, column), inv(counts, assignment))
    with pytest.raises(ValueError, match="another order"):
        inv(table, column[::-1])


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_blocks_have_a_whole_number_of_metacells(counts, assignment, size, error):
    with pytest.raises(error, match="`block_size` as a whole number of at least 1"):
        inv(counts, assignment, block_size=size)
