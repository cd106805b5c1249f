"""Matrices of numbers, whatever they come as."""

from typing import Any

import numpy as np
import scipy.sparse as sp


def as_matrix(values: Any, name: str, shape: str) -> np.ndarray | sp.csr_array:
    """Return numbers as a numpy array or in CSR form, refusing what is no matrix of numbers.

    Parameters
    ----------
    values
        Numpy array, list of rows, DataFrame or scipy sparse matrix.
    name
        Name of the argument.
    shape
        What its rows and columns are, for messages, e.g. ``"cells by features"``.

    Raises
    ------
    TypeError
        Not a matrix, or not of numbers.
    """
    values = np.asarray(values) if isinstance(values, list) else values
    n_dimensions = getattr(values, "ndim", "no")
    if n_dimensions != 2:
        raise TypeError(
            f"Expected `{name}` as a {shape} matrix (numpy array, DataFrame or scipy sparse), "
            f"found {type(values).__name__} with {n_dimensions} dimensions. Of an AnnData pass "
            "the matrix that is meant, e.g. `adata.X` after log-normalisation, or an embedding."
        )
    matrix = sp.csr_array(values) if sp.issparse(values) else np.asarray(values)
    if matrix.dtype.kind not in "biuf":
        raise TypeError(
            f"Expected numbers in `{name}`, found values of the type {matrix.dtype}. If they are "
            f"numbers, convert them: `{name}.astype(float)`; leave columns of text out."
        )
    return matrix
