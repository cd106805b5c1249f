import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics._grouped_rows import grouped_rows


def test_bad_matrices_are_refused(expression):
    with pytest.raises(ValueError, match="found 89 for 90 rows"):
        grouped_rows(expression, np.zeros(89))
    with pytest.raises(TypeError, match="cells by features matrix"):
        grouped_rows(expression[0], np.zeros(40))
    expression[3, 4] = np.nan
    with pytest.raises(ValueError, match="found NaN or infinity"):
        grouped_rows(sparse.csr_matrix(expression), np.zeros(90))


def test_tables_are_matched_by_their_names(expression):
    names = [f"cell{i}" for i in range(90)]
    with pytest.raises(ValueError, match="another order"):
        grouped_rows(pd.DataFrame(expression, names), pd.Series(1, names[::-1]))
    found, _ = grouped_rows(pd.DataFrame(expression, names), pd.Series(1, names))
    np.testing.assert_array_equal(found, expression)
