"""Inputs that hypothesis draws: cells of any form, and whether a call must take them."""

import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from scipy import sparse

from scmetaq._errors import InputError

N_INPUTS = int(os.environ.get("GENERATED_INPUTS", "200"))
OUTCOMES: Counter[str] = Counter()


def inputs(share):
    """A share of all inputs; the same ones in every run unless more are asked for."""
    return settings(
        max_examples=max(1, round(share * N_INPUTS)),
        deadline=None,
        database=None,
        derandomize=N_INPUTS <= 200,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def attempt(function, *, is_good):
    """Result of a call, or None where it refuses what may be refused."""
    refusal = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = function()
        except InputError as error:
            refusal, found = error, None
    assert refusal is None or not is_good, f"refused: {refusal}"
    of_test = function.__qualname__.split(".")[0].removeprefix("test_").replace("_", " ")
    OUTCOMES[f"{of_test}: {'right' if refusal is None else 'refused'}"] += 1
    return found


def fingerprint(adata):
    """All that a call may not change."""
    X = adata.X.compute() if hasattr(adata.X, "compute") else adata.X[:]
    obs = adata.obs.loc[:, [not str(name).startswith("_scvi") for name in adata.obs]]
    tables = obs.to_csv(), adata.var.to_csv(), str(obs.dtypes), str(adata.X.dtype)
    dense = X.toarray() if sparse.issparse(X) else np.asarray(X)
    return *tables, dense.astype(np.float64).tobytes()


def drawn_counts(rng, n_cells, n_features):
    state = np.arange(n_cells) % 3
    counts = rng.poisson(rng.gamma(0.5, 4.0, (3, n_features))[state] + 0.2)
    counts[np.arange(n_cells), rng.integers(n_features, size=n_cells)] += 1
    return counts.astype(object)


def split_entries(X):
    """Unsorted, each count in two entries."""
    X, half = sparse.coo_matrix(X), sparse.coo_matrix(X)
    half.data = X.data // 2
    whole = (np.r_[X.data - half.data, half.data], (np.r_[X.row, X.row], np.r_[X.col, X.col]))
    order = np.lexsort([-whole[1][1], whole[1][0]])
    ends = np.r_[0, np.cumsum(np.bincount(whole[1][0], minlength=X.shape[0]))]
    return sparse.csr_matrix((whole[0][order], whole[1][1][order], ends), X.shape)


def with_zeros(X):
    n, m = X.shape
    return sparse.csr_matrix((X.ravel(), np.tile(np.arange(m), n), np.arange(0, n * m + 1, m)))


def wide_indices(X):
    X = sparse.csr_matrix(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def read_only(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def as_dask(X):
    return pytest.importorskip("dask.array").from_array(X, chunks=(17, X.shape[1]))


CONTAINERS = {
    "dense": lambda X: X,
    "F order": np.asfortranarray,
    "read only": read_only,
    "every other row": lambda X: np.repeat(X, 2, 0)[::2],
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "csc array": sparse.csc_array,
    "split entries": split_entries,
    "zeros stored": with_zeros,
    "wide indices": wide_indices,
    "dask": as_dask,
    "backed": lambda X: X,
    "backed csr": sparse.csr_matrix,
}
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">f4", ">i8"]
CHANGES = {
    "none": lambda X, rng: None,
    "empty features": lambda X, rng: X[:, 1:4].fill(0),
    "a constant feature": lambda X, rng: X[:, 0].fill(7),
    "a large count": lambda X, rng: X[:5, 3].fill(2**31),
    "too large a count": lambda X, rng: X[:5, 3].fill(2**31 + 1024),
    "a cell without counts": lambda X, rng: X[2].fill(0),
    "a negative count": lambda X, rng: X[2, :2].fill(-1),
    "identical cells": lambda X, rng: X.__setitem__(slice(None), X[rng.integers(5, size=len(X))]),
    "all the same": lambda X, rng: X.__setitem__(slice(None), X[0]),
}
INDICES = {
    "text": lambda n: [f"c{i}" for i in range(n)],
    "unicode": lambda n: [f"Zelle {i} \u00e4\u200b\U0001f9ec" for i in range(n)],
    "one empty": lambda n: ["", *(f"c{i}" for i in range(1, n))],
    "long": lambda n: [f"{'x' * 5_000}{i}" for i in range(n)],
    "numbers as text": lambda n: [str(i) for i in range(n)],
    "duplicates": lambda n: ["c0", *(f"c{i}" for i in range(n - 1))],
    "arrow": lambda n: pd.Index([f"c{i}" for i in range(n)], dtype="string"),
    "categorical": lambda n: pd.CategoricalIndex([f"c{i}" for i in range(n)]),
    "objects": lambda n: pd.Index([f"c{i}" for i in range(n)], dtype=object),
}
COLUMNS = {
    "text": lambda i: pd.Series(np.array(["a", "b"])[i % 2]),
    "bool": lambda i: pd.Series(i % 2 == 0),
    "nullable bool": lambda i: pd.Series(i % 2 == 0, dtype="boolean"),
    "int": lambda i: pd.Series(i % 3),
    "nullable int": lambda i: pd.Series(i % 3, dtype="Int64"),
    "float": lambda i: pd.Series(i % 3 + 0.5),
    "gaps": lambda i: pd.Series(np.where(i % 5 == 0, np.nan, i % 3)),
    "unused": lambda i: pd.Series(pd.Categorical(np.array(["a", "b"])[i % 2], list("abcd"))),
    "gaps in text": lambda i: pd.Series(np.array(["a", "b", None], object)[i % 3]),
    "nan and Unknown": lambda i: pd.Series(np.array(["nan", "Unknown", "x"])[i % 3]),
    "dates": lambda i: pd.Series(pd.to_datetime("2020-01-01") + pd.to_timedelta(i % 2, "D")),
    "one value": lambda i: pd.Series(["a"] * len(i)),
    "all different": lambda i: pd.Series([f"v{j}" for j in i]),
    "infinity": lambda i: pd.Series(np.where(i % 2 == 0, np.inf, 1.0)),
    "mixed": lambda i: pd.Series(np.array(["a", 1, True], object)[i % 3]),
    "arrow": lambda i: pd.Series(np.array(["a", "b"])[i % 2], dtype="string"),
}


def held(counts, dtype, container):
    """Counts in a container, as far as the type holds them, and what it then holds."""
    limit = {"?": 1, "f2": 2_048}.get(dtype)
    if limit is None:
        kind = np.dtype(dtype)
        limit = 2**24 if kind.itemsize == 4 and kind.kind == "f" else 2**53
        limit = min(limit, np.iinfo(kind).max) if kind.kind in "iu" else limit
    is_signed = np.dtype(dtype).kind in "if"
    kept = np.clip(counts, -1 if is_signed else 0, limit)
    if np.dtype(dtype).itemsize == 4 and np.dtype(dtype).kind == "f":
        kept = np.where(counts == 2**31, 2**31, kept)  # a power of two, which is exact
    if container in ("csr", "csc", "split entries", "zeros stored", "wide indices", "backed csr"):
        dtype = "f4" if dtype in ("f2", ">f4", ">i8") else dtype  # which scipy has not
    if container in ("csr array", "csc array"):
        dtype = "f4" if dtype in ("f2", ">f4", ">i8") else dtype
    if container == "split entries" and dtype == "?":
        dtype = "u1"
    values = kept.astype(dtype)
    return CONTAINERS[container](values), values.astype(np.float64).astype(np.int64)


@dataclass(frozen=True)
class Case:
    """Cells with counts of some kind in some container."""

    seed: int
    n_cells: int
    n_features: int
    change: str
    container: str
    dtype: str
    index: str

    @property
    def kept(self):
        """The counts as the type holds them."""
        return self._held()[1]

    @property
    def is_good(self):
        """Whether a call must take these cells."""
        kept = self.kept
        is_bad = (kept < 0).any() or (kept > 2**31).any() or (kept.sum(1) == 0).any()
        return not is_bad and self.index != "duplicates"

    def _held(self):
        rng = np.random.default_rng(self.seed)
        counts = drawn_counts(rng, self.n_cells, self.n_features)
        CHANGES[self.change](counts, rng)
        return held(counts, self.dtype, self.container)

    def make(self, folder: Path | None = None):
        """The cells, from disk where they are to be and a folder is given."""
        X, _ = self._held()
        obs = pd.DataFrame(index=INDICES[self.index](self.n_cells))
        adata = AnnData(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(self.n_features)]))
        if folder is None or not self.container.startswith("backed"):
            return adata
        path = folder / f"{len(list(folder.iterdir()))}.h5ad"
        with anndata.settings.override(allow_write_nullable_strings=True):
            adata.write_h5ad(path)
        return anndata.read_h5ad(path, backed="r")


def cases(n_features=None):
    """Cells of any form."""
    widths = st.integers(20, 40) if n_features is None else st.just(n_features)
    choices = (st.sampled_from([*of]) for of in (CHANGES, CONTAINERS, DTYPES, INDICES))
    return st.builds(Case, st.integers(0, 2**32 - 1), st.integers(40, 80), widths, *choices)
