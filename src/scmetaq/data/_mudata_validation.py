"""Checks of MuData. Each says what was expected, what was found and how to mend it."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from ._validation import check_anndata, check_columns, check_unique, with_features

_FEW_SHARED = 100
"""Cells of several modalities from which it can surely be told how these go together."""


def unique_names_of(mdata: str) -> str:
    """Code that makes the barcodes of a MuData unique."""
    return (
        f"for part in {mdata}.mod.values(): part.obs_names_make_unique(), and put the modalities "
        f"together again, {mdata} = mudata.MuData(dict({mdata}.mod)), and give it its obs"
    )


def check_is_mudata(mdata: Any) -> None:
    """Refuse anything but a MuData.

    Raises
    ------
    TypeError
        Not a MuData.
    """
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"Expected a MuData, found {type(mdata).__name__}. Put modalities together with "
            'mudata.MuData({"rna": rna, "adt": adt}), or use setup_anndata for one of them.'
        )


def check_mudata(
    mdata: MuData,
    names: Mapping[str, str],
    layers: Mapping[str, str | None],
    *,
    is_query: bool = False,
    called: str = "mdata",
) -> None:
    """Refuse modalities that are not raw counts of named cells, before any work starts.

    Parameters
    ----------
    mdata
        The cells.
    names
        Name of the modality of each kind of counts.
    layers
        Layer with the raw counts of each kind; None for ``X``.
    is_query
        Whether features without counts are nothing to speak of.
    called
        What the user calls the cells.

    Raises
    ------
    KeyError
        No such layer.
    ValueError
        Empty data, duplicate barcodes, values that are not counts, cells without counts, or
        modalities that do not go together.
    """
    check_unique(mdata.obs_names, "barcodes (obs_names)", unique_names_of(called))
    for name in names.values():
        _check_is_up_to_date(mdata, name)
    for kind, name in names.items():
        if is_query and mdata.mod[name].n_obs == 0:  # a modality that no new cell has
            continue
        where = f"{called}[{name!r}]"
        check_anndata(mdata.mod[name], layer=layers[kind], is_query=is_query, where=where)
    _check_go_together(mdata, list(names.values()), is_query=is_query)


def _check_is_up_to_date(mdata: MuData, name: str) -> None:
    adata = mdata.mod[name]
    row = np.asarray(mdata.obsmap[name]).ravel().astype(np.int64) - 1
    there = row >= 0
    is_valid = there.sum() == adata.n_obs and (row < adata.n_obs).all()
    if not is_valid or not mdata.obs_names[there].equals(adata.obs_names[row[there]]):
        raise ValueError(
            f"The cells of mdata[{name!r}] are not those that the MuData has on record: it was "
            "changed since. Fix: mdata.update()."
        )


def _check_go_together(mdata: MuData, names: list[str], *, is_query: bool) -> None:
    present = np.column_stack([np.asarray(mdata.obsmap[name]).ravel() > 0 for name in names])
    n_without = int((~present.any(1)).sum())
    if n_without:
        raise ValueError(
            f"{n_without} of {mdata.n_obs} cells have none of the modalities in use "
            f"({', '.join(map(repr, names))}). Leave them out: mdata[...].copy() of the others."
        )
    if is_query or len(names) < 2:
        return
    for i, name in enumerate(names):
        shared = int((present[:, [i]] & np.delete(present, i, axis=1)).any(1).sum())
        n_cells = int(present[:, i].sum())
        if not shared:
            raise ValueError(
                f"Expected cells that have mdata[{name!r}] and another modality, found none among "
                f"{mdata.n_obs}: nothing tells how the modalities go together. Give the same cell "
                "the same barcode in each modality, or treat the modalities one by one."
            )
        if shared < min(_FEW_SHARED, n_cells / 10):
            warnings.warn(
                f"{shared} of the {n_cells} cells of mdata[{name!r}] have another "
                "modality too: these few tell how the modalities go together. If it should be "
                "more, see whether the same cell has the same barcode in each modality.",
                UserWarning,
                stacklevel=4,
            )


def check_paired(mdata: MuData, names: list[str]) -> None:
    """Refuse cells that lack one of the modalities.

    Raises
    ------
    ValueError
        Such cells are there; the message says how many and how to leave them out.
    """
    present = np.column_stack([np.asarray(mdata.obsmap[name]).ravel() > 0 for name in names])
    n_without = int((~present.all(1)).sum())
    if n_without:
        raise ValueError(
            f"Expected cells that all have {' and '.join(f'mdata[{n!r}]' for n in names)}, found "
            f"{n_without} of {mdata.n_obs} that do not (mosaic data). Leave them out with "
            "muon.pp.intersect_obs(mdata), or use MetaQModel, which takes them."
        )


def check_mudata_columns(
    mdata: MuData, keys: Mapping[str, list[str]], where: Mapping[str, str], missing_value: str
) -> None:
    """Refuse names of ``obs`` columns that do not exist or hold nothing.

    Parameters
    ----------
    mdata
        The cells.
    keys
        Columns by the argument that names them.
    where
        Modality whose ``obs`` has the columns of an argument; by default that of the MuData.
    missing_value
        What stands for no value.

    Raises
    ------
    KeyError, ValueError
        As :func:`check_columns`.
    """
    for argument, columns in keys.items():
        name = where.get(argument)
        data, what = (mdata, "mdata") if name is None else (mdata.mod[name], f"mdata[{name!r}]")
        check_columns(data, columns, missing_value=missing_value, where=what)


def with_modality_features(
    mdata: MuData, features: Mapping[str, pd.Index], layers: Mapping[str, str | None]
) -> MuData:
    """New cells with the modalities and features of a model, in its order.

    Parameters
    ----------
    mdata
        The cells.
    features
        Names of the features of each modality, by its name.
    layers
        Layer with the raw counts by modality; None for ``X``.

    Returns
    -------
    ``mdata`` itself where its features are those of the model already, else a copy. A modality
    that it lacks is there without cells.

    Raises
    ------
    TypeError
        Not a MuData.
    ValueError
        All modalities, or some features of one, are missing.
    """
    check_is_mudata(mdata)
    there = mdata.mod
    if not any(name in there for name in features):
        raise ValueError(
            f"Expected modalities that the model was trained on, "
            f"{', '.join(map(repr, features))}, found {', '.join(map(repr, there)) or 'none'}."
        )
    if all(name in there and there[name].var_names.equals(of) for name, of in features.items()):
        return mdata
    parts = {
        name: with_features(there[name], of) if name in there else without_cells(of, layers[name])
        for name, of in features.items()
    }
    aligned = MuData(parts)
    aligned.obs = mdata.obs.loc[aligned.obs_names]
    return aligned[mdata.obs_names].copy() if aligned.n_obs == mdata.n_obs else aligned


def without_cells(names: pd.Index, layer: str | None) -> AnnData:
    """A modality with these features that no cell has, with the layer that counts are in."""
    counts = sp.csr_matrix((0, len(names)), dtype=np.float32)
    layers = None if layer is None else {layer: counts}
    return AnnData(counts, var=pd.DataFrame(index=names), layers=layers)
