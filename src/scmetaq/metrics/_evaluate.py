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
from scmetaq.metrics._diffusion_compactness import diffusion_compactness
from scmetaq.metrics._diffusion_map import diffusion_map
from scmetaq.metrics._diffusion_separation import diffusion_separation
from scmetaq.metrics._dubious import dubious
from scmetaq.metrics._entropy import entropy
from scmetaq.metrics._groups import group_cells
from scmetaq.metrics._inv import inv
from scmetaq.metrics._mixing import mixing
from scmetaq.metrics._purity import purity
from scmetaq.metrics._separation import separation
from scmetaq.metrics._size_summary import size_summary

BETTER: dict[str, Literal["higher", "lower", ""]] = {
    "compactness": "higher",
    "separation": "higher",
    "purity": "higher",
    "entropy": "lower",
    "inv": "lower",
    "diffusion_compactness": "lower",
    "diffusion_separation": "higher",
    "divergence": "lower",
    "dubious": "lower",
    "balanced_accuracy": "higher",
    "mixing": "higher",
    "one_condition": "lower",
    "unassigned": "lower",
}
PCA = "pca"
"""Word for an embedding that is computed here."""


def evaluate(
    adata: AnnData,
    assignment: str | pd.Series | ArrayLike = _keys.METACELL,
    labels: str | pd.Series | ArrayLike | None = None,
    *,
    conditions: str | pd.Series | ArrayLike | None = None,
    use_rep: str | None = None,
    find_dubious: bool = False,
    layer: str | None = None,
    n_top_genes: int = 3000,
    max_cells: int | None = 10_000,
    seed: int = 0,
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
        Label of each cell, given like ``assignment``; missing labels are left out of purity,
        entropy and balanced accuracy. None: these are not computed.
    conditions
        Condition (batch, donor) of each cell, given like ``assignment``: adds the mixing of
        conditions, which accounts for ``labels`` if there are any.
    use_rep
        Embedding whose diffusion components are judged: a key of ``obsm``, or ``"pca"`` for 50
        principal components of log1p counts per 10k of the most variable genes, computed here.
        It holds all cells, also those without a metacell. None: the two diffusion metrics are
        not computed.
    find_dubious
        Test each metacell for mixed states, which takes longer than everything else.
    layer
        Layer with the raw counts. None: ``adata.X``.
    n_top_genes
        Number of most variable genes that compactness and separation use; data with no more
        genes is used whole.
    max_cells
        With more cells than this, separation is estimated from a random sample of so many, each
        of which is compared with all cells. None: always exact, in quadratic time.
    seed
        Seed of that sample and of the test for mixed states.

    Returns
    -------
    One row per number, with the columns ``metric``, ``metacell`` (NaN where the number is about
    the whole assignment), ``value`` and ``better`` (``"higher"``, ``"lower"`` or ``""``).

    - per metacell: ``n_cells`` (cells), ``compactness``, ``separation``, ``inv`` (of all genes);
      with labels ``purity`` and ``entropy`` (nats); with an embedding ``diffusion_compactness``
      and ``diffusion_separation``; if asked for, ``divergence`` and ``dubious`` (1 or 0);
    - whole: ``n_metacells``, ``unassigned`` (cells), ``size_median``, ``size_min``, ``size_max``
      (cells), ``size_cv``; with labels ``balanced_accuracy``; with conditions ``mixing`` and
      ``one_condition``.

    ``frame.groupby("metric")["value"].mean()`` gives the papers' number for every metric.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 22 to 24; the other metrics name theirs.
    """
    _check_anndata(adata)
    metacells = cell_values(adata, assignment, what="assignment")
    kinds = None if labels is None else cell_values(adata, labels, what="labels")
    batches = None if conditions is None else cell_values(adata, conditions, what="conditions")
    _check_rep(adata, use_rep)
    counts = _counts(adata, layer)
    groups = group_cells(metacells)
    kept, assigned = groups.codes >= 0, metacells[groups.codes >= 0]
    genes = _log_normalised(counts[kept])
    X = _most_variable(genes, n_top_genes)
    per_metacell = [
        pd.Series(groups.sizes, index=groups.names, name=_keys.N_CELLS),
        compactness(X, assigned),
        separation(X, assigned, max_cells=max_cells, seed=seed),
        inv(genes, assigned),
    ]
    if use_rep is not None:
        components = diffusion_map(_embedding(adata, use_rep, counts, n_top_genes))
        per_metacell.append(diffusion_compactness(components, metacells))
        per_metacell.append(diffusion_separation(components, metacells))
    if find_dubious:
        tested = dubious(X, assigned, seed=seed)
        per_metacell += [tested["statistic"].rename("divergence"), tested["dubious"]]
    if kinds is not None:
        per_metacell += [purity(metacells, kinds), entropy(metacells, kinds)]
    whole = _whole(metacells, kinds, batches)
    return _tidy(per_metacell, whole)


def _whole(
    metacells: pd.Series, kinds: pd.Series | None, batches: pd.Series | None
) -> dict[str, float]:
    """Numbers about the whole assignment."""
    whole: dict[str, float] = size_summary(metacells)._asdict()
    if kinds is not None:
        whole["balanced_accuracy"] = balanced_accuracy(metacells, kinds)
    if batches is not None:
        mixed = mixing(metacells, batches, kinds)
        whole |= {"mixing": mixed.mixing, "one_condition": mixed.one_condition}
    return whole


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


def _check_rep(adata: AnnData, use_rep: str | None) -> None:
    if use_rep is not None and use_rep != PCA and use_rep not in adata.obsm:
        raise KeyError(
            f"Expected `use_rep` to name an embedding in `obsm`, or {PCA!r}, found {use_rep!r}. "
            f"Embeddings there: {sorted(map(str, adata.obsm))}."
        )


def _embedding(adata: AnnData, use_rep: str, counts: Any, n_top_genes: int) -> np.ndarray:
    """Embedding of all cells, N x D; that of ``obsm`` if it has the name."""
    if use_rep in adata.obsm:
        return np.asarray(adata.obsm[use_rep])
    X = _most_variable(_log_normalised(counts), n_top_genes)
    return sc.pp.pca(X, n_comps=min(50, min(X.shape) - 1), random_state=0)


def _log_normalised(counts: Any) -> sp.csr_matrix:
    """log1p counts per 10k."""
    X = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    # the numbers of scanpy's normalize_total without the seconds it takes to compile
    per_10k = np.asarray(X.sum(axis=1)).ravel() / 1e4  # N
    X.data = np.log1p(X.data / np.repeat(per_10k, np.diff(X.indptr)))
    return X


def _most_variable(X: sp.csr_matrix, n_top_genes: int) -> sp.csr_matrix:
    """Keep the most variable genes, N x ``n_top_genes``."""
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
