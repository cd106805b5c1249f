"""Which features, or which embedding, cells are grouped by, where the user says so."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scmetaq._errors import InputKeyError, InputTypeError, InputValueError, listed

from ._cells import Source, called, part_of
from ._containers import loaded

Features = str | Collection[str] | Mapping[str, Collection[str]] | None
"""A boolean column of ``var``, names, or names by kind of counts."""


def find_features(
    data: Any, sources: Mapping[str, Source], given: Features, argument: str, where: str
) -> dict[str, list[str]] | None:
    """Names of the features that an argument means, by kind; kinds that it is not about lack.

    A column is looked up in the ``var`` of each kind. Of a list every name must exist.
    """
    if given is None or isinstance(given, Mapping):  # of a saved model
        return None if given is None else {kind: list(names) for kind, names in given.items()}
    parts = {kind: part_of(data, source.modality) for kind, source in sources.items()}
    if isinstance(given, str):
        found = {
            kind: part.var_names[_is_true(part, given, argument)].tolist()
            for kind, part in parts.items()
            if given in part.var
        }
        if not found:
            there = {name: None for part in parts.values() for name in part.var}
            columns = called(where, next(iter(sources.values())).modality)
            problem = f"No column {given!r} in {columns}.var for {argument}. Columns there:"
            raise InputKeyError(f"{problem} {listed(there)}.", argument=argument)
    else:
        names = pd.Index(list(given)).astype(str)
        found = {
            k: part.var_names[part.var_names.isin(names)].tolist() for k, part in parts.items()
        }
        found = {kind: of for kind, of in found.items() if of}
        known = {name for of in found.values() for name in of}
        if unknown := [name for name in names if name not in known]:
            first = [str(name) for part in parts.values() for name in part.var_names[:3]]
            problem = f"Expected `{argument}` to name features, found {len(unknown):,} unknown,"
            raise InputKeyError(
                f"{problem} e.g. {unknown[0]!r}. Features are called {listed(first)}, ...",
                f"Leave them out: [f for f in {argument} if f in {where}.var_names].",
                argument,
            )
    if not any(found.values()):
        raise InputValueError(f"Expected `{argument}` to name features, found none.", "", argument)
    return found


def _is_true(part: Any, column: str, argument: str) -> np.ndarray:
    values = pd.Series(part.var[column])
    if not pd.api.types.is_bool_dtype(values.dtype):
        problem = f"Expected the column {column!r} of var to be boolean for {argument}, found"
        raise InputTypeError(f"{problem} {values.dtype}.", argument=argument)
    return values.fillna(False).to_numpy(bool)


def may_be_read(
    names: pd.Index, features: Collection[str] | None, excluded: Collection[str] | None
) -> np.ndarray | None:
    """Which features cells may be grouped by, ``(n_features,)`` bool; None: any."""
    if features is None and excluded is None:
        return None
    allowed = np.ones(len(names), bool) if features is None else names.isin(list(features))
    return allowed & ~names.isin(list(excluded or ()))


def check_embedding(data: Any, use_rep: str | None, where: str, width: int | None = None) -> None:
    """Refuse an entry of ``obsm`` that is no embedding of all cells, or of another width."""
    if use_rep is None:
        return
    there = [name for name in data.obsm if name not in getattr(data, "mod", {})]
    if use_rep not in there:
        problem = f"No embedding {use_rep!r} in {where}.obsm. Entries there: {listed(there)}."
        fix = "" if width is None else "Compute it for these cells as for those of the model."
        for name, part in getattr(data, "mod", {}).items():
            if (own := use_rep.removeprefix(f"{name}:")) in part.obsm and width is None:
                copy = f"{where}.obsm[{own!r}] = {where}[{name!r}].obsm[{own!r}]"
                fix = f"Copy that of the modality, and name {own!r}: {copy}."
        raise InputKeyError(problem, fix, "use_rep")
    rows = np.asarray(loaded(data.obsm[use_rep]))
    is_wrong = rows.dtype.kind not in "fiu" or rows.ndim != 2 or not np.isfinite(rows).all()
    if is_wrong or rows.shape[1] == 0:
        problem = f"Expected {where}.obsm[{use_rep!r}] to be a matrix of finite numbers, found"
        raise InputValueError(f"{problem} {rows.dtype} of shape {rows.shape}.", "", "use_rep")
    if width is not None and rows.shape[1] != width:
        problem = f"Expected {where}.obsm[{use_rep!r}] with the {width} dimensions of the model's,"
        raise InputValueError(f"{problem} found {rows.shape[1]}.", "", "use_rep")
    if not np.ptp(rows, axis=0).any() and width is None:
        problem = f"Expected {where}.obsm[{use_rep!r}] to differ between cells, found one value."
        raise InputValueError(problem, "", "use_rep")
