"""How much of the principal components of samples is explained by what is known of the samples."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import f as f_distribution

from scmetaq.tl._samples import COMPONENTS, column_of, coordinates


class _Fit(NamedTuple):
    """A regression of each component on a covariate."""

    n_samples: int
    r2: np.ndarray
    adjusted_r2: np.ndarray
    pvalue: np.ndarray


def covariate_association(
    samples: AnnData,
    covariates: str | Sequence[str] | None = None,
    *,
    use_rep: str = COMPONENTS,
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
    KeyError, ValueError
        No such column or embedding; or a covariate that is the same in all samples or has too
        many categories for so few samples.

    Notes
    -----
    Covariates that go together (donor and centre) explain the same variance: a high value does
    not say which of them acts.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """
    components = coordinates(samples, use_rep)
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
        values = column_of(samples, name, "covariates")
        reason = _why_not(values)
        if reason is not None:
            raise ValueError(
                f"Expected a covariate that can explain something in {name!r}, {reason}"
            )
        fit = _regress(components, values)
        rows += [
            (name, f"PC{i + 1}", fit.n_samples, fit.r2[i], fit.adjusted_r2[i], fit.pvalue[i])
            for i in range(components.shape[1])
        ]
    columns = ["covariate", "component", "n_samples", "r2", "adjusted_r2", "pvalue"]
    return pd.DataFrame(rows, columns=columns)


def _regress(components: np.ndarray, values: pd.Series) -> _Fit:
    """Least squares of all components on one covariate with an intercept."""
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
    return _Fit(
        n,
        explained,
        1 - left * (n - 1) / (n - p - 1),
        f_distribution.sf(statistic, p, n - p - 1),
    )


def _predictors(values: pd.Series) -> np.ndarray:
    """The values of a numeric covariate, or indicators of all categories but the first."""
    if _is_numeric(values):
        return values.to_numpy(dtype=float)[:, None]
    return pd.get_dummies(values.astype(str), drop_first=True).to_numpy(dtype=float)


def _why_not(values: pd.Series) -> str | None:
    """Why a covariate cannot be used, if so."""
    known = values.dropna()
    n_predictors = 1 if _is_numeric(known) else known.nunique() - 1
    if known.nunique() < 2:
        return f"found {known.nunique()} different values among {len(known)} samples with one."
    if n_predictors > len(known) - 2:
        return (
            f"found {known.nunique()} categories of {len(known)} samples: there must be more "
            "samples than categories, and more than two."
        )
    return None


def _is_numeric(values: pd.Series) -> bool:
    is_number = pd.api.types.is_numeric_dtype(values)
    return is_number and not pd.api.types.is_bool_dtype(values)
