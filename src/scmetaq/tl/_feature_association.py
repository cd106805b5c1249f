"""Features that go with the principal components of samples."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import t as t_distribution

from scmetaq.metrics._cell_values import cell_values
from scmetaq.tl._log_counts import log_counts
from scmetaq.tl._samples import COMPONENTS, coordinates


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
    components = coordinates(samples, use_rep)
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"Expected `adata` as an AnnData, found {type(adata).__name__}. Of a MuData pass one "
            "modality."
        )
    of_cell = samples.obs_names.get_indexer(cell_values(adata, by, what="by").astype(str))
    found = np.unique(of_cell[of_cell >= 0])
    if len(found) < 3:
        raise ValueError(
            f"Expected cells of at least three of the {samples.n_obs} samples in {by!r}, found "
            f"those of {len(found)}. Name the column whose values are the names of the samples."
        )
    means = _means(log_counts(adata, layer), of_cell, samples.n_obs)[found]  # S x F
    r, pvalue = _pearson(means, components[found])  # F x D
    n_features, n_components = r.shape
    frame = pd.DataFrame(
        {
            "feature": np.tile(adata.var_names.to_numpy(), n_components),
            "component": np.repeat([f"PC{i + 1}" for i in range(n_components)], n_features),
            "mean": np.tile(means.mean(0), n_components),
            "r": r.T.ravel(),
            "pvalue": pvalue.T.ravel(),
        }
    )
    order = np.lexsort(
        (-np.nan_to_num(abs(r.T.ravel()), nan=-1), np.arange(len(frame)) // n_features)
    )
    return frame.iloc[order].reset_index(drop=True)


def _means(X: sp.csr_matrix, of_cell: np.ndarray, n_samples: int) -> np.ndarray:
    """Mean of the cells of each sample, S x F; zero of a sample without cells."""
    cells = np.flatnonzero(of_cell >= 0)
    sizes = np.bincount(of_cell[cells], minlength=n_samples)
    weights = 1 / sizes[of_cell[cells]]
    indicator = sp.csr_matrix((weights, (of_cell[cells], cells)), shape=(n_samples, len(of_cell)))
    return (indicator @ X).toarray()


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
