import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch


def by_rows(counts: Any) -> Any:
    """The counts in a form that blocks of rows are quickly cut from: CSC becomes CSR."""
    return counts.tocsr() if sp.issparse(counts) else counts


def canonical(rows: Any) -> sp.csr_matrix:
    """Counts as a CSR matrix of single precision, each entry once and in order; never in place."""
    block = sp.csr_matrix(rows, dtype=np.float32)
    if not block.has_canonical_format:
        block = block.copy()
        block.sum_duplicates()
    return block


def csr_tensor(rows: Any, n_rows: int | None = None) -> torch.Tensor:
    """Counts of some cells as a CSR tensor of single precision.

    Parameters
    ----------
    rows
        Counts, ``(n_cells, n_features)``: dense, or sparse of any format.
    n_rows
        Rows of the result, at least ``n_cells``: the further ones are empty.
    """
    block = canonical(rows)
    n_cells, n_features = block.shape
    n_more = 0 if n_rows is None else n_rows - n_cells
    ends = np.pad(block.indptr, (0, n_more), mode="edge")
    offsets, columns, values = map(torch.from_numpy, (ends, block.indices, block.data))
    with warnings.catch_warnings():  # torch says once that its CSR tensors may still change
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        size = (n_cells + n_more, n_features)
        return torch.sparse_csr_tensor(offsets, columns, values, size=size, check_invariants=False)
