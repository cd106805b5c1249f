"""Tables as every file holds them: h5ad, h5mu and zarr, of any version of anndata, and R."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmetaq._keys import as_name

_NO_NAMES = {"", ".", "..", "_index", "zarr.json"}  # that mean something else in a file
_LONGEST = 150  # characters of a name of a column, which becomes that of a folder


def plain_column(column: pd.Series) -> pd.Series:
    """Numbers, booleans, text, and categories of one of these, as they are; others become text.

    So do intervals, dates, periods, tuples and values of several types. Equal texts become one.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        before = pd.Series(dtype.categories)
        names = plain_column(before)
        if names is before:
            return column
        kept = pd.Index(names.unique())
        codes = np.append(kept.get_indexer(pd.Index(names)), -1)[column.cat.codes]
        found = pd.Categorical.from_codes(codes, kept, ordered=dtype.ordered)
        return pd.Series(found, column.index, name=column.name)
    is_nullable = isinstance(dtype, pd.BooleanDtype) or pd.api.types.is_integer_dtype(dtype)
    if is_nullable and not isinstance(dtype, pd.SparseDtype | pd.ArrowDtype):
        return column
    if isinstance(dtype, np.dtype) and dtype.kind in "bf" and dtype.itemsize in (1, 4, 8):
        return column
    if pd.api.types.is_float_dtype(dtype):
        return column.astype(np.float64)
    values = np.array(column, dtype=object)
    is_missing = pd.isna(values)
    kind = pd.api.types.infer_dtype(values, skipna=True)
    is_own = {"boolean": bool, "integer": int, "floating": float, "mixed-integer-float": float}
    if kind in is_own and not is_missing.any():
        try:
            return pd.Series(values.astype(is_own[kind]), column.index, name=column.name)
        except OverflowError:  # beyond 64 bits
            pass
    elif kind in ("integer", "floating", "mixed-integer-float", "empty"):
        values[is_missing] = np.nan
        return pd.Series(values.astype(float), column.index, name=column.name)
    elif kind == "string" and not isinstance(dtype, pd.SparseDtype | pd.ArrowDtype):
        if not _has_odd_text(values):
            return column
    elif kind == "boolean":
        return pd.Series(pd.Categorical(values, [False, True]), column.index, name=column.name)
    texts = [None if missing else as_name(v) for v, missing in zip(values, is_missing, strict=True)]
    return pd.Series(texts, column.index, dtype=object, name=column.name)


def plain_names(names: Iterable[Any]) -> list[str]:
    """Names of columns as every file holds them, each once."""
    found: list[str] = []
    for name in names:
        text = re.sub(r"[/\\]", "_", as_name(name))[:_LONGEST]
        while text in _NO_NAMES or text in found:
            text += "_"
        found.append(text)
    return found


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy that every file holds, without nullable strings, which are not read everywhere.

    Names and text become objects, text with gaps categories, as anndata writes it.
    """
    names = np.asarray(table.index, dtype=object)
    if _has_odd_text(names):
        names = np.array([as_name(name) for name in names], dtype=object)
    keys, name = plain_names(table.columns), table.index.name
    index = pd.Index(names, dtype=object, name=name if plain_names([name]) == [name] else None)
    columns = {}
    for key, (_, column) in zip(keys, table.items(), strict=True):
        found = plain_column(column)
        if pd.api.types.infer_dtype(found, skipna=True) == "string":
            found = pd.Series(np.asarray(found, dtype=object), dtype=object)
            found = found.astype("category") if found.hasnans else found
        columns[key] = found.set_axis(index)
    own = pd.DataFrame(columns, index=index)
    return own.rename_axis(index=None) if index.name in own else own


def with_plain_tables(adata: AnnData) -> AnnData:
    """Return an AnnData of our own whose tables every version of anndata reads from its file."""
    adata.obs, adata.var = plain(adata.obs), plain(adata.var)
    return adata


def _has_odd_text(values: np.ndarray) -> bool:
    """Whether text cannot be written as UTF-8 that ends with a zero."""
    joined = "".join(value for value in values if isinstance(value, str))
    return "\0" in joined or not joined.isascii() and joined != as_name(joined)
