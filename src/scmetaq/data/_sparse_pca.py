from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import svd_flip

from ._training_set import csr_tensor

_OVERSAMPLES = 10
_N_POWER_ITERATIONS = 4
_DENSE_SHARE = 0.2  # share of non-zeros from which dense products are faster, in hardly more memory


class PrincipalAxes(NamedTuple):
    """Principal axes of a matrix of cells by features."""

    components: np.ndarray  # axes in rows, (n_components, n_features)
    variance: np.ndarray  # variance of the cells along each, (n_components,)
    mean: np.ndarray  # mean of each feature, (n_features,)


def sparse_pca(
    values: sp.csr_matrix, n_components: int, *, row_shift: np.ndarray | None = None, seed: int = 0
) -> PrincipalAxes:
    r"""Principal components of a sparse matrix :math:`X - s\,\mathbf 1^\top`, which stays sparse.

    A randomised range finder (Halko et al., SIAM Review 53 (2011), doi:10.1137/090771806), without
    carrying out the centring or the shift :math:`s` of rows on the matrix.
    """
    n_cells, n_features = values.shape
    n = max(1, min(n_components, min(values.shape) - 1))
    shift = np.zeros(n_cells, np.float32) if row_shift is None else row_shift
    mean = np.asarray(values.mean(0)).ravel() - shift.mean()
    if n + _OVERSAMPLES >= min(values.shape):
        dense = values.toarray() - shift[:, None] - mean
        _, scale, axes = np.linalg.svd(dense, full_matrices=False)
    else:
        start = np.random.default_rng(seed).standard_normal((n_features, n + _OVERSAMPLES))
        axes, scale = _randomised(values, shift, mean, start.astype(np.float32))
    axes, scale = axes[:n], scale[:n]
    axes = svd_flip(None, axes, u_based_decision=False)[1]
    return PrincipalAxes(axes, np.square(scale) / max(1, n_cells - 1), mean)


def kept_share(variance: np.ndarray, total: float, shape: tuple[int, int]) -> np.ndarray:
    r"""Share of a cell's scores that is left if principal axes are fitted without the cell.

    Without one of :math:`n` cells the axis of variance :math:`\lambda_j` turns, to first order,
    such that the cell's score along it is :math:`1 - R / (n (\lambda_j - \bar\lambda))` times as
    large. :math:`R` is the variance of ``total`` that the axes leave, and :math:`\bar\lambda =
    R (1/n + 1/p)` the variance along one of the other axes of :math:`p` features, weighted by
    itself, as it is for noise (Marchenko and Pastur). For the bias see Lee, Zou and Wright,
    Convergence and prediction of principal component scores in high-dimensional settings, Annals of
    Statistics 2010.
    """
    (n_cells, n_features), rest = shape, max(total - float(variance.sum()), 0)
    above = variance - rest * (1 / n_cells + 1 / n_features)
    return np.clip(1 - rest / n_cells / np.maximum(above, 1e-12), 0, 1)


def _randomised(
    values: sp.csr_matrix, shift: np.ndarray, mean: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Leading right singular vectors of ``values - shift 1' - 1 mean'``, in rows, and values."""
    # torch multiplies sparse matrices several times faster than scipy
    is_dense = values.nnz > _DENSE_SHARE * np.prod(values.shape)
    matrix = torch.from_numpy(values.toarray()) if is_dense else csr_tensor(values)
    transposed = matrix.T if is_dense else csr_tensor(values.T)

    def times(right: np.ndarray) -> np.ndarray:
        product = (matrix @ torch.from_numpy(right)).numpy()
        return product - np.outer(shift, right.sum(0)) - mean @ right

    for _ in range(_N_POWER_ITERATIONS):
        cells = times(basis)
        product = (transposed @ torch.from_numpy(cells)).numpy()
        basis, _ = np.linalg.qr(product - shift @ cells - np.outer(mean, cells.sum(0)))
    _, scale, rotation = np.linalg.svd(times(basis), full_matrices=False)
    return rotation @ basis.T, scale
