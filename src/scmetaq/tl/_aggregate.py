"""Cells added up to metacells."""

import copy
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, overload

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._counts import check_count_values
from scmetaq.metrics._groups import factorize_metacells
from scmetaq.tl._split_metacells import (
    find_covariates,
    metacell_of_piece,
    split_metacells,
    with_metacell,
)
from scmetaq.tl._summarize_obs import summarize_obs

_BLOCK = 65_536
"""Cells that are read at once."""

type By = str | Sequence[str] | pd.Series | ArrayLike


@overload
def aggregate(adata_or_mdata: AnnData, by: By = ..., *, layer: str | None = ...) -> AnnData: ...
@overload
def aggregate(adata_or_mdata: MuData, by: By = ..., *, layer: str | None = ...) -> MuData: ...
def aggregate(
    adata_or_mdata: AnnData | MuData,
    by: By = _keys.METACELL,
    *,
    layer: str | None = None,
) -> AnnData | MuData:
    r"""Make metacells of cells: mean and summed raw counts, majority labels, numeric means.

    .. math:: \hat x_k = \frac{1}{|M_k|} \sum_{i \in M_k} x_i

    Works with any method's assignment. The cells are not changed.

    Parameters
    ----------
    adata_or_mdata
        Cells with raw counts: AnnData, or MuData for metacells paired across modalities.
    by
        Metacell of each cell: a column of ``obs``, a Series aligned by barcode, or an array of
        shape ``(n_cells,)`` in the order of the cells. Cells whose value is missing or the number
        -1 are left out; every other value names a metacell. Or a list of columns, such as
        ``["metacell", "donor"]``: metacells by the first are split by the others into pieces
        named ``"<metacell>:<donor>"`` that never mix them.
    layer
        Layer with the raw counts (in MuData: of each modality that has it, ``X`` of the others).
        None: ``X``.

    Returns
    -------
    One observation per metacell with at least one cell, in the order of the categories of ``by``
    if it is categorical, else sorted.

    - ``X``: mean raw counts (Eq. 17), CSR;
    - ``layers["counts"]``: summed raw counts, CSR;
    - ``obs["n_cells"]``: number of cells; per categorical, text or boolean column the majority
      value and ``<column>_fraction``, the fraction of the cells with a value that have this one,
      in place of a column of that name; means of other numeric columns. Columns of other kinds
      are left out. Of pieces, the first column of ``by`` names the metacell that each is a part
      of;
    - ``var`` and ``varm`` as in the cells;
    - ``uns["metaq"]``: how the metacells were made.

    In MuData a cell that is absent from a modality does not count there, and a metacell without
    any cell in a modality is absent from it.

    Raises
    ------
    TypeError, KeyError, ValueError
        Not cells with counts: values are negative or missing, or names are unknown. Fractions
        give a warning.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 17.
    """
    _check_data(adata_or_mdata)
    columns = _columns_to_split_by(adata_or_mdata, by)
    if columns:
        table = find_covariates(adata_or_mdata, columns, what="by")
        whole = table[columns[0]]
        assignment = split_metacells(whole, table[columns[1:]])
    else:
        assignment = cell_values(adata_or_mdata, by, what="by")
    metacells: AnnData | MuData
    if isinstance(adata_or_mdata, MuData):
        layers = _layer_of_each(adata_or_mdata, layer)
        for name, of_name in layers.items():
            _check_counts(adata_or_mdata.mod[name], of_name, name)
        metacells = aggregate_modalities(adata_or_mdata, assignment, layers=layers)
    else:
        _check_counts(adata_or_mdata, layer)
        metacells = aggregate_cells(adata_or_mdata, assignment, layer=layer)
    if columns:
        with_metacell(metacells, metacell_of_piece(whole, assignment), columns[0])
    n_cells = int(metacells.obs[_keys.N_CELLS].sum())
    metacells.uns[_keys.UNS] = {
        "function": "scmetaq.tl.aggregate",
        "by": by if isinstance(by, str) else columns or "values given by the caller",
        "layer": "X" if layer is None else layer,
        "n_cells": n_cells,
        "n_cells_left_out": len(assignment) - n_cells,
        "n_metacells": metacells.n_obs,
        "scmetaq_version": _own_version(),
    }
    return metacells


def aggregate_cells(
    adata: AnnData,
    assignment: pd.Series,
    *,
    layer: str | None = None,
    categories: Sequence[str] | None = None,
    categorical: Collection[str] = (),
) -> AnnData:
    """Aggregate one modality by an assignment indexed by barcode (see ``aggregate``).

    Parameters
    ----------
    adata
        Cells, shape ``(n_cells, n_features)``.
    assignment
        Metacell of each cell, in the order of the cells; missing: left out.
    layer
        Layer with the raw counts; None: ``X``.
    categories
        All names of metacells in the order wanted; those without cells do not appear.
        None: the order of the assignment's categories, or sorted.
    categorical
        Columns of ``obs`` whose values are names, also where they are numbers.
    """
    column = _metacells(assignment, categories)
    counts = _matrix(adata, layer)
    sums = _sum_rows(counts, column.codes, len(column.categories))  # K x F
    sizes = np.bincount(column.codes[column.codes >= 0], minlength=len(column.categories))
    means = sums.copy()
    means.data /= np.repeat(sizes, np.diff(sums.indptr))
    columns = _user_columns(adata.obs, assignment.name)
    return AnnData(
        X=means.astype(np.float32),
        obs=summarize_obs(columns, column, categorical=categorical),
        var=adata.var.copy(),
        varm=copy.deepcopy(dict(adata.varm)),
        layers={_keys.COUNTS: _smallest_exact(sums)},
    )


def aggregate_modalities(
    mdata: MuData,
    assignment: pd.Series,
    *,
    layers: Mapping[str, str | None],
    categories: Sequence[str] | None = None,
    categorical: Collection[str] = (),
) -> MuData:
    """Aggregate modalities by one assignment indexed by barcode (see ``aggregate``).

    Parameters
    ----------
    mdata
        Paired cells.
    assignment
        Metacell of each cell, in the order of ``mdata.obs_names``; missing: left out.
    layers
        Modalities to aggregate, and the layer with the raw counts of each; None: ``X``.
    categories
        All names of metacells in the order wanted; those without cells do not appear.
    categorical
        Columns of ``obs`` whose values are names, also where they are numbers.
    """
    column = _metacells(assignment, categories)
    modalities = {
        name: aggregate_cells(
            mdata.mod[name],
            assignment.loc[mdata.mod[name].obs_names],
            layer=layer,
            categories=list(column.categories),
            categorical=categorical,
        )
        for name, layer in layers.items()
    }
    metacells = MuData(modalities)
    columns = _user_columns(mdata.obs, assignment.name)
    summary = summarize_obs(columns, column, categorical=categorical)
    metacells.obs = summary.loc[metacells.obs_names]
    return metacells


def _check_data(data: Any) -> None:
    if not isinstance(data, AnnData | MuData):
        raise TypeError(f"Expected an AnnData or a MuData with cells, found {type(data).__name__}.")


def _columns_to_split_by(data: AnnData | MuData, by: Any) -> list[str]:
    """The columns of a list of columns; none if there is one value per cell, or one column."""
    is_list = isinstance(by, list | tuple) and all(isinstance(name, str) for name in by)
    if not is_list or (len(by) == data.n_obs and not set(by) <= set(data.obs)):
        return []
    if len(set(by)) < len(by) and not set(by) & set(data.obs):
        raise ValueError(
            f"Expected `by` as columns of `obs`, or one value for each of the {data.n_obs} cells, "
            f"found {len(by)} values."
        )
    return list(by)


def _metacells(assignment: pd.Series, categories: Sequence[str] | None) -> pd.Categorical:
    """Read an assignment as text categories, all of them with cells."""
    column = factorize_metacells(assignment)
    column = column.rename_categories(column.categories.astype(str))
    if categories is not None:
        present = set(column.categories)
        assert present <= set(categories), "categories must name every metacell"
        column = column.set_categories([name for name in categories if name in present])
    if len(column.categories) == 0:
        raise ValueError(
            f"Expected cells with a metacell, found only missing values among {len(column)} cells. "
            "Pass an assignment that names the metacell of at least one cell."
        )
    return column


def _layers(adata: AnnData) -> list[str]:
    return sorted(filter(None, adata.layers.keys()))


def _matrix(adata: AnnData, layer: str | None) -> Any:
    if layer is not None and layer not in _layers(adata):
        raise KeyError(
            f"Expected `layer` to name a layer, found no {layer!r}. Layers: {_layers(adata)}."
        )
    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        raise ValueError(
            f"Expected raw counts in `X`, found nothing. Name their layer: {_layers(adata)}."
        )
    return X


def _check_counts(adata: AnnData, layer: str | None, modality: str | None = None) -> None:
    """Refuse negative and missing values; warn of fractions."""
    X = _matrix(adata, layer)
    where = "" if modality is None else f"modality {modality!r}, "
    where += "`X`" if layer is None else f"layer {layer!r}"
    check_count_values(X, where, _layers(adata), stacklevel=4)


def _layer_of_each(mdata: MuData, layer: str | None) -> dict[str, str | None]:
    """The layer where a modality has it, else None."""
    layers = {name: _layers(adata) for name, adata in mdata.mod.items()}
    if layer is not None and not any(layer in names for names in layers.values()):
        raise KeyError(
            f"Expected `layer` to name a layer of a modality, found no {layer!r}. Layers: {layers}."
        )
    return {name: layer if layer in names else None for name, names in layers.items()}


def _sum_rows(X: Any, codes: np.ndarray, n_groups: int, block_size: int = _BLOCK) -> sp.csr_matrix:
    """Sum the rows of each group in double precision, sparse, K x F.

    ``scanpy.get.aggregate`` makes dense K x F arrays, too large for peaks of many metacells.
    Blocks keep the copy in double precision small, and let matrices on disk be read in turn.
    """
    X = X.tocsr() if sp.issparse(X) else X
    total = sp.csr_matrix((n_groups, X.shape[1]), dtype=np.float64)
    for start in range(0, X.shape[0], block_size):
        block = sp.csr_matrix(X[start : start + block_size])
        of_block = codes[start : start + block_size]
        cells = np.flatnonzero(of_block >= 0)
        indicator = sp.csr_matrix(
            (np.ones(len(cells)), (of_block[cells], cells)), shape=(n_groups, len(of_block))
        )
        total += indicator @ block
    total.sort_indices()
    return total


def _smallest_exact(sums: sp.csr_matrix) -> sp.csr_matrix:
    """Single precision where it holds every sum exactly, else double."""
    single = sums.astype(np.float32)
    return single if np.array_equal(single.data, sums.data) else sums


def _user_columns(obs: pd.DataFrame, by: Any) -> pd.DataFrame:
    """Drop scvi-tools' bookkeeping and the assignment itself, also if pulled from a modality."""
    dropped = {by, *(c for c in obs.columns if str(c).endswith(f":{by}"))}
    return obs[[c for c in obs.columns if c not in dropped and not _keys.is_bookkeeping(c)]]


def _own_version() -> str:
    try:
        return version("scmetaq")
    except PackageNotFoundError:  # a source tree that was not installed
        return "unknown"
