"""New cells in the form of a model's own: its features in its order, in an object of our own."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from ._blocks import by_rows
from ._mudata_validation import check_is_mudata, unique_names_of, without_cells
from ._validation import check_layer, check_unique


class Aligned(NamedTuple):
    """Cells with the features of a model."""

    data: Any
    """AnnData or MuData of our own, which may share counts with the user's."""
    missing: dict[str, pd.Index]
    """Features of the model that the cells were not measured in, by modality or kind."""


def aligned_adata(
    adata: AnnData,
    names: pd.Index,
    *,
    layer: str | None,
    lacking: pd.Index | None = None,
    where: str = "query",
) -> tuple[AnnData, pd.Index]:
    """Cells with the features of a model in its order; missing ones have no counts.

    Parameters
    ----------
    adata
        The user's cells, which are not changed.
    names
        Features of the model.
    layer
        Layer with the raw counts; None for ``X``.
    lacking
        Features of the model that are not read, although they may be there.
    where
        What the user calls the cells.

    Returns
    -------
    An AnnData of our own, with the counts where the user's has them, and the missing features.

    Raises
    ------
    TypeError, KeyError, ValueError
        Not an AnnData, no such layer, or names that occur more than once.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"Expected {where} to be an AnnData, found {type(adata).__name__}. Read a file first, "
            "e.g. query = anndata.read_h5ad(path)."
        )
    if adata.isbacked:
        adata = adata.to_memory()
    check_layer(adata, layer, where)
    check_unique(adata.obs_names, "barcodes (obs_names)", f"{where}.obs_names_make_unique()")
    check_unique(adata.var_names, "feature names (var_names)", f"{where}.var_names_make_unique()")
    counts = adata.X if layer is None else adata.layers[layer]
    is_there = names.isin(adata.var_names)
    if lacking is not None:
        is_there &= ~names.isin(lacking)
    if not (is_there.all() and adata.var_names.equals(names)):
        counts = _placed(counts, adata.var_names.get_indexer(names[is_there]), is_there)
    own = AnnData(
        counts if layer is None else None,
        obs=adata.obs.copy(),
        var=adata.var.reindex(names),
        layers=None if layer is None else {layer: counts},
    )
    return own, names[~is_there]


def _placed(counts: Any, columns: np.ndarray, is_there: np.ndarray) -> sp.csr_matrix:
    """Some columns, in their order, put among columns without counts."""
    chosen = sp.csr_matrix(by_rows(counts)[:, columns])
    place = np.flatnonzero(is_there)
    shape = (chosen.shape[0], len(is_there))
    return sp.csr_matrix((chosen.data, place[chosen.indices], chosen.indptr), shape=shape)


def aligned_mudata(
    mdata: MuData,
    names: Mapping[str, pd.Index],
    *,
    layers: Mapping[str, str | None],
    lacking: Mapping[str, pd.Index] | None = None,
) -> Aligned:
    """Cells with the modalities and features of a model; a missing modality has no cells.

    Parameters
    ----------
    mdata
        The user's cells, which are not changed.
    names
        Features of the model by modality.
    layers
        Layer with the raw counts by modality; None for ``X``.
    lacking
        Features that are not read, although they may be there, by modality.

    Raises
    ------
    TypeError, KeyError, ValueError
        As :func:`aligned_adata`, or none of the modalities is there.
    """
    check_is_mudata(mdata)
    check_unique(mdata.obs_names, "barcodes (obs_names)", unique_names_of("query"))
    if not any(name in mdata.mod for name in names):
        there = ", ".join(map(repr, mdata.mod)) or "none"
        raise ValueError(
            f"Expected at least one of the reference's modalities, {', '.join(map(repr, names))}, "
            f"found {there}. Give modalities the names that the reference has."
        )
    parts, missing = {}, {}
    for name, features in names.items():
        layer, less = layers[name], (lacking or {}).get(name)
        if name not in mdata.mod:
            parts[name], missing[name] = without_cells(features, layer), features[:0]
            continue
        part, where = mdata.mod[name], f"query[{name!r}]"
        parts[name], missing[name] = aligned_adata(
            part, features, layer=layer, lacking=less, where=where
        )
    own = MuData(parts)
    own.obs = mdata.obs.loc[own.obs_names]
    if own.n_obs == mdata.n_obs and not own.obs_names.equals(mdata.obs_names):
        own = own[mdata.obs_names].copy()
    return Aligned(own, missing)
