"""Matrices of cells: read, checked against an assignment, and as unit vectors."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.metrics._groups import Groups, check_same_order, group_cells


def as_matrix(values: Any, name: str, shape: str) -> np.ndarray | sp.csr_array:
    """Return numbers as an array or in CSR form; ``shape`` says what rows and columns are."""
    values = np.asarray(values) if isinstance(values, list) else values
    n_dimensions = getattr(values, "ndim", "no")
    if n_dimensions != 2:
        raise InputTypeError(
            f"Expected `{name}` as a {shape} matrix (numpy array, DataFrame or scipy sparse), "
            f"found {type(values).__name__} with {n_dimensions} dimensions.",
            "Of an AnnData pass a matrix, e.g. `adata.X` after log-normalisation, or an embedding.",
            name,
        )
    matrix = sp.csr_array(values) if sp.issparse(values) else np.asarray(values)
    if matrix.dtype.kind not in "biuf":
        raise InputTypeError(
            f"Expected real numbers in `{name}`, found values of the type {matrix.dtype}.",
            f"If they are, convert them: `{name}.astype(float)`; leave columns of text out.",
            name,
        )
    return matrix


def grouped_rows(X: Any, assignment: Any) -> tuple[Any, Groups]:
    """Check a matrix against an assignment; return it row-sliceable, with the cells' groups."""
    matrix = as_matrix(X, "X", "cells by features")
    if matrix.shape[0] != len(assignment):
        raise InputValueError(
            f"Expected one metacell per row of `X`, found {len(assignment)} for "
            f"{matrix.shape[0]} rows.",
            "Pass the assignment of exactly these cells.",
            "assignment",
        )
    check_same_order(X, assignment)
    check_finite(matrix.data if sp.issparse(matrix) else matrix)
    return matrix, group_cells(assignment)


def check_finite(values: Any) -> None:
    """Refuse NaN and infinity."""
    if not np.isfinite(values).all():
        raise InputValueError(
            "Expected finite values in `X`, found NaN or infinity.",
            "Remove or replace them; similarities and distances are undefined there.",
            "X",
        )


def unit_rows(X: Any) -> np.ndarray:
    """Centre each row and scale it to length one: dot products are Pearson correlations.

    A row without spread has no Pearson correlation; it becomes zeros, as if uncorrelated.
    """
    dense = np.array(X.toarray() if sp.issparse(X) else X, np.float64)  # N x F
    # a constant row keeps a rounding error after centring: measure against its length before
    floor = 1e-10 * np.linalg.norm(dense, axis=1, keepdims=True)
    dense -= dense.mean(axis=1, keepdims=True)
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.divide(dense, length, out=np.zeros_like(dense), where=length > floor)
