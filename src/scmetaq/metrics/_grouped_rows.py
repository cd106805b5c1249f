"""A matrix of cells checked against their assignment."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from scmetaq.metrics._groups import Groups, group_cells


def grouped_rows(X: Any, assignment: Any) -> tuple[Any, Groups]:
    """Check a matrix against an assignment; return it row-sliceable, with the cells' groups."""
    if getattr(X, "ndim", 0) != 2:
        raise TypeError(
            "Expected `X` as a cells by features matrix (numpy array or scipy sparse), "
            f"found {type(X).__name__} with {getattr(X, 'ndim', 'no')} dimensions. "
            "Pass e.g. `adata.X` after log-normalisation, or an embedding."
        )
    if X.shape[0] != len(assignment):
        raise ValueError(
            f"Expected one metacell per row of `X`, found {len(assignment)} for {X.shape[0]} rows. "
            "Pass the assignment of exactly these cells."
        )
    X = sp.csr_array(X) if sp.issparse(X) else np.asarray(X)
    values = X.data if sp.issparse(X) else X
    if not np.isfinite(values).all():
        raise ValueError(
            "Expected finite values in `X`, found NaN or infinity. "
            "Remove or replace them; similarities and distances are undefined there."
        )
    return X, group_cells(assignment)
