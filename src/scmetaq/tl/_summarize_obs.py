"""Columns about cells summarised per metacell."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from scmetaq import _keys


def summarize_obs(
    obs: pd.DataFrame, metacells: pd.Categorical, *, categorical: Collection[str] = ()
) -> pd.DataFrame:
    """Count cells, average numeric columns and take the majority of categorical ones.

    Parameters
    ----------
    obs
        Columns about cells, shape ``(n_cells, n_columns)``.
    metacells
        Metacell of each cell, shape ``(n_cells,)``; every category has cells; missing: left out.
    categorical
        Columns whose values are names, also where they are numbers.

    Returns
    -------
    One row per metacell, shape ``(n_metacells, ...)``, indexed by name.
    """
    kept = metacells.codes >= 0
    codes, n = metacells.codes[kept].astype(np.int64), len(metacells.categories)
    summary: dict[str, object] = {_keys.N_CELLS: np.bincount(codes, minlength=n)}
    numbers = {name for name in categorical if name in obs and _is_numeric(obs[name])}
    obs = obs.loc[kept].astype(dict.fromkeys(numbers, "category"))
    for name, column in obs.items():
        if name != _keys.N_CELLS and _is_numeric(column):
            summary[str(name)] = _means(column, codes, n)
    for name, column in obs.items():
        categories = _as_categories(column)
        if name != _keys.N_CELLS and categories is not None:
            majority, fraction = _majority(categories, codes, n)
            summary[str(name)] = _with_dtype_of(column, majority)
            summary[f"{name}{_keys.FRACTION_SUFFIX}"] = fraction
    return pd.DataFrame(summary, index=pd.Index(metacells.categories, name=None))


def _is_numeric(column: pd.Series) -> bool:
    types = pd.api.types
    return (
        types.is_numeric_dtype(column)
        and not types.is_bool_dtype(column)
        and not types.is_complex_dtype(column)
    )


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
    """Most frequent value per metacell (first category on a tie), and its fraction.

    Cells without a value do not count; a metacell of only such cells has no majority.
    """
    has = values.codes >= 0
    width = max(len(values.categories), 1)
    pairs, counts = np.unique(codes[has] * width + values.codes[has], return_counts=True)
    metacell, value = np.divmod(pairs, width)
    best = np.lexsort((value, -counts, metacell))
    first = best[np.unique(metacell[best], return_index=True)[1]]
    majority, fraction = np.full(n, -1), np.full(n, np.nan)
    majority[metacell[first]] = value[first]
    fraction[metacell[first]] = (
        counts[first] / np.bincount(codes[has], minlength=n)[metacell[first]]
    )
    return pd.Categorical.from_codes(majority, dtype=values.dtype), fraction


def _with_dtype_of(column: pd.Series, majority: pd.Categorical) -> object:
    """Keep plain booleans boolean; everything else is categorical."""
    return majority.astype(bool) if column.dtype == bool else majority
