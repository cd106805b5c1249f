import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics import compactness


def pairwise(X, assignment):
    """Eq. 23 over all pairs, weighted by |M| K / N."""
    correlation = np.corrcoef(X)
    names = np.unique(assignment)
    weight = len(names) / len(assignment)
    inside = [correlation[np.ix_(assignment == m, assignment == m)] for m in names]
    return np.array([block.sum() / len(block) * weight for block in inside])


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_agrees_with_all_pairs(expression, assignment, make):
    found = compactness(make(expression), assignment)
    np.testing.assert_allclose(found, pairwise(expression, assignment), rtol=1e-10)
    assert found.index.tolist() == np.unique(assignment).tolist()


def test_blocks_do_not_change_the_result(expression, assignment):
    whole, cut = (compactness(expression, assignment, block_size=b) for b in (1000, 7))
    np.testing.assert_allclose(whole, cut)


def test_identical_cells_are_compact(rng):
    cells = np.repeat(rng.normal(size=(5, 20)), [1, 2, 3, 4, 5], axis=0)
    assert compactness(cells, np.repeat(np.arange(5), [1, 2, 3, 4, 5])).mean() == pytest.approx(1)


def test_outliers_are_as_if_absent(expression, assignment):
    assignment = assignment.copy()
    assignment[::9] = -1
    kept = assignment >= 0
    pd.testing.assert_series_equal(
        compactness(expression, assignment), compactness(expression[kept], assignment[kept])
    )


def test_tables_and_columns_in_another_order_are_refused(expression, assignment):
    names = [f"cell{i}" for i in range(90)]
    table, column = pd.DataFrame(expression, names), pd.Series(assignment, names)
    pd.testing.assert_series_equal(compactness(table, column), compactness(expression, assignment))
    with pytest.raises(ValueError, match="another order"):
        compactness(table, column[::-1])


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_blocks_have_a_whole_number_of_cells(expression, assignment, size, error):
    with pytest.raises(error, match="`block_size` as a whole number of at least 1"):
        compactness(expression, assignment, block_size=size)


def test_text_is_refused(expression, assignment):
    with pytest.raises(TypeError, match="Expected numbers in `X`, found values of the type object"):
        compactness(expression.astype(object), assignment)
