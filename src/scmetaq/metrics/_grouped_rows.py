"""A matrix of cells checked against their assignment."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from scmetaq.metrics._groups import Groups, check_same_order, group_cells
from scmetaq.metrics._matrix import as_matrix


def grouped_rows(X: Any, assignment: Any) -> tuple[Any, Groups]:
    """Check a matrix against an assignment; return it row-sliceable, with the cells' groups."""
    matrix = as_matrix(X, "X", "cells by features")
    if matrix.shape[0] != len(assignment):
        raise ValueError(
            f"Expected one metacell per row of `X`, found {len(assignment)} for "
            f"{matrix.shape[0]} rows. Pass the assignment of exactly these cells."
        )
    check_same_order(X, assignment)
    values = matrix.data if sp.issparse(matrix) else matrix
    if not np.isfinite(values).all():
        raise ValueError(
            "Expected finite values in `X`, found NaN or infinity. "
            "Remove or replace them; similarities and distances are undefined there."
        )
    return matrix, group_cells(assignment)
