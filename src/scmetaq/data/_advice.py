"""What to do about cells that cannot be used: lines of code that work on the very object."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmetaq._errors import layers_of, listed
from scmetaq._keys import as_name

from ._containers import Rows

_MOST_LOOKED_AT = 1_000  # cells by which a matrix counts as one of raw counts
_LEAST_GAIN = 0.2  # share of the names of a model that others must match beyond those that do
_SPELLINGS: dict[str, Callable[[str], str]] = {
    "n": str,
    "n.strip().upper()": lambda n: n.strip().upper(),
    're.sub(r"\\.\\d+$", "", n)': lambda n: re.sub(r"\.\d+$", "", n),
    're.sub(r"^\\w+?_+|\\.\\d+$", "", n).upper()': lambda n: re.sub(
        r"^\w+?_+|\.\d+$", "", n
    ).upper(),
    're.sub(r"\\W|_", "-", n).removeprefix("chr")': lambda n: re.sub(r"\W|_", "-", n).removeprefix(
        "chr"
    ),
    're.sub(r"[-_|].*", "", n)': lambda n: re.sub(r"[-_|].*", "", n),
    're.sub(r".*?[-_|]+", "", n, count=1)': lambda n: re.sub(r".*?[-_|]+", "", n, count=1),
}
"""Code that makes names alike that are spelled in other ways: capitals, versions, other signs."""


def held(where: str, layer: str | None) -> str:
    """What the user calls a matrix of counts."""
    return f"{where}.X" if layer is None else f"{where}.layers[{layer!r}]"


def changed(where: str, expression: str) -> str:
    """Code that replaces an AnnData, or a modality such as ``mdata['rna']``."""
    whole, bracket, name = where.partition("[")
    if not bracket:
        return f"{where} = {expression}"
    return f"{whole}.mod[{name} = {expression}; {whole}.update()"


def without_empty(where: str, layer: str | None, *, of_model: bool) -> str:
    """Code that leaves out cells without counts, or without any that a model reads."""
    if not of_model and layer is None:
        whole, bracket, _ = where.partition("[")
        update = f"; {whole}.update()" if bracket else ""  # of a modality
        return f"sc.pp.filter_cells({where}, min_counts=1){update}"
    _, bracket, name = where.partition("[")
    read = f"{where}[:, {where}.var_names.isin(model.get_var_names(){bracket}{name})]"
    counts = held(read if of_model else where, layer)
    return changed(where, f"{where}[np.asarray({counts}.sum(1)).ravel() > 0].copy()")


def only_measured_in_all(where: str, layer: str | None) -> str:
    """Code that leaves out features which cells have no finite value of."""
    counts = f"np.asarray({held(where, layer)}.sum(0))"
    return changed(where, f"{where}[:, np.isfinite({counts}).ravel()].copy()")


def where_counts_are(
    part: Any, layer: str | None, where: str, argument: str, *, is_query: bool
) -> tuple[str, str | None]:
    """Which matrix holds whole numbers, with a line that uses it, and the layer if it is one."""
    there = [name for name in layers_of(part) if name != layer]
    good = [name for name in there if _are_counts(part.layers[name])]
    good.sort(key=lambda name: re.search("ambiguous|unspliced", name.lower()) is not None)
    good.sort(key=lambda name: not re.search("count|raw|umi", name.lower()))
    into = held(where, layer)
    if good:
        text = f"{held(where, good[0])} holds whole numbers:"
        line = f"{into} = {held(where, good[0])}" if is_query else f'{argument}="{good[0]}"'
        return f"{text} {line}.", good[0]
    if layer is not None and _are_counts(part.X):
        line = f"{into} = {where}.X" if is_query else f"leave {argument} out"
        return f"{where}.X holds whole numbers: {line}.", "X" if is_query else None
    raw = getattr(part, "raw", None)
    if raw is not None and _are_counts(raw.X):
        line = changed(where, f"{where}.raw.to_adata()")
        line += "" if layer is None else f"; {into} = {where}.X"
        return f"{where}.raw holds whole numbers: {line}.", None
    others = f"layers there, {listed(there)}, hold none either" if there else "there are no layers"
    return f"Pass the cells as they were before: {others}.", None


def other_names(part: Any, known: pd.Index, where: str) -> str:
    """Names on both sides, and a line that renames features if it makes more of them match."""
    shown = f"The model knows {_first(known)}; {where}.var_names are {_first(part.var_names)}."
    columns = {f"{where}.var_names": part.var_names}
    for name, column in part.var.items():
        if not pd.api.types.is_numeric_dtype(column):
            columns[f"{where}.var[{name!r}]"] = pd.Index(column)
    best, n_best = "", int(known.isin(part.var_names).sum())
    n_best += int(_LEAST_GAIN * len(known))
    _, bracket, name = where.partition("[")
    for column, names in columns.items():
        for code, spelled in _SPELLINGS.items():
            n = len({spelled(as_name(of)) for of in names} & {spelled(as_name(of)) for of in known})
            if n > n_best:
                as_known = f"{{{code}: n for n in model.get_var_names(){bracket}{name}}}"
                line = f"known = {as_known}; {where}.var_names = [known.get({code}, n) for n in"
                best, n_best = f"{n:,} match by {line} {column}]", n
    update = f"; {where.partition('[')[0]}.update()" if best and bracket else ""
    return f"{shown} {best}{update}".rstrip() + ("." if best else "")


def _first(names: pd.Index) -> str:
    return listed(map(str, names[:3])) + (", ..." if len(names) > 3 else "")


def _are_counts(matrix: Any) -> bool:
    """Whether the first cells have whole numbers, none negative and some above zero."""
    if matrix is None or getattr(matrix, "dtype", np.dtype(object)).kind not in "biuf":
        return False
    rows = Rows(matrix)[: min(_MOST_LOOKED_AT, matrix.shape[0])]
    values = np.asarray(rows.data if sp.issparse(rows) else rows)
    is_whole = np.isfinite(values).all() and (values >= 0).all() and (values % 1 == 0).all()
    return bool(is_whole and values.any())
