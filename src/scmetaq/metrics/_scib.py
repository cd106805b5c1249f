"""Scores of an integrated embedding by scib-metrics, which is optional."""

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputValueError, check_int

from ._groups import as_embedding, check_rows, group_labels


class Lisi(NamedTuple):
    """How well conditions mix and labels stay apart among neighbours.

    Attributes
    ----------
    ilisi
        Of conditions, in [0, 1]; 1: every neighbourhood holds all of them evenly.
    clisi
        Of labels, in [0, 1]; 1: every neighbourhood holds a single one.
    """

    ilisi: float
    clisi: float


def lisi(
    X: ArrayLike,
    labels: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    *,
    n_neighbors: int = 90,
) -> Lisi:
    r"""Local inverse Simpson's index of labels and of conditions in an embedding.

    .. math::

        \text{LISI}_i = \frac{1}{\sum_c p_i(c)^2}, \quad
        \text{iLISI} = \frac{\operatorname{median}_i \text{LISI}_i - 1}{B - 1}, \quad
        \text{cLISI} = \frac{C - \operatorname{median}_i \text{LISI}_i}{C - 1}

    with the share :math:`p_i(c)` of a category among the neighbours of point :math:`i`, weighted by
    a Gaussian of perplexity ``n_neighbors // 3``, and :math:`B` conditions or :math:`C` labels
    (Korsunsky et al., Harmony, Nature Methods 2019; scaled as in Luecken et al., Nature Methods
    2022). Needs scib-metrics: ``pip install 'scmetaq[scib]'``.

    Parameters
    ----------
    X
        Embedding of cells or of metacells, shape ``(n, n_dimensions)``.
    labels, conditions
        Label and condition (batch, donor) of each, shape ``(n,)``; points without one are left out
        of its index. None: that index is NaN.
    n_neighbors
        Neighbours, the point itself included; the search is exact.

    Returns
    -------
    Both indices; higher is better. NaN if there is one category only.
    """
    check_int("n_neighbors", n_neighbors, least=3)
    _check_installed("lisi")
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    rows, found = as_embedding(X, "X"), []
    for values, what in ((conditions, "conditions"), (labels, "labels")):
        if values is None:
            found.append(np.nan)
            continue
        check_rows(X, len(rows), values)
        groups = group_labels(values, what=what)
        known = groups.codes >= 0
        if known.sum() < n_neighbors:
            problem = f"Expected at least `n_neighbors` ({n_neighbors}) points with {what}, found"
            raise InputValueError(f"{problem} {known.sum()}.", "Lower it.", "n_neighbors")
        search = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(rows[known])
        distances, others = search.kneighbors()  # without the point itself
        near = NeighborsResults(
            indices=np.column_stack([np.arange(len(others)), others]),
            distances=np.column_stack([np.zeros(len(others)), distances]),
        )
        score = scib_metrics.ilisi_knn if what == "conditions" else scib_metrics.clisi_knn
        several = len(groups.names) > 1
        found.append(float(score(near, groups.codes[known])) if several else np.nan)
    return Lisi(*found)


def integration_score(
    X: ArrayLike,
    labels: ArrayLike,
    conditions: ArrayLike,
    *,
    unintegrated: ArrayLike | None = None,
) -> pd.Series:
    r"""Score an integrated embedding as scIB does, by scib-metrics' Benchmarker.

    .. math:: \text{total} = 0.6 \, \overline{\text{bio}} + 0.4 \, \overline{\text{batch}}

    with the mean of the metrics of labels (isolated labels, NMI and ARI of k-means, silhouette,
    cLISI) and of those of conditions (BRAS, iLISI, kBET, graph connectivity, and principal
    component regression if ``unintegrated`` is given): Luecken et al., Nature Methods 2022. Needs
    scib-metrics: ``pip install 'scmetaq[scib]'``.

    Parameters
    ----------
    X
        Embedding of cells or of metacells, more than 90, shape ``(n, n_dimensions)``.
    labels, conditions
        Label and condition (batch, donor) of each, shape ``(n,)``, none missing.
    unintegrated
        Embedding of the same without correction, e.g. principal components.

    Returns
    -------
    Each metric by the name of scib-metrics' function, ``bio_conservation``, ``batch_correction``
    and ``total``; higher is better. Comparable only between embeddings of the same cells.
    """
    _check_installed("integration_score")
    from scib_metrics.benchmark import BatchCorrection, Benchmarker

    rows = as_embedding(X, "X")
    groups = {"labels": group_labels(labels), "conditions": group_labels(conditions)}
    for values, (what, of) in zip((labels, conditions), groups.items(), strict=True):
        check_rows(X, len(rows), values)
        if (of.codes < 0).any() or len(of.names) < 2:
            problem = f"Expected at least two {what}, and one of each cell, found"
            found = f"{problem} {len(of.names)}, and {(of.codes < 0).sum()} missing."
            raise InputValueError(found, "Leave these cells out.", what)
    obs = pd.DataFrame({what: of.names[of.codes] for what, of in groups.items()})
    before = rows if unintegrated is None else as_embedding(unintegrated, "unintegrated")
    cells = AnnData(obs=obs.set_index(obs.index.astype(str)), obsm={"X": rows, "before": before})
    judge = Benchmarker(
        cells,
        "conditions",
        "labels",
        ["X"],
        batch_correction_metrics=BatchCorrection(pcr_comparison=unintegrated is not None),
        pre_integrated_embedding_obsm_key="before",
        progress_bar=False,
    )
    judge.benchmark()
    scores = judge.get_results(clean_names=False).loc["X"].astype(float).rename("integration_score")
    return scores.rename(lambda name: name.lower().replace(" ", "_"))


def _check_installed(what: str) -> None:
    if find_spec("scib_metrics") is None:
        problem = f"Expected scib-metrics for {what}, found that it is not installed. Run:"
        raise ImportError(f"{problem} pip install 'scmetaq[scib]'.")
