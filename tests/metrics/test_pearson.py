import numpy as np
import pytest
from scipy import sparse

from scmetaq.metrics._pearson import unit_rows


def test_dot_products_are_correlations(expression):
    z = unit_rows(expression)
    np.testing.assert_allclose(z @ z.T, np.corrcoef(expression), atol=1e-12)
    np.testing.assert_allclose(unit_rows(sparse.csr_matrix(expression)), z)


@pytest.mark.parametrize("value", [0, 0.1, 1e6 / 3])
def test_a_row_without_spread_is_uncorrelated(value):
    assert not unit_rows(np.full((2, 30), value)).any()


def test_input_is_not_changed(expression):
    before = expression.copy()
    unit_rows(expression)
    np.testing.assert_array_equal(expression, before)
