"""Principal components of metacells, each of which counts as its cells."""

import numpy as np
from anndata import AnnData
from numpy.typing import ArrayLike
from sklearn.decomposition import TruncatedSVD

from scmetaq import _keys
from scmetaq._errors import InputValueError, check_int
from scmetaq.metrics._groups import cell_values
from scmetaq.tl._summarize import coordinates, is_numeric


def weighted_pca(
    metacells: AnnData, n_components: int = 50, *, weights: str | ArrayLike = _keys.N_CELLS
) -> tuple[np.ndarray, np.ndarray]:
    r"""Find the principal components of cells, each in the place of its metacell.

    The axes are the first eigenvectors of

    .. math::
        \sum_k n_k (x_k - \bar x)(x_k - \bar x)^\top, \quad
        \bar x = \frac{\sum_k n_k x_k}{\sum_k n_k}

    Parameters
    ----------
    metacells
        Metacells; ``X`` as it is, e.g. log1p counts per 10k of variable genes, is made dense.
    n_components
        Number of axes, fewer than metacells and features.
    weights
        Cells per metacell, :math:`n_k`: column of ``obs``, Series by metacell or array.

    Returns
    -------
    Centred coordinates of the metacells, ``(n_metacells, n_components)``, and axes, unit vectors,
    ``(n_components, n_features)``.
    """
    values = coordinates(metacells, None, "metacells", "metacells")
    check_int("n_components", n_components, most=min(values.shape) - 1)
    column = cell_values(metacells, weights, what="weights")
    n_cells = column.to_numpy(np.float64, na_value=np.nan) if is_numeric(column) else np.zeros(1)
    if not ((n_cells > 0) & (n_cells < np.inf)).all():
        problem = f"Expected numbers above 0 as `weights`, found {column.tolist()[:3]}, ..."
        raise InputValueError(problem, "Pass the number of cells per metacell.", "weights")
    values = values - np.average(values, axis=0, weights=n_cells)  # may be the caller's, so a copy
    svd = TruncatedSVD(n_components, algorithm="arpack", random_state=0)
    svd.fit(values * np.sqrt(n_cells)[:, None])
    return values @ svd.components_.T, svd.components_
