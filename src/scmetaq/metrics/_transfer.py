"""What can be learnt from metacells holds for cells: labels by a classifier, modules of genes."""

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

from scmetaq._errors import InputValueError, check_int
from scmetaq.data._cells import BLOCK

from ._counts import grouped_counts
from ._groups import Groups, group_cells, group_labels
from ._labels import count_labels
from ._log_counts import LogCounts

_MOST = 10
"""Largest standardised value that a classifier reads."""


class ClassifierTest(NamedTuple):
    """How well a classifier of metacells labels cells.

    Attributes
    ----------
    accuracy
        Share of cells with their own label predicted.
    balanced_accuracy
        The same share of each label, mean over labels.
    """

    accuracy: float
    balanced_accuracy: float


def classifier_test(
    counts: Any,
    assignment: ArrayLike,
    labels: ArrayLike,
    *,
    n_top_genes: int = 3000,
    seed: int = 0,
) -> ClassifierTest:
    r"""Train a classifier on metacells and their majority labels, and label all cells by it.

    .. math::

        \min_p \frac{1}{K} \sum_M -\log p(\hat y_M \mid \hat x_M), \qquad
        \text{accuracy} = \frac{1}{N} |\{i : \arg\max_c p(c \mid x_i) = y_i\}|

    Eq. 20 to 22 of Li et al., MetaQ, Nature Communications 2025: a network of 512 and 128 hidden
    units, 50 epochs of Adam in batches of 512. Metacells are means of log1p counts per 10k; they
    and cells are standardised by gene, each by their own mean and deviation, and clipped at 10.

    Parameters
    ----------
    counts
        Raw counts, shape ``(n_cells, n_genes)``, in memory or on disk.
    assignment, labels
        As of :func:`purity`. Cells with a label are predicted, also those in no metacell.
    n_top_genes
        Number of most variable genes that the network reads.
    seed
        Seed of the network.

    Returns
    -------
    Two numbers in [0, 1]; higher is better. Compare at one number of metacells, over several seeds.
    """
    check_int("n_top_genes", n_top_genes)
    check_int("seed", seed, least=0)
    counts, groups = grouped_counts(counts, assignment)
    tally, _ = count_labels(assignment, labels)
    kinds = group_labels(labels)
    X = counts.most_variable(n_top_genes, np.flatnonzero(groups.codes >= 0))
    known = np.flatnonzero(tally.sum(axis=1))
    rows = _profiles(X, groups)[known]
    network = MLPClassifier((512, 128), max_iter=50, n_iter_no_change=50, random_state=seed)
    network.set_params(batch_size=min(512, len(known)))
    with warnings.catch_warnings():  # the epochs are given
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(_standardise(rows, rows.mean(axis=0), rows.std(axis=0)), tally[known].argmax(1))
    labelled = np.flatnonzero(kinds.codes >= 0)
    sums, squares, predicted = 0, 0, []
    for block in X.blocks(labelled):
        sums, squares = sums + block.sum(axis=0), squares + (block**2).sum(axis=0)
    mean = sums / len(labelled)  # G
    deviation = np.sqrt(np.maximum(squares / len(labelled) - mean**2, 0))
    for block in X.blocks(labelled):
        predicted.append(network.predict(_standardise(block.toarray(), mean, deviation)))
    true, found = kinds.codes[labelled], np.concatenate(predicted)
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

        \text{density}(Q) = \frac{1}{|Q| (|Q| - 1)} \sum_{g \ne h \in Q} r_{gh}, \qquad
        \text{preservation}(Q) = \operatorname{cor}_{g < h \in Q} (r_{gh}, \hat r_{gh})

    with the Pearson correlation of genes :math:`g` and :math:`h` across cells, :math:`r`, and
    across metacells weighted by size, :math:`\hat r`, of log1p counts per 10k and their means
    (SuperCell, Bilous et al., BMC Bioinformatics 2022): density and correlation of correlations of
    Langfelder et al., PLoS Computational Biology 2011, which hdWGCNA (Morabito et al., Cell Reports
    Methods 2023) computes on metacells.

    Parameters
    ----------
    counts
        Raw counts, shape ``(n_cells, n_genes)``, in memory or on disk.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    modules
        Module of each gene, shape ``(n_genes,)``; missing or -1: in none. None: ``n_modules`` by
        Ward clustering of the correlations of the ``n_top_genes`` most variable genes across cells.
    n_modules, n_top_genes
        Modules to find, and genes to find them among.

    Returns
    -------
    One row per module of at least three genes, indexed by its name: ``n_genes``, ``cells`` and
    ``metacells`` (density in either), ``others`` (mean correlation of its genes with those of other
    modules across metacells) and ``preservation``.
    """
    check_int("n_modules", n_modules)
    check_int("n_top_genes", n_top_genes, least=3)
    counts, groups = grouped_counts(counts, assignment)
    cells = np.flatnonzero(groups.codes >= 0)
    if modules is None:
        X = counts.most_variable(n_top_genes, cells)
    else:
        of = group_cells(modules)
        if len(of.codes) != counts.shape[1]:
            problem = f"Expected one module per gene ({counts.shape[1]}), found {len(of.codes)}."
            raise InputValueError(problem, argument="modules")
        X = counts.of_genes(np.flatnonzero(of.codes >= 0))
    in_cells, across = _correlations_of_cells(X, cells), _profiles(X, groups)
    across -= np.average(across, axis=0, weights=groups.sizes)
    in_metacells = _as_correlations(across.T @ (across * groups.sizes[:, None]))
    if modules is None:
        found = fcluster(ward(pdist(in_cells)), n_modules, "maxclust")
        of = Groups(found - 1, pd.Index(range(1, found.max() + 1)))
        codes = of.codes
    else:
        codes = of.codes[of.codes >= 0]
    rows = {}
    for module, name in enumerate(of.names):
        inside = codes == module
        if (n := int(inside.sum())) < 3:
            continue
        pairs = np.triu_indices(n, 1)
        pair = [r[np.ix_(inside, inside)][pairs] for r in (in_cells, in_metacells)]
        others = in_metacells[np.ix_(inside, ~inside)]
        varies = min(np.ptp(pair[0]), np.ptp(pair[1])) > 0
        rows[name] = {
            "n_genes": n,
            "cells": pair[0].mean(),
            "metacells": pair[1].mean(),
            "others": others.mean() if others.size else np.nan,
            "preservation": np.corrcoef(*pair)[0, 1] if varies else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("module")


def _profiles(X: LogCounts, groups: Groups) -> np.ndarray:
    """Mean log counts of each metacell, K x G."""
    means = np.empty((len(groups.names), X.shape[1]))
    for chosen, sums in groups.sums(X, _sums, n_cells=BLOCK, shown_as="Profiles of metacells"):
        means[chosen] = sums / groups.sizes[chosen, None]
    return means


def _sums(rows: Any, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(rows.toarray().astype(np.float64), starts, axis=0)  # B x G


def _standardise(rows: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    return np.clip((rows - mean) / np.where(deviation > 0, deviation, 1), -_MOST, _MOST)


def _correlations_of_cells(X: LogCounts, cells: np.ndarray) -> np.ndarray:
    """Pearson correlations of genes across cells, G x G."""
    sums, products = np.zeros(X.shape[1]), np.zeros((X.shape[1], X.shape[1]))
    for block in X.blocks(cells):
        block = block.astype(np.float64)
        sums += block.sum(axis=0)
        products += (block.T @ block).toarray()
    return _as_correlations(products - np.outer(sums, sums) / len(cells))


def _as_correlations(products: np.ndarray) -> np.ndarray:
    """Correlations of centred products; 0 for a gene that does not vary."""
    deviation = np.sqrt(np.maximum(np.diag(products), 0))
    scale = np.outer(deviation, deviation)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-12)
