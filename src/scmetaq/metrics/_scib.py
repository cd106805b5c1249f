"""Scores of an integrated embedding by scib-metrics, which is optional."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputValueError, check_int

from ._groups import as_embedding, check_same_cells, group_labels


def lisi(X: ArrayLike, groups: ArrayLike, *, n_neighbors: int = 90) -> float:
    r"""Local inverse Simpson's index: how many groups mix among neighbours in an embedding.

    .. math:: \frac{1}{B - 1} \left( \operatorname{median}_i \frac{1}{\sum_b p_i(b)^2} - 1 \right)

    with the share :math:`p_i(b)` of one of :math:`B` groups among the neighbours of :math:`i`,
    weighted by a Gaussian of perplexity ``n_neighbors // 3`` (Korsunsky et al., Harmony, Nature
    Methods 2019; scaled as in Luecken et al., Nature Methods 2022). Of conditions it is iLISI, of
    which more is better; of labels it is one minus cLISI, of which less is better. Needs
    scib-metrics: ``pip install 'scmetaq[scib]'``.

    ``X`` is the embedding of cells or of metacells, shape ``(n, n_dimensions)``; those without a
    group are left out. Neighbours, the point itself included, are searched exactly. The number is
    in [0, 1]; NaN for a single group.
    """
    check_int("n_neighbors", n_neighbors, least=3)
    _check_installed("lisi")
    from scib_metrics import ilisi_knn
    from scib_metrics.nearest_neighbors import NeighborsResults

    check_same_cells(X, groups)
    codes, names = group_labels(groups, what="groups")
    rows = as_embedding(X, "X")[codes >= 0]
    if len(rows) < n_neighbors:
        problem = f"Expected at least `n_neighbors` ({n_neighbors}) points, found {len(rows)}."
        raise InputValueError(problem, "Lower it.", "n_neighbors")
    distances, others = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(rows).kneighbors()
    ends = (np.arange(len(rows)), others), (np.zeros(len(rows)), distances)  # itself first
    near = NeighborsResults(*map(np.column_stack, ends))
    return float(ilisi_knn(near, codes[codes >= 0])) if len(names) > 1 else np.nan


def integration_score(
    X: ArrayLike, labels: ArrayLike, conditions: ArrayLike, *, unintegrated: ArrayLike
) -> pd.Series:
    r"""Score an integrated embedding as scIB does, by scib-metrics' Benchmarker.

    .. math:: \text{total} = 0.6 \, \overline{\text{bio}} + 0.4 \, \overline{\text{batch}}

    with means over metrics of labels (isolated labels, NMI and ARI of k-means, silhouette, cLISI)
    and of conditions (BRAS, iLISI, kBET, graph connectivity, principal component regression):
    Luecken et al., Nature Methods 2022. Needs scib-metrics: ``pip install 'scmetaq[scib]'``.

    ``X`` is the embedding of more than 90 cells or metacells, shape ``(n, n_dimensions)``,
    ``unintegrated`` one without correction, e.g. principal components; no label or condition of
    theirs may be missing. The result has each metric by the name of its function,
    ``bio_conservation``, ``batch_correction`` and ``total``; higher is better. Comparable between
    embeddings of the same cells only.
    """
    _check_installed("integration_score")
    from scib_metrics.benchmark import Benchmarker

    obsm: Any = {"X": as_embedding(X, "X"), "before": as_embedding(unintegrated, "unintegrated")}
    obs = {}
    for values, what in ((labels, "labels"), (conditions, "conditions")):
        check_same_cells(X, values)
        groups = group_labels(values, what=what)
        if len(groups.names) < 2 or groups.n_grouped < len(groups.codes):
            problem = f"Expected several {what}, none missing, found {len(groups.names)} for"
            raise InputValueError(f"{problem} {groups.n_grouped} rows.", argument=what)
        obs[what] = groups.names[groups.codes]
    cells = AnnData(obs=pd.DataFrame(obs, index=map(str, range(len(obs["labels"])))), obsm=obsm)
    options: dict[str, Any] = {"pre_integrated_embedding_obsm_key": "before", "progress_bar": False}
    judge = Benchmarker(cells, "conditions", "labels", ["X"], **options)
    judge.benchmark()
    scores = judge.get_results(clean_names=False).loc["X"].astype(float).rename("integration_score")
    return scores.rename(lambda name: name.lower().replace(" ", "_"))


def _check_installed(what: str) -> None:
    if find_spec("scib_metrics") is None:
        problem = f"Expected scib-metrics for {what}, found that it is not installed. Run:"
        raise ImportError(f"{problem} pip install 'scmetaq[scib]'.")
