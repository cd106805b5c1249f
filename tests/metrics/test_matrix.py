import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scmetaq.metrics._matrix import as_matrix


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
    with pytest.raises(TypeError, match=r"numbers in `A`, found values .*`A\.astype\(float\)`"):
        as_matrix(values, "A", "cells by features")


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="as a genes by cells matrix .* found AnnData with no dim"):
        as_matrix(AnnData(np.ones((2, 2))), "A", "genes by cells")
    with pytest.raises(TypeError, match="found ndarray with 1 dimensions"):
        as_matrix(np.ones(2), "A", "genes by cells")
