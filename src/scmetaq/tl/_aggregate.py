"""Cells added up to metacells."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputTypeError, InputValueError, check_layer, layers_of
from scmetaq.data._containers import loaded, readable
from scmetaq.data._plain import plain
from scmetaq.metrics._counts import check_counts
from scmetaq.metrics._groups import as_embedding, cell_values, factorize_metacells
from scmetaq.tl._layers import COMPUTED
from scmetaq.tl._summarize import (
    find_covariates,
    mean_rows,
    split_metacells,
    sum_rows,
    summarize_obs,
    write_whole,
)

type By = str | Sequence[str] | pd.Series | ArrayLike


def aggregate[T: (AnnData, MuData)](
    adata_or_mdata: T,
    by: By = _keys.METACELL,
    *,
    layer: str | None = None,
    layers: Sequence[str] | None = None,
    obsm: Sequence[str] | None = None,
) -> T:
    r"""Make metacells of cells by any assignment: means and sums of raw counts, majority labels.

    .. math:: \hat x_k = \frac{1}{|M_k|} \sum_{i \in M_k} x_i

    Parameters
    ----------
    adata_or_mdata
        Cells with raw counts, not changed: AnnData, or MuData for metacells paired across
        modalities.
    by
        Metacell of each cell: a column of ``obs``, a Series aligned by barcode, or an array of
        shape ``(n_cells,)``; missing or -1: left out. Or a list of columns, such as
        ``["metacell", "donor"]``: metacells by the first are split by the others into pieces
        named ``"<metacell>:<donor>"``.
    layer
        Layer with the raw counts (in MuData: of each modality that has it, ``X`` of the others).
        None: ``X``.
    layers
        Further layers to sum, such as ``["spliced", "unspliced"]``, into layers of their names; or
        to compute from the counts: ``"log1p_mean"``, means of log1p counts per 10k, and
        ``"geometric_fraction"``, fractions by regularized geometric means as in metacells 2.
    obsm
        Entries of ``obsm`` to average, such as ``["spatial", "X_umap"]``: the place of a metacell
        among its cells.

    Returns
    -------
    One observation per metacell with at least one cell, in the order of the categories of ``by``
    if it is categorical, else sorted.

    - ``X``: mean raw counts (Eq. 17), CSR;
    - ``layers["counts"]``: summed raw counts, CSR;
    - ``obs["n_cells"]``: number of cells; per categorical, text or boolean column the majority
      value and ``<column>_fraction``, its fraction of the cells with a value, in place of a column
      of that name; means of numeric columns; others are left out. Of pieces, the first column of
      ``by`` names the metacell that each is a part of;
    - ``var`` and ``varm`` as in the cells;
    - ``uns["metaq"]``: how the metacells were made.

    In MuData a cell does not count in a modality that it is absent from; a metacell of only such
    cells is absent from it.

    Raises
    ------
    TypeError, KeyError, ValueError
        Not cells with counts: values are negative or missing, or names are unknown. Fractions
        give a warning.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 17.
    """
    data: Any = readable(adata_or_mdata)
    if not isinstance(data, AnnData | MuData):
        problem = f"Expected an AnnData or a MuData with cells, found {type(data).__name__}."
        raise InputTypeError(problem)
    columns = _columns_to_split_by(data, by)
    if columns:
        table = find_covariates(data, columns, what="by")
        whole = table[columns[0]]
        assignment = split_metacells(whole, table[columns[1:]])
    else:
        assignment = cell_values(data, by, what="by")
    check_layer(data, layer)
    parts = data.mod if isinstance(data, MuData) else {"": data}
    chosen = {name: layer if layer in layers_of(part) else None for name, part in parts.items()}
    for name, part in parts.items():
        check_counts(part, chosen[name], f"modality {name!r}, " if name else "")
    others = check_layers(data, layers)
    places = _places(data, [obsm] if isinstance(obsm, str) else obsm or [])
    metacells = (
        aggregate_modalities(data, assignment, layers=chosen, others=others)
        if isinstance(data, MuData)
        else aggregate_cells(data, assignment, layer=layer, others=others)
    )
    if columns:
        write_whole(metacells, whole, assignment, columns[0])
    of_cell = metacells.obs_names.get_indexer(assignment.astype(object).map(str, "ignore"))
    for name, values in places.items():
        metacells.obsm[name] = mean_rows(values, of_cell, metacells.n_obs)
    n_cells = int(metacells.obs[_keys.N_CELLS].sum())
    metacells.uns[_keys.UNS] = {
        "function": "scmetaq.tl.aggregate",
        "by": by if isinstance(by, str) else columns or "values given by the caller",
        "layer": "X" if layer is None else layer,
        "n_cells": n_cells,
        "n_cells_left_out": len(assignment) - n_cells,
        "n_metacells": metacells.n_obs,
        "scmetaq_version": version("scmetaq"),
    }
    return metacells


def aggregate_cells(
    adata: AnnData,
    assignment: pd.Series,
    *,
    layer: str | None = None,
    others: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    weights: sp.csr_matrix | None = None,
    **of_columns: Any,
) -> AnnData:
    """Aggregate one modality, in the order of ``categories``; see :func:`summarize_obs`.

    Of ``others``, further layers, those that it has are summed, or computed. With ``weights``,
    ``(n_cells, n_categories)``, of cells in metacells, sums and means are those of weighted cells.
    """
    column = _metacells(assignment, categories)
    X = adata.X if layer is None else adata.layers[layer]
    n, of_cells = len(column.categories), column.codes
    obs = plain(summarize_obs(_user_columns(adata.obs, assignment.name), column, **of_columns))
    sizes = obs[_keys.N_CELLS].to_numpy()
    if weights is not None:
        of_cells = weights[:, pd.Index(categories).get_indexer(column.categories)]
        sizes = obs[_keys.WEIGHT] = of_cells.sum(0).A1
    sums = sum_rows(X, of_cells, n)
    means = np.empty(sums.nnz, np.float32)
    for size, first, end in zip(sizes, sums.indptr, sums.indptr[1:], strict=False):
        means[first:end] = sums.data[first:end] / size
    of_others = {}
    for name in others or ():
        if name in COMPUTED:
            of_others[name] = COMPUTED[name](X, of_cells, sizes)
        elif name in adata.layers:
            of_others[name] = sum_rows(adata.layers[name], of_cells, n)
    varm = {
        k: plain(v) if isinstance(v, pd.DataFrame) else loaded(v) for k, v in adata.varm.items()
    }
    single = sums.astype(np.float32, copy=False)
    if np.array_equal(single.data, sums.data):  # else it cannot hold every sum
        sums = single
    return AnnData(
        X=sp.csr_matrix((means, sums.indices.copy(), sums.indptr.copy()), sums.shape),
        obs=obs,
        var=plain(adata.var),
        varm=varm,
        layers={_keys.COUNTS: sums, **of_others},
    )


def aggregate_modalities(
    mdata: MuData,
    assignment: pd.Series,
    *,
    layers: Mapping[str, str | None],
    others: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    weights: sp.csr_matrix | None = None,
    **of_columns: Any,
) -> MuData:
    """Aggregate the modalities of ``layers``, each from its layer, by one assignment."""
    column = _metacells(assignment, categories)
    options = of_columns | {"categories": list(column.categories)}
    parts = {}
    for name, layer in layers.items():
        part = mdata.mod[name]
        of_part = assignment.loc[part.obs_names]
        if weights is not None:
            options["weights"] = weights[assignment.index.get_indexer(part.obs_names)]
        parts[name] = aggregate_cells(part, of_part, layer=layer, others=others, **options)
    metacells = MuData(parts)
    columns = _user_columns(mdata.obs, assignment.name)
    summary = plain(summarize_obs(columns, column, **of_columns))
    if weights is not None:
        summary[_keys.WEIGHT] = weights.sum(0).A1
    metacells.obs, metacells.var = summary.loc[metacells.obs_names], plain(metacells.var)
    return metacells


def check_layers(data: AnnData | MuData, layers: Sequence[str] | None) -> list[str] | None:
    """Refuse further layers that no modality has, or that hold no counts; return their names."""
    if layers is None:
        return None
    if isinstance(layers, str) or not all(isinstance(name, str) for name in layers):
        problem = f"Expected `layers` to be a list of names of layers, found {layers!r}."
        raise InputTypeError(problem, argument="layers")
    parts = data.mod if isinstance(data, MuData) else {"": data}
    for name in (of for of in layers if of not in COMPUTED):
        check_layer(data, name)
        if name == _keys.COUNTS:
            problem = f"Expected `layers` besides the sums of the counts, found {name!r}: metacells"
            raise InputValueError(f"{problem} have these in it anyway.", "Leave it out.", "layers")
        for of, part in parts.items():
            if name in layers_of(part):
                check_counts(part, name, f"modality {of!r}, " if of else "")
    return list(layers)


def _places(data: AnnData | MuData, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Entries of ``obsm`` to average, by name."""
    there = [name for name in data.obsm if name not in getattr(data, "mod", {})]
    if absent := [name for name in names if name not in there]:
        problem = f"Expected `obsm` to name entries of obsm, found no {absent[0]!r}. There are:"
        raise InputKeyError(f"{problem} {there}.", argument="obsm")
    return {name: as_embedding(loaded(data.obsm[name]), f"obsm[{name!r}]") for name in names}


def _columns_to_split_by(data: AnnData | MuData, by: Any) -> list[str]:
    """The columns of a list of columns; none if there is one value per cell, or one column."""
    is_list = isinstance(by, list | tuple) and all(isinstance(name, str) for name in by)
    if not is_list or (len(by) == data.n_obs and not set(by) <= set(data.obs)):
        return []
    if len(set(by)) < len(by) and not set(by) & set(data.obs):
        problem = f"Expected `by` as columns of `obs`, or one value for each of the {data.n_obs}"
        raise InputValueError(f"{problem} cells, found {len(by)} values.")
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
        problem = "Expected `by` to name metacells, found"
        raise InputValueError(f"{problem} only missing values of {len(column)} cells.")
    return column


def _user_columns(obs: pd.DataFrame, by: Any) -> pd.DataFrame:
    """Drop scvi-tools' bookkeeping and the assignment itself, also if pulled from a modality."""
    dropped = {by, *(c for c in obs.columns if str(c).endswith(f":{by}"))}
    return obs[[c for c in obs.columns if c not in dropped and not _keys.is_bookkeeping(c)]]
