"""Metacells that were made separately, together."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import anndata
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputTypeError, InputValueError, check_choice, check_unique
from scmetaq.data._plain import plain


def merge_metacells[T: (AnnData, MuData)](
    metacells: Sequence[T] | Mapping[str, T],
    keys: Sequence[str] | None = None,
    *,
    join: Literal["inner", "outer"] = "inner",
    label: str = "origin",
) -> T:
    """Concatenate metacells that were made separately, such as one sample at a time.

    Parameters
    ----------
    metacells
        Metacells of :func:`aggregate` or ``get_metacells``, all AnnData or all MuData, not changed;
        or a dict of them by key.
    keys
        Name of each, by default ``"0"``, ``"1"``, ...
    join
        ``"inner"`` keeps the features that all have, ``"outer"`` all features: those that one lacks
        are zero there.
    label
        Column of ``obs`` for the key of each metacell.

    Returns
    -------
    The metacells of all in turn, named ``"<key>:<metacell>"``, with the layers that all have,
    columns of ``obs`` of any and of ``var`` where they agree. ``uns["metaq"]["parts"]`` says, by
    key, how each was made. Of MuData each modality is concatenated, those that all have with
    ``join="inner"``.

    Raises
    ------
    TypeError, ValueError
        Not metacells of one kind, keys that are not unique, or no feature that all have.
    """
    given: Any = metacells
    if isinstance(given, Mapping):
        keys, given = list(given) if keys is None else keys, given.values()
    parts = list(given)
    keys = list(map(str, range(len(parts)) if keys is None else keys))
    check_choice("join", join, ("inner", "outer"))
    kinds = {type(part) for part in parts}
    if not parts or len(kinds) > 1 or not kinds <= {AnnData, MuData}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        problem = f"Expected metacells as AnnData, or all as MuData, found {found}."
        raise InputTypeError(problem, argument="metacells")
    if len(keys) != len(parts):
        problem = f"Expected a key for each of {len(parts)} sets of metacells, found {len(keys)}."
        raise InputValueError(problem, argument="keys")
    check_unique(pd.Index(keys), "keys", "name each set of metacells once", "keys")
    named: Any = dict(zip(keys, parts, strict=True))
    merged: Any = _of_mudata(named, join, label) if kinds == {MuData} else _of(named, join, label)
    of_parts = {key: dict(part.uns.get(_keys.UNS, {})) for key, part in named.items()}
    n_cells = sum(int(part.obs[_keys.N_CELLS].sum()) for part in parts if _keys.N_CELLS in part.obs)
    merged.uns[_keys.UNS] = {
        "function": "scmetaq.tl.merge_metacells",
        "n_metacells": merged.n_obs,
        "n_cells": n_cells,
        "parts": of_parts,
    }
    return merged


def _of(parts: Mapping[str, AnnData], join: Any, label: str) -> AnnData:
    for key, part in parts.items():
        check_unique(part.var_names, f"features of {key!r}", "make var_names unique", "metacells")
    merged = anndata.concat(parts, join=join, merge="same", label=label, index_unique=None)
    if merged.n_vars == 0:
        first = [f"{part.var_names[:3].tolist()} of {key!r}" for key, part in parts.items()]
        problem = f"Expected features that all metacells have, found none: {' and '.join(first)}."
        fix = "Bring the names to one form, or pass join='outer'."
        raise InputValueError(problem, fix, "metacells")
    origin = merged.obs[label].astype(str)
    merged.obs_names = [f"{key}:{name}" for key, name in zip(origin, merged.obs_names, strict=True)]
    merged.obs, merged.var = plain(merged.obs), plain(merged.var)
    return merged


def _of_mudata(parts: Mapping[str, MuData], join: Any, label: str) -> MuData:
    every = [set(part.mod) for part in parts.values()]
    kept = set.intersection(*every) if join == "inner" else set.union(*every)
    order = dict.fromkeys(name for part in parts.values() for name in part.mod if name in kept)
    mod = {
        name: _of({k: part.mod[name] for k, part in parts.items() if name in part.mod}, join, label)
        for name in order
    }
    merged = MuData(mod)
    columns = pd.concat({key: part.obs for key, part in parts.items()})
    columns.insert(0, label, columns.index.get_level_values(0))
    columns.index = [":".join(map(str, pair)) for pair in columns.index]
    merged.obs, merged.var = plain(columns.loc[merged.obs_names]), plain(merged.var)
    return merged
