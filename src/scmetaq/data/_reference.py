"""Statistics of the features, fitted to a sample of the cells before training.

Everything here works on one sparse matrix of raw counts of the *reference sample*: all cells,
or a random sample of at most ``MAX_REFERENCE_CELLS``. It stays sparse, and its memory does not grow
with the data.
"""

from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from ._dispersion import normalised_dispersion
from ._sparse_pca import kept_share, sparse_pca
from ._training_set import spread

MAX_REFERENCE_CELLS: Final = 20_000
TARGET_SUM: Final = 1e4  # counts per cell after scaling by the size factor (paper: 10,000)
_MOST_SPLIT: Final = 4_000  # cells whose counts are split to measure the reliability of axes
N_SCORES: Final = 50  # principal axes of the log and of the square-root view, each
_MIN_SCALE: Final = 1e-6
_MIN_NOISE: Final = 1e-4
_MIN_PRIOR: Final = 1e-10


class LinearMap(NamedTuple):
    """Affine map of transformed counts of some features: ``t[:, features] @ axes - offset``."""

    features: np.ndarray  # indices of the features read, (n_selected,) int64
    axes: np.ndarray  # (n_selected, n_components)
    offset: np.ndarray  # (n_components,)

    def __call__(self, transformed: np.ndarray) -> np.ndarray:
        """Scores of transformed counts ``(n_cells, n_selected)``."""
        return transformed @ self.axes - self.offset


class Factors(NamedTuple):
    """Values of features as linear functions of scores, with independent noise."""

    mean: np.ndarray  # of each feature, (n_features,)
    loadings: np.ndarray  # (n_scores, n_features)
    noise: np.ndarray  # variance of what scores do not explain, (n_features,)
    prior: np.ndarray  # variance of each score, (n_scores,)


class StateFit(NamedTuple):
    """Regression of states on scores and random features: see :class:`scmetaq.nn.StateMap`."""

    directions: np.ndarray  # (n_read, n_random)
    shift: np.ndarray  # (n_random,)
    coefficients: np.ndarray  # (n_read + n_random, n_latent)
    intercept: np.ndarray  # (n_latent,)


class Scaling(NamedTuple):
    """Statistics of features."""

    mean: np.ndarray  # mean log1p counts per 10k of the selected features, (n_selected,)
    scale: np.ndarray  # their standard deviation, (n_selected,)
    rate: np.ndarray  # mean count per unit of size factor of all features, (n_features,)


class Reference(NamedTuple):
    """Statistics of the reference sample from which the encoder is built."""

    scaling: Scaling
    profile: LinearMap  # principal axes of centred, unit-length log profiles
    log: LinearMap  # reliability-weighted principal axes of half-scaled log counts
    sqrt: LinearMap  # the same of square-root counts
    log_factors: Factors  # regression of the features of the log view on its scores
    sqrt_factors: Factors  # the same of the square-root view
    kept: np.ndarray  # share of both views' scores left where axes are not fitted to the cell
    reliability: float  # share of variance along these axes that halves of the counts agree on


def size_factor(counts: sp.csr_matrix | np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Library size of each cell, or the one ``given``, over the target sum, ``(n_cells, 1)``."""
    size = counts.sum(axis=1) if given is None else given
    total = np.asarray(size, dtype=np.float32).reshape(-1, 1)
    return np.maximum(total, 1) / np.float32(TARGET_SUM)


def select_features(
    counts: sp.csr_matrix,
    n_top: int,
    *,
    by_variance: bool,
    allowed: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Sorted indices of the ``n_top`` features of largest dispersion, or detected in most cells.

    Of those ``allowed``, ``(n_features,)`` bool. The dispersion is scanpy's for log1p counts.
    """
    chosen = np.arange(counts.shape[1]) if allowed is None else np.flatnonzero(allowed)
    if len(chosen) <= n_top:
        return chosen
    if by_variance:
        scaled = _normalised(counts, size_factor(counts, sizes))
        mean = np.asarray(scaled.mean(0), dtype=np.float64).ravel()
        square = np.asarray(scaled.multiply(scaled).mean(0), dtype=np.float64).ravel()
        ranking = normalised_dispersion(mean, square, counts.shape[0])
    else:
        ranking = np.asarray((counts > 0).sum(axis=0)).ravel()
    return np.sort(chosen[np.argsort(-ranking[chosen], kind="stable")[:n_top]])


def fit_reference(
    counts: sp.csr_matrix,
    features: np.ndarray,
    *,
    n_components: int,
    allowed: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
    seed: int = 0,
) -> Reference:
    """Scaling and principal axes of raw counts; axes that the sample is too small for are zero.

    ``sizes`` are given library sizes, ``(n_cells, 1)``; halves of the counts have shares of them.
    """
    size, some = size_factor(counts, sizes), spread(counts.shape[0], _MOST_SPLIT)
    ratio = size[some] / size_factor(counts[some])
    halves = [(half, size_factor(half) * ratio) for half in _halves(counts[some], seed)]
    log = _transformed(counts, size, features, np.log1p)  # N x M
    sqrt_features = _most_variable(np.sqrt(_normalised(counts, size)), len(features), allowed)
    sqrt = _transformed(counts, size, sqrt_features, np.sqrt)
    (log_axes, log_factors, of_log, kept), (sqrt_axes, sqrt_factors, of_sqrt, sqrt_kept) = (
        _state_axes(full, halves, chosen, transform, seed)
        for full, chosen, transform in ((log, features, np.log1p), (sqrt, sqrt_features, np.sqrt))
    )
    return Reference(
        scaling=_scaling(counts, size, log),
        profile=_profile_axes(log, features, n_components, seed),
        log=log_axes,
        sqrt=sqrt_axes,
        log_factors=log_factors,
        sqrt_factors=sqrt_factors,
        kept=np.concatenate([kept, sqrt_kept]),
        reliability=(of_log + of_sqrt) / 2,
    )


def fit_scaling(
    counts: sp.csr_matrix, features: np.ndarray, *, sizes: np.ndarray | None = None
) -> Scaling:
    """Statistics of chosen features ``(n_selected,)`` of raw counts ``(n_cells, n_features)``."""
    size = size_factor(counts, sizes)
    return _scaling(counts, size, _transformed(counts, size, features, np.log1p))


def _scaling(counts: sp.csr_matrix, size: np.ndarray, log: sp.csr_matrix) -> Scaling:
    mean, scale = _mean_and_std(log)
    rate = np.asarray(counts.sum(0)).ravel() / size.sum()
    return Scaling(mean, np.maximum(scale, _MIN_SCALE), rate)


def _normalised(counts: sp.csr_matrix, size: np.ndarray) -> sp.csr_matrix:
    """Counts per 10k; zeros stay zero."""
    return sp.csr_matrix(counts.multiply(1 / size), dtype=np.float32)


def _transformed(
    counts: sp.csr_matrix, size: np.ndarray, features: np.ndarray, transform: np.ufunc
) -> sp.csr_matrix:
    """A transform, which leaves zero at zero, of counts per 10k of some features."""
    chosen = counts[:, features] if len(features) < counts.shape[1] else counts.copy()
    factor = np.repeat(size[:, 0], np.diff(chosen.indptr))  # nnz
    chosen.data = transform(chosen.data / factor)
    return chosen


def _mean_and_std(values: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Of each column, in single precision."""
    mean = np.asarray(values.mean(0, dtype=np.float64)).ravel()
    square = np.asarray(values.power(2).mean(0, dtype=np.float64)).ravel()
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), std.astype(np.float32)


def _most_variable(values: sp.csr_matrix, n_top: int, allowed: np.ndarray | None) -> np.ndarray:
    """Sorted indices of the ``n_top`` columns of largest variance, of those allowed."""
    _, std = _mean_and_std(values)
    std = std if allowed is None else np.where(allowed, std, -1)
    return np.sort(np.argsort(-std, kind="stable")[:n_top])


def _profile_axes(
    log: sp.csr_matrix, features: np.ndarray, n_components: int, seed: int
) -> LinearMap:
    """Principal axes of unit profiles, scaled so that the scores have unit total variance.

    Unit profiles are rows of log counts, centred and scaled to unit length: their inner product
    is Pearson's correlation.
    """
    mean = np.asarray(log.mean(1, dtype=np.float64)).ravel()
    square = np.asarray(log.power(2).sum(1, dtype=np.float64)).ravel() - log.shape[1] * mean**2
    norm = np.maximum(np.sqrt(np.maximum(square, 0)), _MIN_SCALE)
    unit = sp.csr_matrix(log.multiply(1 / norm[:, None]), dtype=np.float32)
    fitted = sparse_pca(unit, n_components, row_shift=(mean / norm).astype(np.float32), seed=seed)
    axes = np.zeros((len(features), n_components), np.float32)
    axes[:, : len(fitted.components)] = fitted.components.T
    axes /= np.sqrt(max(fitted.variance.sum(), _MIN_SCALE))
    return LinearMap(features, axes, (fitted.mean @ axes).astype(np.float32))


def _state_axes(
    full: sp.csr_matrix,
    halves: list[tuple[sp.csr_matrix, np.ndarray]],
    features: np.ndarray,
    transform: np.ufunc,
    seed: int,
) -> tuple[LinearMap, Factors, float, np.ndarray]:
    r"""Principal axes of half-scaled transformed counts, each weighted by its reliability.

    Dividing by the square root of the standard deviation is half-way between unscaled counts,
    dominated by highly expressed features, and z-scores, dominated by noise. Reliability
    is the correlation of an axis between two halves of every cell's counts (binomial count
    splitting), stepped up to full depth by the Spearman-Brown formula :math:`2r/(1+r)`. Returned
    with the axes are the regression of features on scores, the mean reliability over the axes,
    weighted by variance, and what :func:`kept_share` finds.
    """
    std = np.maximum(_mean_and_std(full)[1], _MIN_SCALE)  # M
    weight = 1 / np.sqrt(std)  # M
    scaled = sp.csr_matrix(full.multiply(weight), dtype=np.float32)
    n_scores = min(N_SCORES, len(features))
    fitted = sparse_pca(scaled, n_scores, seed=seed)
    axes = np.zeros((len(features), n_scores), np.float32)
    axes[:, : len(fitted.components)] = (fitted.components * weight).T  # M x S
    a, b = (_transformed(*half, features, transform) @ axes for half in halves)
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    r = np.clip((a * b).sum(0) / np.maximum(norm, _MIN_SCALE), 0, 1)
    reliability = 2 * r / (1 + r)  # S
    variance = (full @ axes).var(0)  # S
    axes = axes * reliability
    offset = (fitted.mean / weight) @ axes
    scores = full @ axes - offset
    total = scores.var(0).sum()
    scale = np.sqrt(2 * total + _MIN_SCALE)
    axes, offset = axes / scale, offset / scale
    fitted_map = LinearMap(features, axes.astype(np.float32), offset.astype(np.float32))
    factors = _fit_factors(full, scores / scale)
    mean_reliability = float(reliability @ variance / max(variance.sum(), _MIN_SCALE))
    kept = np.ones(n_scores, np.float32)
    kept[: len(fitted.variance)] = kept_share(fitted.variance, std.sum(), full.shape)
    return fitted_map, factors, mean_reliability, kept


def _halves(counts: sp.csr_matrix, seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Two halves of the counts: each count is thinned with probability one half."""
    half = counts.copy()
    rng = np.random.default_rng(seed)
    half.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    return half, counts - half


def _fit_factors(values: sp.csr_matrix, scores: np.ndarray) -> Factors:
    """Least-squares regression of transformed counts on uncorrelated scores of the same cells."""
    n_cells = values.shape[0]
    centred = (scores - scores.mean(0)).astype(np.float64)
    mean = np.asarray(values.mean(0, dtype=np.float64)).ravel()
    square = np.asarray(values.power(2).mean(0, dtype=np.float64)).ravel()
    prior = np.maximum((centred**2).mean(0), _MIN_PRIOR)  # S
    gram = centred.T @ centred / n_cells + np.diag(1e-6 * prior)  # S x S
    cross = np.asarray(values.T @ centred).T / n_cells  # S x M
    loadings = np.linalg.solve(gram, cross)
    noise = np.maximum(square - mean**2 - (cross * loadings).sum(0), _MIN_NOISE)
    return Factors(*(part.astype(np.float32) for part in (mean, loadings, noise, prior)))


def denoised_states(smooth: np.ndarray, n_latent: int) -> np.ndarray:
    """States of cells: scores averaged over neighbours, on their principal axes, of unit variance.

    Axes that there are too few cells or scores for are zero.
    """
    n = max(1, min(n_latent, min(smooth.shape) - 1))
    solver = "randomized" if n < 0.8 * min(smooth.shape) else "full"
    states = np.zeros((len(smooth), n_latent), np.float32)
    states[:, :n] = PCA(n, svd_solver=solver, random_state=0).fit_transform(smooth)
    return states / np.float32(np.sqrt(max(smooth.var(0).sum(), _MIN_SCALE)))


def fit_state_map(scores: np.ndarray, states: np.ndarray, *, n_random: int, seed: int) -> StateFit:
    """Regress states ``(n_cells, n_latent)`` on scores of mean square one and random features."""
    rng = np.random.default_rng(seed)
    n_read = scores.shape[1]
    directions = rng.standard_normal((n_read, n_random), np.float32) / np.float32(np.sqrt(n_read))
    shift = rng.standard_normal(n_random, np.float32)
    read = np.hstack([scores, np.maximum(scores @ directions + shift, 0)])
    ridge = Ridge(alpha=len(read) / 1000).fit(read, states)
    return StateFit(directions, shift, ridge.coef_.T, ridge.intercept_)


def fit_bridge(source: np.ndarray, target: np.ndarray) -> LinearMap:
    """Ridge regression from scores of one modality to scores and profile of another."""
    ridge = Ridge(alpha=len(source) / 100).fit(source, target)
    return LinearMap(np.arange(source.shape[1]), ridge.coef_.T, -ridge.intercept_)
