"""Samples by their embedding: what explains it, which features go with it, nearest labels."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial.distance import cdist
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from scmetaq._errors import InputKeyError, InputTypeError, InputValueError
from scmetaq.metrics._cell_values import cell_values
from scmetaq.tl._summarize import check_anndata, entry_of, is_numeric, log_counts, mean_rows

COMPONENTS = "X_pca"
"""Entry of ``obsm`` with the principal components of samples."""


def covariate_association(
    samples: AnnData, covariates: str | Sequence[str] | None = None, *, use_rep: str = COMPONENTS
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
        Column of ``obs``, or a list of them: numeric ones as they are, others as categories.
        Samples without a value are left out. By default all columns that can be used; none there
        is warned about.
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
    components = _coordinates(samples, use_rep)
    if covariates is None:
        names = [str(c) for c in samples.obs if _why_not(samples.obs[c]) is None]
        if not names:
            warnings.warn(
                f"No column of obs can explain anything of these {samples.n_obs} samples: a "
                "covariate must differ between samples, and have fewer categories than there are.",
                UserWarning,
                stacklevel=2,
            )
    else:
        names = [covariates] if isinstance(covariates, str) else list(covariates)
    rows = []
    for name in names:
        values = _column(samples, name, "covariates")
        reason = _why_not(values)
        if reason is not None:
            raise InputValueError(
                f"Expected a covariate that can explain something in {name!r}, {reason}",
                argument="covariates",
            )
        n_samples, *found = _regress(components, values)
        for component, row in zip(_names(components), zip(*found, strict=True), strict=True):
            rows.append((name, component, n_samples, *row))
    columns = ["covariate", "component", "n_samples", "r2", "adjusted_r2", "pvalue"]
    return pd.DataFrame(rows, columns=columns)


def feature_association(
    adata: AnnData,
    samples: AnnData,
    by: str,
    *,
    use_rep: str = COMPONENTS,
    layer: str | None = None,
) -> pd.DataFrame:
    r"""Correlate the mean expression of each feature in the samples with their components.

    .. math:: r_{fd} = \operatorname{cor}_s\Big(
        \frac{1}{|C_s|} \sum_{i \in C_s} \log(1 + 10^4 x_{if} / l_i), \; p_{sd}\Big)

    with cells :math:`C_s` of sample :math:`s`, counts :math:`x`, library sizes :math:`l` and
    components :math:`p`.

    Parameters
    ----------
    adata
        Cells with raw counts; those of one cell type, say, to leave out that samples have more
        or less of a type. Not changed.
    samples
        A row per sample, as of :meth:`~scmetaq.MetaQModel.get_condition_embeddings`.
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

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """
    components = _coordinates(samples, use_rep)
    check_anndata(adata, "adata")
    of_cell = samples.obs_names.get_indexer(cell_values(adata, by, what="by").astype(str))
    found = np.unique(of_cell[of_cell >= 0])
    if len(found) < 3:
        raise InputValueError(
            f"Expected cells of at least three of the {samples.n_obs} samples in {by!r}, found "
            f"those of {len(found)}.",
            "Name the column whose values are the names of the samples.",
            "by",
        )
    means = mean_rows(log_counts(adata, layer), of_cell, samples.n_obs).toarray()[found]  # S x F
    r, pvalue = _pearson(means, components[found])  # F x D
    n_features, n_components = r.shape
    frame = pd.DataFrame(
        {
            "feature": np.tile(adata.var_names.to_numpy(), n_components),
            "component": np.repeat(_names(components), n_features),
            "mean": np.tile(means.mean(0), n_components),
            "r": r.T.ravel(),
            "pvalue": pvalue.T.ravel(),
        }
    )
    strength = np.nan_to_num(np.abs(frame["r"]), nan=-1)
    order = np.lexsort((-strength, np.arange(len(frame)) // n_features))
    return frame.iloc[order].reset_index(drop=True)


def classify_conditions(
    samples: AnnData, label: str, *, n_neighbors: int = 5, use_rep: str | None = None
) -> pd.DataFrame:
    """Predict a label of each sample from the samples nearest to it, never from itself.

    Parameters
    ----------
    samples
        A row per sample, as of :meth:`~scmetaq.MetaQModel.get_condition_embeddings`.
    label
        Column of ``obs`` with the label; samples without one are predicted, too.
    n_neighbors
        How many of the nearest labelled samples vote. Of labels with equally many votes, that of
        the nearest sample wins.
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
        ``n_neighbors`` is no whole number, there is no such column or embedding, or there are not
        enough labelled samples.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """
    values = _coordinates(samples, use_rep)
    labels = _column(samples, label, "label")
    known = np.flatnonzero(labels.notna().to_numpy())
    names = labels.iloc[known].astype(str).to_numpy()
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, int | np.integer):
        raise InputTypeError(
            f"Expected n_neighbors to be an int, found {n_neighbors!r}.", argument="n_neighbors"
        )
    if n_neighbors < 1 or n_neighbors > len(known) - 1 or len(set(names)) < 2:
        raise InputValueError(
            f"Expected at least two labels and more labelled samples than the {n_neighbors} "
            f"neighbours that vote, found {len(set(names))} labels of {len(known)} samples in "
            f"{label!r}.",
            "Lower n_neighbors (at least 1), or name another column.",
            "n_neighbors",
        )
    distance = cdist(values, values[known])
    distance[known, np.arange(len(known))] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :n_neighbors]
    votes = [_most_votes(names[row]) for row in nearest]
    predicted, fraction = zip(*votes, strict=True)
    as_given = dict(zip(names, labels.iloc[known], strict=True))  # which may be no text
    return pd.DataFrame(
        {"label": labels, "predicted": [as_given[of] for of in predicted], "fraction": fraction},
        index=samples.obs_names,
    )


def _most_votes(names: np.ndarray) -> tuple[str, float]:
    """The most frequent of names in the order of distance, and its share."""
    counts = pd.Series(names).value_counts()
    tied = set(counts.index[counts == counts.max()])
    winner = next(name for name in names if name in tied)
    return str(winner), counts.max() / len(names)


def _coordinates(samples: Any, use_rep: str | None) -> np.ndarray:
    """An embedding of samples, ``(n_samples, n_dims)``; None: ``X``."""
    fix = "Of `get_condition_embeddings()` pass the entry of one key."
    check_anndata(samples, "samples", fix)
    fix = "Compute components, e.g. by `sc.pp.pca`."
    found: Any = samples.X if use_rep is None else entry_of(samples, use_rep, "use_rep", fix=fix)
    values = np.asarray(found.todense() if hasattr(found, "todense") else found, dtype=float)
    n_bad = int((~np.isfinite(values)).sum())
    if n_bad:
        raise InputValueError(
            f"Expected finite coordinates of the samples, found {n_bad} missing or infinite "
            "values.",
            argument="samples",
        )
    return values


def _names(components: np.ndarray) -> list[str]:
    return [f"PC{i + 1}" for i in range(components.shape[1])]


def _column(samples: AnnData, name: str, what: str) -> pd.Series:
    if name not in samples.obs:
        raise InputKeyError(
            f"Expected `{what}` to name columns of `obs` of the samples, found no {name!r}. "
            f"Columns there: {sorted(map(str, samples.obs.columns))}.",
            "Of a model's embeddings these are the columns that are the same in all cells of a "
            "sample.",
            what,
        )
    return samples.obs[name]


def _regress(
    components: np.ndarray, values: pd.Series
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Samples of least squares with an intercept on one covariate, R2, adjusted R2 and p-value."""
    known = values.notna().to_numpy()
    y = components[known] - components[known].mean(0)  # n x D
    x = _predictors(values[known])  # n x p
    x = x - x.mean(0)
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    total = (y**2).sum(0)
    explained = np.divide(
        (fitted**2).sum(0), total, out=np.full(len(total), np.nan), where=total > 0
    )
    n, p = x.shape
    left = np.clip(1 - explained, 0, None)
    with np.errstate(divide="ignore"):
        statistic = (explained / p) / (left / (n - p - 1))
    pvalue = f_distribution.sf(statistic, p, n - p - 1)
    return n, explained, 1 - left * (n - 1) / (n - p - 1), pvalue


def _predictors(values: pd.Series) -> np.ndarray:
    """The values of a numeric covariate, or indicators of all categories but the first."""
    if is_numeric(values):
        return values.to_numpy(dtype=float)[:, None]
    return pd.get_dummies(values.astype(str), drop_first=True).to_numpy(dtype=float)


def _why_not(values: pd.Series) -> str | None:
    """Why a covariate cannot be used, if so."""
    known = values.dropna()
    n_predictors = 1 if is_numeric(known) else known.nunique() - 1
    if known.nunique() < 2:
        return f"found {known.nunique()} different values among {len(known)} samples with one."
    if n_predictors > len(known) - 2:
        return (
            f"found {known.nunique()} categories of {len(known)} samples: there must be more "
            "samples than categories, and more than two."
        )
    return None


def _pearson(means: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of columns with columns, F x D, and its two-sided p-value."""
    (x, has_x), (y, has_y) = _standardised(means), _standardised(components)
    r = np.clip(x.T @ y, -1, 1)
    r[~np.outer(has_x, has_y)] = np.nan
    left = len(means) - 2
    with np.errstate(divide="ignore"):
        statistic = np.abs(r) * np.sqrt(left / (1 - r**2))
    return r, 2 * t_distribution.sf(statistic, left)


def _standardised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of mean zero and length one, and which of them vary."""
    centred = values - values.mean(0)
    length = np.linalg.norm(centred, axis=0)
    varies = length > 1e-10 * (1 + np.abs(values).max(0))
    return centred / np.where(varies, length, 1), varies
