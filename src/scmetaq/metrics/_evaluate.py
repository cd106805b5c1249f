"""The one metric that sees AnnData: all metrics of an assignment in a tidy table."""

import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._balanced_accuracy import balanced_accuracy
from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._compactness import compactness
from scmetaq.metrics._groups import group_cells
from scmetaq.metrics._purity import purity
from scmetaq.metrics._separation import separation
from scmetaq.metrics._size_summary import size_summary

BETTER: dict[str, Literal["higher", "lower", ""]] = {
    "compactness": "higher",
    "separation": "higher",
    "purity": "higher",
    "balanced_accuracy": "higher",
    "unassigned": "lower",
}


def evaluate(
    adata: AnnData,
    assignment: str | pd.Series | ArrayLike = _keys.METACELL,
    labels: str | pd.Series | ArrayLike | None = None,
    *,
    layer: str | None = None,
    n_top_genes: int = 3000,
) -> pd.DataFrame:
    """Judge the metacells of any method.

    Compactness and separation are measured on log1p counts per 10k of the most variable genes,
    computed here from raw counts of the assigned cells. ``adata`` is not changed.

    Parameters
    ----------
    adata
        Cells with raw counts.
    assignment
        Metacell of each cell: a column of ``obs``, a Series aligned by barcode, or an array in
        the order of the cells. Missing values and the number -1 mark cells without a metacell;
        they are counted as ``unassigned`` and otherwise left out.
    labels
        Label of each cell, given like ``assignment``; missing labels are left out of purity and
        balanced accuracy. None: these two are not computed.
    layer
        Layer with the raw counts. None: ``adata.X``.
    n_top_genes
        Number of most variable genes that compactness and separation use; data with no more
        genes is used whole.

    Returns
    -------
    One row per number, with the columns ``metric``, ``metacell`` (NaN where the number is about
    the whole assignment), ``value`` and ``better`` (``"higher"``, ``"lower"`` or ``""``).

    - per metacell: ``n_cells`` (cells), ``compactness``, ``separation``, ``purity``;
    - whole: ``n_metacells``, ``unassigned`` (cells), ``size_median``, ``size_min``, ``size_max``
      (cells), ``size_cv``, ``balanced_accuracy``.

    ``frame.groupby("metric")["value"].mean()`` gives the papers' number for every metric.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 22 to 24.
    """
    _check_anndata(adata)
    metacells = cell_values(adata, assignment, what="assignment")
    kinds = None if labels is None else cell_values(adata, labels, what="labels")
    groups = group_cells(metacells)
    kept = groups.codes >= 0
    X = _log_normalised(_counts(adata, layer)[kept], n_top_genes)
    sizes = pd.Series(groups.sizes, index=groups.names, name=_keys.N_CELLS)
    per_metacell = [sizes, compactness(X, metacells[kept]), separation(X, metacells[kept])]
    whole: dict[str, float] = size_summary(metacells)._asdict()
    if kinds is not None:
        per_metacell.append(purity(metacells, kinds))
        whole["balanced_accuracy"] = balanced_accuracy(metacells, kinds)
    return _tidy(per_metacell, whole)


def _check_anndata(adata: Any) -> None:
    if not isinstance(adata, AnnData):
        hint = " Pass one modality, e.g. `mdata['rna']`." if hasattr(adata, "mod") else ""
        raise TypeError(f"Expected an AnnData, found {type(adata).__name__}.{hint}")


def _counts(adata: AnnData, layer: str | None) -> Any:
    """Return raw counts, N x F, refusing what cannot be counts."""
    layers = sorted(filter(None, adata.layers.keys()))
    if layer is not None and layer not in layers:
        raise KeyError(f"Expected `layer` to name a layer, found no {layer!r}. Layers: {layers}.")
    X: Any = adata.X if layer is None else adata.layers[layer]
    where = "`adata.X`" if layer is None else f"layer {layer!r}"
    if X is None:
        raise ValueError(f"Expected raw counts in {where}, found nothing. Layers: {layers}.")
    X = X[:] if adata.isbacked else X
    values = np.asarray(X.data if sp.issparse(X) else X)
    n_wrong = int((~(values >= 0)).sum())
    if n_wrong > 0:
        raise ValueError(
            f"Expected raw counts in {where}, found {n_wrong} values that are negative or NaN. "
            f"Name the layer with raw counts by `layer=`; layers: {layers}."
        )
    if (values != np.floor(values)).any():
        warnings.warn(
            f"Expected raw counts in {where}, found fractions. If these are normalised values, "
            f"name the layer with raw counts by `layer=`; layers: {layers}.",
            UserWarning,
            stacklevel=3,
        )
    return X


def _log_normalised(counts: Any, n_top_genes: int) -> Any:
    """log1p counts per 10k of the most variable genes, N x ``n_top_genes``."""
    X = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    # the numbers of scanpy's normalize_total without the seconds it takes to compile
    per_10k = np.asarray(X.sum(axis=1)).ravel() / 1e4  # N
    X.data = np.log1p(X.data / np.repeat(per_10k, np.diff(X.indptr)))
    if X.shape[1] <= n_top_genes:
        return X
    cells = AnnData(X, uns={"log1p": {}})
    genes = sc.pp.highly_variable_genes(cells, n_top_genes=n_top_genes, inplace=False)
    return X[:, genes["highly_variable"].to_numpy()]


def _tidy(per_metacell: list[pd.Series], whole: dict[str, float]) -> pd.DataFrame:
    """Stack the numbers, one per row."""
    rows: list[tuple[Any, str | None, float]] = [
        (numbers.name, str(metacell), value)
        for numbers in per_metacell
        for metacell, value in numbers.items()
    ]
    rows += [(metric, None, value) for metric, value in whole.items()]
    frame = pd.DataFrame(rows, columns=["metric", "metacell", "value"])
    frame["metacell"] = frame["metacell"].astype(pd.StringDtype(na_value=np.nan))
    frame["value"] = frame["value"].astype(float)
    frame["better"] = [BETTER.get(metric, "") for metric in frame["metric"]]
    return frame
