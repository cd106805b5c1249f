"""Cells as unit vectors whose dot products are Pearson correlations."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from scmetaq.metrics._groups import Groups, group_cells


def unit_rows(X: Any) -> np.ndarray:
    """Centre each row and scale it to length one, in double precision.

    A row without spread has no Pearson correlation; it becomes zeros, as if uncorrelated.

    Parameters
    ----------
    X
        Cells by features, shape ``(n_cells, n_features)``, dense or sparse.
    """
    dense = np.array(X.toarray() if sp.issparse(X) else X, dtype=np.float64)  # N x F
    # a constant row keeps a rounding error after centring: measure against its length before
    floor = 1e-10 * np.linalg.norm(dense, axis=1, keepdims=True)
    dense -= dense.mean(axis=1, keepdims=True)
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.divide(dense, length, out=np.zeros_like(dense), where=length > floor)


def grouped_rows(X: Any, assignment: Any) -> tuple[Any, Groups]:
    """Check a matrix against an assignment; return it row-sliceable, with the cells' groups."""
    if getattr(X, "ndim", 0) != 2:
        raise TypeError(
            "Expected `X` as a cells by features matrix (numpy array or scipy sparse), "
            f"found {type(X).__name__} with {getattr(X, 'ndim', 'no')} dimensions. "
            "Pass e.g. `adata.X` after log-normalisation."
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
            "Remove or replace them; Pearson correlation is undefined there."
        )
    return X, group_cells(assignment)
