"""Data sets of any size, resampled from real cells with fresh multinomial noise."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _datasets import LABEL, Dataset


def resampled(source: Dataset, data: Path, n_cells: int, n_genes: int, folder: Path) -> Dataset:
    """A data set of ``n_cells`` made from ``source``; its file is written to ``folder`` once.

    Each cell is drawn between two real cells of one label: their profiles are mixed in a random
    proportion, and as many counts as the first one has are drawn from the mixture. Genes are those
    of largest variance of log counts.
    """
    made = data_set(source, n_cells, n_genes)
    file = made.path(folder)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        adata, labels = source.read(data)
        rng = np.random.default_rng(n_cells)
        real = most_variable(adata, n_genes)[labels.notna().to_numpy()]
        groups = labels.dropna().astype(str).to_numpy()
        first = rng.integers(real.shape[0], size=n_cells)
        second = partners(first, groups, rng)
        draws = [draw(real[i], real[j], rng) for i, j in zip(first, second, strict=True)]
        cells = anndata.AnnData(
            sp.vstack(draws, format="csr", dtype=np.float32),
            obs=pd.DataFrame({LABEL: groups[first]}, index=[f"cell{i}" for i in range(n_cells)]),
        )
        cells.write_h5ad(file)
    return made


def data_set(source: Dataset, n_cells: int, n_genes: int) -> Dataset:
    """The data set of a size, whether its file is there or not."""
    return Dataset(f"{source.name}_{n_cells}x{n_genes}", f"those of {source.name}")


def most_variable(adata: anndata.AnnData, n_genes: int) -> sp.csr_matrix:
    """Counts of the genes of largest variance of log1p counts per 10k."""
    X = sp.csr_matrix(adata.X, dtype=np.float64)
    if n_genes > X.shape[1]:
        raise ValueError(f"There are {X.shape[1]:,} genes, fewer than the {n_genes:,} asked for.")
    log = X.multiply(1e4 / X.sum(1)).tocsr().log1p()
    variance = np.asarray(log.power(2).mean(0) - np.square(log.mean(0))).ravel()
    return X[:, np.sort(np.argsort(-variance)[:n_genes])]


def partners(first: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each cell another one of its label, drawn at random."""
    members = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    return np.array([rng.choice(members[groups[i]]) for i in first])


def draw(one: sp.csr_matrix, other: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Counts of a cell between two others, of the first one's library size."""
    share = rng.random()
    profile = sp.csr_matrix(one * (share / one.sum()) + other * ((1 - share) / other.sum()))
    counts = rng.multinomial(int(one.sum()), profile.data / profile.data.sum())
    found = sp.csr_matrix((counts, profile.indices, profile.indptr), profile.shape)
    found.eliminate_zeros()
    return found
