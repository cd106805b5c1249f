"""Matrices of cells, and what holds of every metric that reads one."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scmetaq.metrics import compactness, inv, separation
from scmetaq.metrics._groups import as_matrix, grouped_rows, unit_rows

OF_MATRICES = pytest.mark.parametrize("metric", [compactness, separation, inv])


@pytest.mark.parametrize(
    "make", [np.asarray, pd.DataFrame, sparse.csr_matrix, sparse.csc_array, np.ndarray.tolist]
)
@pytest.mark.parametrize("dtype", [float, np.int8, bool, np.uint16])
def test_numbers_stay_what_they_are(make, dtype):
    numbers = np.array([[0, 1, 1], [1, 0, 1]], dtype=dtype)
    found = as_matrix(make(numbers), "X", "cells by features")
    assert isinstance(found, np.ndarray | sparse.csr_array)
    np.testing.assert_array_equal(found.toarray() if sparse.issparse(found) else found, numbers)


@pytest.mark.parametrize(
    "values", [np.array([["a", "b"]]), np.ones((2, 2), object), pd.DataFrame({"x": [1], "y": "a"})]
)
def test_other_values_are_refused(values):
    with pytest.raises(
        TypeError, match=r"real numbers in `A`, found values .*`A\.astype\(float\)`"
    ):
        as_matrix(values, "A", "cells by features")


def test_other_things_and_matrices_that_do_not_fit_the_assignment_are_refused(expression):
    with pytest.raises(TypeError, match="as a genes by cells matrix .* found AnnData with no dim"):
        as_matrix(AnnData(np.ones((2, 2))), "A", "genes by cells")
    with pytest.raises(TypeError, match="found ndarray with 1 dimensions"):
        as_matrix(np.ones(2), "A", "genes by cells")
    with pytest.raises(ValueError, match="found 89 for 90 rows"):
        grouped_rows(expression, np.zeros(89))
    expression[3, 4] = np.nan
    with pytest.raises(ValueError, match="found NaN or infinity"):
        grouped_rows(sparse.csr_matrix(expression), np.zeros(90))


def test_dot_products_of_unit_rows_are_correlations(expression):
    before = expression.copy()
    z = unit_rows(expression)
    np.testing.assert_array_equal(expression, before)
    np.testing.assert_allclose(z @ z.T, np.corrcoef(expression), atol=1e-12)
    np.testing.assert_allclose(unit_rows(sparse.csr_matrix(expression)), z)


@pytest.mark.parametrize("value", [0, 0.1, 1e6 / 3])
def test_a_row_without_spread_is_uncorrelated(value):
    assert not unit_rows(np.full((2, 30), value)).any()


@OF_MATRICES
def test_tables_and_columns_in_another_order_are_refused(metric, expression, assignment):
    names = [f"cell{i}" for i in range(90)]
    X = np.abs(expression)
    table, column = pd.DataFrame(X, names), pd.Series(assignment, names)
    pd.testing.assert_series_equal(metric(table, column), metric(X, assignment))
    with pytest.raises(ValueError, match="another order"):
        metric(table, column[::-1])


@OF_MATRICES
def test_cells_left_out_are_as_if_absent(metric, expression, assignment):
    X = np.abs(expression)
    assignment[::9] = -1
    kept = assignment >= 0
    found, expected = metric(X, assignment), metric(X[kept], assignment[kept])
    pd.testing.assert_series_equal(found, expected)
    assert (found.name, found.index.name) == (metric.__name__, "metacell")
    assert found.index.tolist() == np.unique(assignment[kept]).tolist()


@OF_MATRICES
def test_blocks_have_a_whole_number_of_rows_and_text_is_refused(metric, expression, assignment):
    for size, error in ((0, ValueError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error, match=f"block_size to be .*, found {size}"):
            metric(expression, assignment, block_size=size)
    with pytest.raises(
        TypeError, match="Expected real numbers in `X`, found values of the type object"
    ):
        metric(expression.astype(object), assignment)
