"""Cells as unit vectors whose dot products are Pearson correlations."""

from typing import Any

import numpy as np
import scipy.sparse as sp


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
