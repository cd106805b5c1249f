"""Tensors of cells, and what training reads of a sample of them."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from scvi.data import AnnDataManager
from scvi.data.fields import ObsmField

from ._cells import canonical


def csr_tensor(rows: Any, n_rows: int | None = None) -> torch.Tensor:
    """Counts as a CSR tensor of single precision, with empty rows up to ``n_rows``."""
    block = canonical(rows)
    n_cells, n_features = block.shape
    n_more = 0 if n_rows is None else n_rows - n_cells
    ends = np.pad(block.indptr, (0, n_more), mode="edge")
    offsets, columns, values = map(torch.from_numpy, (ends, block.indices, block.data))
    with warnings.catch_warnings():  # torch says once that its CSR tensors may still change
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        size = (n_cells + n_more, n_features)
        return torch.sparse_csr_tensor(offsets, columns, values, size=size, check_invariants=False)


def spread(n: int, at_most: int) -> np.ndarray:
    """Positions among ``n``, evenly spread, at most ``at_most``."""
    return np.linspace(0, n - 1, min(n, at_most)).astype(np.int64)


def stratified_sample(
    categories: np.ndarray, n_most: int, *, n_each: int, seed: int = 0
) -> np.ndarray:
    """Sorted indices of a random sample of cells, ``n_each`` of every category first.

    Each column of ``categories``, ``(n_cells, n_ways)``, is one way to sort cells; negative: none.
    """
    order = np.random.default_rng(seed).permutation(len(categories))
    if len(order) <= n_most:
        return np.sort(order)
    is_first = np.zeros(len(order), bool)
    for of_way in categories[order].T:
        rank = pd.Series(of_way).groupby(of_way).cumcount().to_numpy()
        is_first |= (rank < n_each) & (of_way >= 0)
    return np.sort(np.concatenate([order[is_first], order[~is_first]])[:n_most])


def training_set(inputs: dict[str, np.ndarray | sp.csr_matrix]) -> AnnDataManager:
    """What training reads of each cell, in the form of scvi-tools' loaders."""
    n_cells = next(iter(inputs.values())).shape[0]
    adata = AnnData(shape=(n_cells, 0))
    adata.obsm.update(inputs)
    manager = AnnDataManager([_InputField(name, name) for name in inputs])
    manager.register_fields(adata)
    return manager


class _InputField(ObsmField):
    """A field whose columns have no names."""

    def _setup_column_names(self, adata: AnnData) -> np.ndarray:
        return np.arange(self.get_field_data(adata).shape[1])
