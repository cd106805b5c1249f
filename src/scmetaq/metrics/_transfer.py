"""What is learnt from metacells and holds for cells: labels by a classifier, modules of genes."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import fcluster, ward
from scipy.spatial.distance import pdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import recall_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from scmetaq._errors import InputValueError, check_int
from scmetaq.data._cells import BLOCK

from ._counts import grouped_counts, moments
from ._groups import Groups, group_cells, group_labels
from ._labels import count_labels
from ._log_counts import LogCounts


class ClassifierTest(NamedTuple):
    """Share of cells, and of each label's cells in the mean over labels, that are recognised."""

    accuracy: float
    balanced_accuracy: float


def classifier_test(
    counts: Any, assignment: ArrayLike, labels: ArrayLike, *, n_top_genes: int = 3000, seed: int = 0
) -> ClassifierTest:
    r"""Train a classifier on metacells and their majority labels, and label all cells by it.

    .. math::

        \min_p \frac{1}{K} \sum_M -\log p(\hat y_M \mid \hat x_M), \qquad
        \text{accuracy} = \frac{1}{N} |\{i : \arg\max_c p(c \mid x_i) = y_i\}|

    Eq. 20 to 22 of Li et al., MetaQ, Nature Communications 2025: hidden layers of 512 and 128, 50
    epochs of Adam in batches of 512. Metacells are means of log1p counts per 10k of the
    ``n_top_genes`` most variable genes; metacells, and cells, are standardised by gene and clipped
    at 10. ``counts`` are as of :func:`inner_fold`, ``assignment`` and ``labels`` as of
    :func:`purity`; all cells with a label are judged, also those in no metacell.

    Both numbers are in [0, 1]; higher is better. Compare at one number of metacells and several
    ``seed`` of the network.
    """
    check_int("n_top_genes", n_top_genes)
    check_int("seed", seed, least=0)
    counts, groups = grouped_counts(counts, assignment)
    tally, _ = count_labels(assignment, labels)
    kinds, known = group_labels(labels).codes, np.flatnonzero(tally.sum(axis=1))
    X = counts.most_variable(n_top_genes, np.flatnonzero(groups.codes >= 0))
    network = MLPClassifier((512, 128), max_iter=50, n_iter_no_change=50, random_state=seed)
    network.set_params(batch_size=min(512, len(known)))
    rows = StandardScaler().fit_transform(_profiles(X, groups)[known]).clip(-10, 10)
    with warnings.catch_warnings():  # the number of epochs is given
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(rows, tally[known].argmax(axis=1))
    labelled, scaler = np.flatnonzero(kinds >= 0), StandardScaler()
    for block in X.blocks(labelled):
        scaler.partial_fit(block.toarray())
    blocks = (scaler.transform(block.toarray()).clip(-10, 10) for block in X.blocks(labelled))
    true, found = kinds[labelled], np.concatenate([network.predict(block) for block in blocks])
    recall = recall_score(true, found, labels=np.unique(true), average="macro", zero_division=0)
    return ClassifierTest(float((true == found).mean()), float(recall))


def module_preservation(
    counts: Any,
    assignment: ArrayLike,
    modules: ArrayLike | None = None,
    *,
    n_modules: int = 20,
    n_top_genes: int = 500,
) -> pd.DataFrame:
    r"""Compare the co-expression of modules of genes between cells and metacells.

    .. math::

        \text{density}(Q) = \operatorname{mean}_{g < h \in Q} r_{gh}, \qquad
        \text{preservation}(Q) = \operatorname{cor}_{g < h \in Q} (r_{gh}, \hat r_{gh})

    with the Pearson correlation of two genes across cells, :math:`r`, and across metacells weighted
    by size, :math:`\hat r`, of log1p counts per 10k and their means as in SuperCell (Bilous et al.,
    BMC Bioinformatics 2022): two of the statistics of Langfelder et al., PLoS Computational Biology
    2011, that hdWGCNA (Morabito et al., Cell Reports Methods 2023) computes of metacells.

    ``counts`` are as of :func:`inner_fold`, ``modules`` the module of each gene, shape
    ``(n_genes,)``; missing or -1: in none. None: ``n_modules`` by Ward clustering of the
    correlations of the ``n_top_genes`` most variable genes across cells. The table has a row per
    module of three genes or more: ``n_genes``, density in ``cells`` and in ``metacells`` (higher is
    better), and ``preservation``, which is as high at random.
    """
    check_int("n_modules", n_modules)
    check_int("n_top_genes", n_top_genes, least=3)
    counts, groups = grouped_counts(counts, assignment)
    cells = np.flatnonzero(groups.codes >= 0)
    of = None if modules is None else group_cells(modules)
    if of is not None and len(of.codes) != counts.shape[1]:
        problem = f"Expected one module per gene ({counts.shape[1]}), found {len(of.codes)}."
        raise InputValueError(problem, argument="modules")
    genes = None if of is None else np.flatnonzero(of.codes >= 0)
    X = counts.most_variable(n_top_genes, cells) if genes is None else counts.of_genes(genes)
    sums, products = np.zeros(X.shape[1]), np.zeros((X.shape[1], X.shape[1]))
    for block in (block.astype(np.float64) for block in X.blocks(cells)):
        sums, products = sums + block.sum(axis=0), products + (block.T @ block).toarray()
    in_cells = _correlations(products - np.outer(sums, sums) / len(cells))
    profiles = _profiles(X, groups) - sums / len(cells)
    in_metacells = _correlations(profiles.T @ (profiles * groups.sizes[:, None]))
    if of is None:
        found = fcluster(ward(pdist(in_cells)), n_modules, "maxclust")
        of = Groups(found - 1, pd.Index(range(1, found.max() + 1)))
    rows, codes = {}, of.codes[of.codes >= 0]
    for module, name in enumerate(of.names):
        inside = codes == module
        pairs = np.triu_indices(int(inside.sum()), 1)
        both = [r[np.ix_(inside, inside)][pairs] for r in (in_cells, in_metacells)]
        if len(pairs[0]) > 1:  # three genes
            varies = all(np.ptp(both, axis=1) > 0)
            rows[name] = {
                "n_genes": inside.sum(),
                "cells": both[0].mean(),
                "metacells": both[1].mean(),
                "preservation": np.corrcoef(both)[0, 1] if varies else np.nan,
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("module")


def _profiles(X: LogCounts, groups: Groups) -> np.ndarray:
    """Mean log counts of each metacell, K x G."""
    means = np.empty((len(groups.names), X.shape[1]))
    for chosen, sums in groups.sums(X, moments, n_cells=BLOCK, shown_as="Profiles of metacells"):
        means[chosen] = sums[0] / groups.sizes[chosen, None]
    return means


def _correlations(products: np.ndarray) -> np.ndarray:
    """Correlations from sums of centred products; 0 for a gene that does not vary."""
    deviation = np.sqrt(np.maximum(np.diag(products), 0))
    scale = np.outer(deviation, deviation)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-12)
