"""The one metric that sees AnnData and MuData: all metrics of an assignment in a tidy table."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from mudata import MuData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputTypeError, check_int, check_layer, layers_of
from scmetaq.data._containers import readable
from scmetaq.data._features import warn_of_kinds

from ._correlation import compactness, separation
from ._counts import check_counts, inv, size_summary
from ._diffusion import NoMapError, diffusion_compactness, diffusion_map, diffusion_separation
from ._dubious import dubious
from ._embedding import euclidean_compactness, euclidean_separation, silhouette
from ._groups import as_categories, cell_values, check_categories, check_rep, group_cells, reps_of
from ._inner import inner
from ._labels import accuracy, balanced_accuracy, entropy, mixing, purity
from ._log_counts import LogCounts

_HIGHER = ["compactness", "separation", "purity", "diffusion_separation", "euclidean_separation"]
_HIGHER += ["accuracy", "balanced_accuracy", "mixing", "silhouette"]
_LOWER = ["entropy", "inv", "inner_fold", "inner_stdev", "diffusion_compactness", "divergence"]
_LOWER += ["euclidean_compactness", "dubious", "one_condition", "unassigned"]
_MOST_CELLS = 20_000  # most cells that principal axes are fitted to, a random sample of more
_BETTER = dict.fromkeys(_HIGHER, "higher") | dict.fromkeys(_LOWER, "lower")


def evaluate(
    adata: AnnData | MuData,
    assignment: str | pd.Series | ArrayLike = _keys.METACELL,
    labels: str | pd.Series | ArrayLike | None = None,
    *,
    conditions: str | pd.Series | ArrayLike | None = None,
    use_rep: str | None = None,
    find_dubious: bool = False,
    layer: str | None = None,
    modalities: str | Sequence[str] | None = None,
    n_top_genes: int = 3000,
    max_cells: int | None = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge the metacells of any method.

    Compactness and separation are measured on log1p counts per 10k of the most variable genes,
    computed here from raw counts of the assigned cells. ``adata`` is not changed. Without
    ``use_rep`` time is linear in the number of cells, and memory beyond the data below 1 GB and
    some 100 bytes per cell. Counts on disk are copied, normalised, to a temporary file of 6 bytes
    per count other than zero: set ``TMPDIR``.

    Parameters
    ----------
    adata
        Cells with raw counts. Each modality of a MuData is judged by the cells that have it.
    assignment
        Metacell of each cell: a column of ``obs`` (of a MuData also of a modality, as in
        ``"rna:metacell"``), a Series aligned by barcode, or an array in the order of the cells.
        Cells without one (missing or -1) count as ``unassigned`` and are else left out.
    labels
        Label of each cell, given like ``assignment``: names or whole numbers, of which missing
        ones are left out. None: no purity, entropy and accuracies.
    conditions
        Condition (batch, donor) of each cell, given like ``assignment``: adds the mixing of
        conditions, which accounts for ``labels`` if there are any.
    use_rep
        Embedding of all cells, also those without a metacell: a key of ``obsm`` (of a MuData's own:
        once, for all modalities), or ``"pca"`` for 50 principal components of log1p counts per 10k
        of the most variable genes, computed here (axes from at most 20,000 random cells). Diffusion
        metrics need the neighbours of all cells, in quadratic time: judge a sample of whole
        metacells beyond 200,000 cells or so. None: no metrics of an embedding.
    find_dubious
        Test each metacell for mixed states, which takes longer than everything else.
    layer
        Layer with the raw counts (in MuData: of each modality that has it, ``X`` of the others).
        None: ``X``.
    modalities
        Modalities of a MuData to judge: the name of one or a list of names. None: all.
    n_top_genes
        Number of most variable genes that compactness and separation use, or all if fewer.
    max_cells
        With more cells, separation is estimated, see :func:`separation`; all else is of all cells.
        None: always exact, in quadratic time.
    seed
        Seed of this estimate and of the test for mixed states.

    Returns
    -------
    One row per number, with the columns ``metric``, ``metacell`` (NaN where the number is about
    the whole assignment), ``value`` and ``better`` (``"higher"``, ``"lower"`` or ``""``); of a
    MuData also ``modality`` (NaN where the number is about all of them).

    - per metacell: ``n_cells``, ``compactness``, ``separation`` (if there are two); ``inv``,
      ``inner_fold``, ``inner_stdev`` of all genes; with labels ``purity`` and ``entropy``; with an
      embedding ``euclidean_compactness`` and ``_separation``, ``diffusion_compactness`` and
      ``_separation``; if asked for, ``divergence`` and ``dubious`` (1 or 0);
    - whole: the numbers of :class:`SizeSummary`; with labels ``accuracy``, ``balanced_accuracy``
      and, in an embedding, ``silhouette``; with conditions ``mixing`` and ``one_condition``.

    ``frame.groupby("metric")["value"].mean()`` gives the papers' number for every metric; of a
    MuData, group by ``["modality", "metric"]`` with ``dropna=False``.
    """
    check_int("n_top_genes", n_top_genes)
    check_int("max_cells", max_cells, optional=True)
    check_int("seed", seed, least=0)
    adata = readable(adata)
    parts = _parts(adata, [modalities] if isinstance(modalities, str) else modalities)
    # masks of modalities are no embeddings
    joint = isinstance(adata, MuData) and use_rep in adata.obsm and use_rep not in adata.mod
    check_layer(parts, layer)
    check_rep(parts, None if joint else use_rep)
    metacells = as_categories(cell_values(adata, assignment, what="assignment"))
    kinds = None if labels is None else cell_values(adata, labels, what="labels")
    batches = None if conditions is None else cell_values(adata, conditions, what="conditions")
    of_labels: list[pd.Series] = []
    whole: dict[str, float] = size_summary(metacells)._asdict()
    del whole["counts_cv"]  # each modality has its own
    if kinds is not None:
        check_categories(kinds, "labels")
        kinds = as_categories(kinds)
        of_labels = [purity(metacells, kinds), entropy(metacells, kinds)]
        whole |= {of.__name__: of(metacells, kinds) for of in (accuracy, balanced_accuracy)}
    if batches is not None:
        mixed = mixing(metacells, batches, kinds)
        whole |= {"mixing": mixed.mixing, "one_condition": mixed.one_condition}
    frames = []
    if isinstance(adata, MuData):
        for name, part in parts.items():
            group_cells(metacells.loc[part.obs_names], f" in the modality {name!r}")
        of_all = [_sizes(metacells), *of_labels]
        if joint:
            of_all += _of_embedding(np.asarray(adata.obsm[use_rep]), metacells, kinds, whole)
        frames, of_labels, whole = [tidy(of_all, whole, modality=None)], [], {}
    for name, part in parts.items():
        owner, of_part = f"modality {name!r}, " if name else "", layers_of(part)
        counts = check_counts(part, layer if layer in of_part else None, owner)
        warn_of_kinds(part, "adata" if name is None else f"adata[{name!r}]")
        own = metacells if name is None else metacells.loc[part.obs_names]
        codes = group_cells(own).codes
        genes = LogCounts(counts, codes)
        X = genes.most_variable(n_top_genes, np.flatnonzero(codes >= 0))
        numbers = [_sizes(own), compactness(X, own)]
        if len(numbers[0]) > 1:
            numbers.append(separation(X, own, max_cells=max_cells, seed=seed))
        numbers += [inv(genes, own), *inner(genes, own)]
        of_whole = whole | {"counts_cv": size_summary(own, genes.totals).counts_cv}
        if use_rep in reps_of(part) and not joint:
            rep = part.obsm.get(use_rep)  # that of ``obsm`` if it has the name
            rep = principal_components(genes, n_top_genes) if rep is None else np.asarray(rep)
            kinds_there = None if kinds is None else kinds.loc[own.index]
            numbers += _of_embedding(rep, own, kinds_there, of_whole)
        if find_dubious:
            table = dubious(X, own, seed=seed)
            numbers += [table["statistic"].rename("divergence"), table["dubious"]]
        modality = {} if name is None else {"modality": name}
        frames.append(tidy(numbers + of_labels, of_whole, **modality))
    return pd.concat(frames, ignore_index=True)


def _sizes(metacells: pd.Series) -> pd.Series:
    groups = group_cells(metacells)
    return groups.series(groups.sizes, _keys.N_CELLS)


def _of_embedding(
    embedding: np.ndarray, metacells: pd.Series, labels: pd.Series | None, whole: dict[str, float]
) -> list[pd.Series]:
    """Numbers per metacell of an embedding of all cells; those of all metacells join ``whole``."""
    groups = group_cells(metacells)
    if labels is not None and (labels.notna() & (groups.codes >= 0)).any():
        whole["silhouette"] = silhouette(embedding, metacells, labels)
    plain = (euclidean_compactness, euclidean_separation)[: len(groups.names)]
    numbers = [of(embedding, metacells) for of in plain]
    metrics = (diffusion_compactness, diffusion_separation)[: len(groups.names)]
    try:
        components = diffusion_map(embedding)
    except NoMapError as error:
        warnings.warn(f"No diffusion metrics: {error}", UserWarning, stacklevel=3)
        none = np.full(len(groups.names), np.nan)
        return numbers + [groups.series(none, of.__name__) for of in metrics]
    return numbers + [of(components, metacells) for of in metrics]


def _parts(adata: Any, modalities: Sequence[str] | None) -> dict[str | None, AnnData]:
    """Modalities to judge by name; an AnnData is one, without a name."""
    if isinstance(adata, AnnData):
        if modalities is not None:
            problem = "`modalities` are those of a MuData, found an AnnData."
            raise InputTypeError(problem, "Leave it out.", "modalities")
        return {None: adata}
    if not isinstance(adata, MuData):
        problem = f"Expected an AnnData or a MuData, found {type(adata).__name__}."
        raise InputTypeError(problem, argument="adata")
    absent = [name for name in modalities or () if name not in adata.mod]
    if absent or not (adata.mod if modalities is None else modalities):
        found = f"no {absent[0]!r}" if absent else "none"
        problem = f"Expected `modalities` to name modalities, found {found}. Modalities there:"
        raise InputKeyError(f"{problem} {list(adata.mod)}.", argument="modalities")
    return {name: adata.mod[name] for name in modalities or adata.mod}


def principal_components(counts: Any, n_top_genes: int) -> np.ndarray:
    """Principal components of log1p counts per 10k, N x D; if there is one gene or cell, these."""
    is_read = isinstance(counts, LogCounts)
    X = counts if is_read else LogCounts(counts, np.zeros(counts.shape[0], np.int64))
    X = X.most_variable(n_top_genes)
    n_cells, n_axes = X.shape[0], min(50, min(X.shape) - 1)
    if n_axes < 1:
        return X[:].toarray()  # nothing to reduce
    if n_cells <= _MOST_CELLS:
        return sc.pp.pca(X[:], n_comps=n_axes, random_state=0)
    sample = np.random.default_rng(0).choice(n_cells, _MOST_CELLS, replace=False)
    axes = sc.pp.pca(X[sample], n_comps=n_axes, random_state=0, return_info=True)[1]
    scores = np.concatenate([block @ axes.T for block in X.blocks()])
    return scores - scores[sample].mean(axis=0)


def tidy(
    per_metacell: list[pd.Series], whole: dict[str, float], **modality: str | None
) -> pd.DataFrame:
    """Stack the numbers, one per row."""
    rows: list[tuple[Any, str | None, float]] = [
        (of.name, str(metacell), value) for of in per_metacell for metacell, value in of.items()
    ]
    rows += [(metric, None, value) for metric, value in whole.items()]
    text = pd.StringDtype(na_value=np.nan)
    frame = pd.DataFrame(rows, columns=["metric", "metacell", "value"])
    frame = frame.astype({"metacell": text, "value": float})
    frame["better"] = [_BETTER.get(metric, "") for metric in frame["metric"]]
    for column, name in modality.items():
        frame.insert(1, column, pd.Series([name] * len(frame), dtype=text))
    return frame
