"""Samples by their embedding: what explains it, which features go with it, nearest labels."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial.distance import cdist
from scipy.stats import pearsonr
from sklearn.feature_selection import f_classif, f_regression

from scmetaq._errors import InputValueError, check_is_int
from scmetaq.metrics._groups import cell_values
from scmetaq.tl._summarize import check_anndata, coordinates, is_numeric, log_counts, mean_rows

_FIX = "Of `get_condition_embeddings()` pass the entry of one key."


def covariate_association(
    samples: AnnData, covariates: str | Sequence[str] | None = None, *, use_rep: str = "X_pca"
) -> pd.DataFrame:
    r"""Regress each component of an embedding of samples on each covariate by itself.

    .. math:: R^2_\text{adj} = 1 - (1 - R^2) \frac{n - 1}{n - p - 1}

    with :math:`n` samples and :math:`p` predictors: one of a numeric covariate, one fewer than
    there are categories of any other.

    Parameters
    ----------
    samples
        A row per sample, as of :meth:`~scmetaq.MetaQModel.get_condition_embeddings`.
    covariates
        Column of ``obs``, or a list of them: numeric ones as they are, others as categories;
        samples without a value are left out. None: all columns that can be used, with a warning
        if there is none.
    use_rep
        Entry of ``obsm`` whose columns are explained, in order.

    Returns
    -------
    One row per covariate and component: ``covariate``, ``component`` (``"PC1"``, ...),
    ``n_samples``, ``r2``, ``adjusted_r2`` (1: fully explained; about 0: no more than by chance)
    and ``pvalue`` of the F test, not corrected for the number of tests.

    Raises
    ------
    KeyError, TypeError, ValueError
        No such column or embedding; or a covariate that is the same in all samples or has too
        many categories for so few samples.

    Notes
    -----
    Covariates that vary together (donor and centre) explain the same variance: a high value does
    not show which of them has the effect.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """
    components = coordinates(samples, use_rep, "use_rep", "samples", _FIX)
    if covariates is not None:
        names = [covariates] if isinstance(covariates, str) else list(covariates)
    else:
        names = [str(c) for c in samples.obs if _why_not(samples.obs[c]) is None]
        if not names:
            problem = f"No column of obs can explain anything of these {samples.n_obs} samples: it"
            fix = "must differ between them, and have fewer categories than there are."
            warnings.warn(f"{problem} {fix}", UserWarning, stacklevel=2)
    rows = []
    for name in names:
        values = cell_values(samples, name, what="covariates")
        reason = _why_not(values)
        if reason is not None:
            problem = f"Expected `covariates` that can explain something, with {name!r}, {reason}"
            raise InputValueError(problem)
        n_samples, *found = _regress(components, values)
        for i, row in enumerate(zip(*found, strict=True)):
            rows.append((name, f"PC{i + 1}", n_samples, *row))
    columns = ["covariate", "component", "n_samples", "r2", "adjusted_r2", "pvalue"]
    return pd.DataFrame(rows, columns=columns)


def feature_association(
    adata: AnnData, samples: AnnData, by: str, *, use_rep: str = "X_pca", layer: str | None = None
) -> pd.DataFrame:
    r"""Correlate the mean expression of each feature in the samples with their components.

    .. math:: r_{fd} = \operatorname{cor}_s\Big(
        \frac{1}{|C_s|} \sum_{i \in C_s} \log(1 + 10^4 x_{if} / l_i), \; p_{sd}\Big)

    with cells :math:`C_s` of sample :math:`s`, counts :math:`x`, library sizes :math:`l` and
    components :math:`p` (De Donno et al., scPoli, Nature Methods 2023).

    Parameters
    ----------
    adata
        Cells with raw counts, not changed; those of one cell type, say, to leave out that samples
        have more or less of a type.
    samples
        As of :func:`covariate_association`.
    by
        Column of ``adata.obs`` with the sample of each cell. Samples without cells are left out.
    use_rep
        Entry of ``samples.obsm`` with the components.
    layer
        Layer with the raw counts; None: ``X``.

    Returns
    -------
    One row per feature and component: ``feature``, ``component`` (``"PC1"``, ...), ``mean`` (log1p
    counts per 10k, over samples), Pearson's ``r`` and its two-sided ``pvalue``, not corrected for
    the number of tests. Sorted by component, then by the size of ``r``; features of the same mean
    in all samples have none and come last.

    Raises
    ------
    KeyError, ValueError, TypeError
        No such column, layer or embedding; or cells of fewer than three of the samples.
    """
    components = coordinates(samples, use_rep, "use_rep", "samples", _FIX)
    check_anndata(adata, "adata")
    of_cell = samples.obs_names.get_indexer(cell_values(adata, by, what="by").astype(str))
    found = np.unique(of_cell[of_cell >= 0])
    if len(found) < 3:
        problem = f"Expected `by` to name at least three of the {samples.n_obs} samples, found"
        raise InputValueError(f"{problem} those of {len(found)} in {by!r}.")
    means = mean_rows(log_counts(adata, layer), of_cell, samples.n_obs).toarray()[found]  # S x F
    frames = []
    for i, component in enumerate(components[found].T):
        with warnings.catch_warnings(action="ignore"):  # features that do not vary
            test = pearsonr(means, component[:, None], axis=0)
        table = {"feature": adata.var_names, "component": f"PC{i + 1}", "mean": means.mean(0)}
        frame = pd.DataFrame({**table, "r": test.statistic, "pvalue": test.pvalue})
        frames.append(frame.sort_values("r", key=lambda r: -np.abs(r), kind="stable"))
    return pd.concat(frames, ignore_index=True)


def classify_conditions(
    samples: AnnData, label: str, *, n_neighbors: int = 5, use_rep: str | None = None
) -> pd.DataFrame:
    """Predict a label of each sample from the samples nearest to it, never from itself.

    As of De Donno et al., scPoli, Nature Methods 2023.

    Parameters
    ----------
    samples
        As of :func:`covariate_association`.
    label
        Column of ``obs`` with the label; samples without one are predicted, too.
    n_neighbors
        How many of the nearest labelled samples vote; of a tie, the label of the nearest wins.
    use_rep
        Entry of ``obsm`` to measure Euclidean distances in. None: ``X``.

    Returns
    -------
    Indexed by sample: ``label``, ``predicted`` and ``fraction``, the share of the neighbours that
    have the predicted label. ``(frame["label"] == frame["predicted"]).mean()`` among labelled
    samples is the leave-one-out accuracy; compare it with the share of the most frequent label.

    Raises
    ------
    TypeError, KeyError, ValueError
        ``n_neighbors`` is no whole number, no such column or embedding, or too few labelled
        samples.
    """
    values = coordinates(samples, use_rep, "use_rep", "samples", _FIX)
    labels = cell_values(samples, label, what="label")
    known = np.flatnonzero(labels.notna().to_numpy())
    names = labels.iloc[known].astype(str).to_numpy()
    check_is_int("n_neighbors", n_neighbors)
    if n_neighbors < 1 or n_neighbors > len(known) - 1 or len(set(names)) < 2:
        raise InputValueError(
            f"Expected at least two labels and more labelled samples than the {n_neighbors} that "
            f"vote, found {len(set(names))} labels of {len(known)} samples in {label!r}.",
            "Lower n_neighbors (at least 1), or name another column.",
        )
    distance = cdist(values, values[known])
    distance[known, np.arange(len(known))] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :n_neighbors]
    # the most frequent, of several the one of the nearest sample
    votes = [Counter(names[row]).most_common(1)[0] for row in nearest]
    as_given = dict(zip(names, labels.iloc[known], strict=True))  # which may be no text
    table = {
        "label": labels,
        "predicted": [as_given[name] for name, _ in votes],
        "fraction": [n / n_neighbors for _, n in votes],
    }
    return pd.DataFrame(table, index=samples.obs_names)


def _regress(components: np.ndarray, values: pd.Series) -> tuple[int, Any, Any, Any]:
    """Number of samples, R2, adjusted R2 and p-value of least squares on one covariate."""
    known = values.notna().to_numpy()
    y, values = components[known], values[known]
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):  # constant ones
        if is_numeric(values):
            x, p = values.to_numpy(dtype=float), 1
            statistic, pvalue = f_regression(y, x, force_finite=False)
        else:
            names, p = values.astype(str), values.nunique() - 1
            statistic, pvalue = f_classif(y, names)
    n, left = len(y), len(y) - p - 1
    unexplained = left / (left + p * statistic)
    return n, 1 - unexplained, 1 - unexplained * (n - 1) / left, pvalue


def _why_not(values: pd.Series) -> str | None:
    """Why a covariate cannot be used, if so."""
    known = values.dropna()
    n, n_values = len(known), known.nunique()
    if n_values < 2:
        return f"found {n_values} different values among {n} samples with one."
    if (1 if is_numeric(known) else n_values - 1) > n - 2:
        return f"found {n_values} categories of {n} samples, which must be more, and more than two."
    return None
