"""Cells summarised by group: log counts, sums and means of rows, columns of ``obs``."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputTypeError, InputValueError
from scmetaq.metrics._cell_values import check_layer, layers_of
from scmetaq.metrics._counts import check_count_values, log_normalise

_BLOCK = 65_536  # cells that are read at once


def check_anndata(data: Any, argument: str, fix: str = "Of a MuData pass one modality.") -> None:
    if not isinstance(data, AnnData):
        problem = f"Expected `{argument}` as an AnnData, found {type(data).__name__}."
        raise InputTypeError(problem, fix, argument)


def coordinates(
    adata: AnnData, name: str | None, argument: str, owner: str, *fix: str
) -> np.ndarray:
    """Return an entry of ``obsm`` (None: ``X``), which must be dense and finite."""
    check_anndata(adata, owner, *fix)
    if name is not None and name not in adata.obsm:
        raise InputKeyError(
            f"Expected `{argument}` to name an entry of `{owner}.obsm`, found no {name!r}. "
            f"Entries there: {sorted(map(str, adata.obsm.keys()))}."
        )
    found: Any = adata.X if name is None else adata.obsm[name]
    where = f"`{owner}.X`" if name is None else f"`{owner}.obsm[{name!r}]`"
    if sp.issparse(found) and name is not None:
        raise InputTypeError(f"Expected a dense matrix in {where}, found a sparse one.")
    values: np.ndarray = np.asarray(found.toarray() if sp.issparse(found) else found, dtype=float)
    n_bad = int((~np.isfinite(values)).sum())
    if values.ndim != 2 or n_bad:
        raise InputValueError(
            f"Expected a matrix of finite numbers in {where}, found shape {values.shape} with "
            f"{n_bad} missing or infinite values."
        )
    return values


def matrix_of(adata: AnnData, layer: str | None, otherwise: str) -> Any:
    """Return a layer, or ``X``, else say what to name ``otherwise``."""
    check_layer(adata, layer)
    X: Any = adata.X if layer is None else adata.layers[layer]
    if X is None:
        problem = "Expected raw counts in `X`, found nothing."
        raise InputValueError(problem, f"Name {otherwise}.", "layer")
    return X


def described(layer: str | None) -> str:
    return "`X`" if layer is None else f"layer {layer!r}"


def log_counts(adata: AnnData, layer: str | None, *, otherwise: str = "a layer") -> sp.csr_matrix:
    """log1p counts per 10k in double precision; warns the caller's caller of fractions."""
    counts = matrix_of(adata, layer, otherwise)
    check_count_values(counts, described(layer), layers_of(adata), stacklevel=4)
    return log_normalise(counts, np.float64)


def sum_rows(X: Any, codes: np.ndarray, n_groups: int, block_size: int = _BLOCK) -> sp.csr_matrix:
    """Sum the rows of each group in double precision, sparse, K x F; code -1: in no group."""
    # scanpy.get.aggregate makes dense K x F arrays, too large for peaks of many metacells; blocks
    # keep the copy in double precision small, and let matrices on disk be read in turn
    X = X.tocsr() if sp.issparse(X) else X
    total = sp.csr_matrix((n_groups, X.shape[1]), dtype=np.float64)
    for start in range(0, X.shape[0], block_size):
        block = sp.csr_matrix(X[start : start + block_size])
        of_block = codes[start : start + block_size]
        total += _indicator(of_block, n_groups, np.ones(n_groups)) @ block
    total.sort_indices()
    return total


def mean_rows(X: Any, codes: np.ndarray, n_groups: int) -> Any:
    """Mean of the rows of each group, K x F; zero of a group without cells."""
    sizes = np.bincount(codes[codes >= 0], minlength=n_groups)
    return _indicator(codes, n_groups, 1 / np.maximum(sizes, 1)) @ X


def _indicator(codes: np.ndarray, n_groups: int, weights: np.ndarray) -> sp.csr_matrix:
    """Weight of each cell in its group, K x N."""
    cells = np.flatnonzero(codes >= 0)
    of = codes[cells]
    return sp.csr_matrix((weights[of], (of, cells)), shape=(n_groups, len(codes)))


def summarize_obs(
    obs: pd.DataFrame, metacells: pd.Categorical, *, categorical: Collection[str] = ()
) -> pd.DataFrame:
    """Count cells, average numbers and take majorities of categories and of ``categorical``."""
    kept = metacells.codes >= 0
    codes, n = metacells.codes[kept].astype(np.int64), len(metacells.categories)
    summary: dict[str, object] = {_keys.N_CELLS: np.bincount(codes, minlength=n)}
    numbers = {name for name in categorical if name in obs and is_numeric(obs[name])}
    obs = obs.loc[kept].astype(dict.fromkeys(numbers, "category"))
    obs = obs.loc[:, obs.columns != _keys.N_CELLS]
    for name, column in obs.items():
        if is_numeric(column):
            summary[str(name)] = _means(column, codes, n)
    for name, column in obs.items():
        categories = _as_categories(column)
        if categories is not None:
            majority, fraction = _majority(categories, codes, n)
            # plain booleans stay boolean
            summary[str(name)] = majority.astype(bool) if column.dtype == bool else majority
            summary[f"{name}{_keys.FRACTION_SUFFIX}"] = fraction
    return pd.DataFrame(summary, index=pd.Index(metacells.categories, name=None))


def is_numeric(column: pd.Series) -> bool:
    types = pd.api.types
    is_other = types.is_bool_dtype(column) or types.is_complex_dtype(column)
    return types.is_numeric_dtype(column) and not is_other


def _as_categories(column: pd.Series) -> pd.Categorical | None:
    """Categorical, text or boolean values as a Categorical; None for any other kind."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.array
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "boolean":
        # plain booleans as categories: h5ad has none of the nullable kind
        return pd.Categorical(column, categories=np.array([False, True]))
    return pd.Categorical(column) if kind == "string" else None


def _means(column: pd.Series, codes: np.ndarray, n: int) -> np.ndarray:
    """Mean per metacell of the cells that have a value, shape ``(n,)``."""
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    has = ~np.isnan(values)
    sums = np.bincount(codes[has], weights=values[has], minlength=n)
    counts = np.bincount(codes[has], minlength=n)
    return np.divide(sums, counts, out=np.full(n, np.nan), where=counts > 0)


def _majority(
    values: pd.Categorical, codes: np.ndarray, n: int
) -> tuple[pd.Categorical, np.ndarray]:
    """Most frequent value per metacell (first category on a tie), and its fraction of the known."""
    has = values.codes >= 0
    width = max(len(values.categories), 1)
    pairs, counts = np.unique(codes[has] * width + values.codes[has], return_counts=True)
    metacell, value = np.divmod(pairs, width)
    best = np.lexsort((value, -counts, metacell))
    first = best[np.unique(metacell[best], return_index=True)[1]]
    known = metacell[first]
    majority, fraction = np.full(n, -1), np.full(n, np.nan)
    majority[known] = value[first]
    fraction[known] = counts[first] / np.bincount(codes[has], minlength=n)[known]
    return pd.Categorical.from_codes(majority, dtype=values.dtype), fraction
