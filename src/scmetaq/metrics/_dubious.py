"""Dubious metacells: those whose cells differ by more than noise."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import check_int, check_share

from ._groups import grouped_rows, unit_rows


def dubious(
    X: Any,
    assignment: ArrayLike,
    *,
    level: float = 0.01,
    n_permutations: int = 50,
    min_detected: float = 0.1,
    max_cells: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Find metacells whose features correlate across cells, as they do where states are mixed.

    Within one state cells differ by sampling noise, which is nearly independent between features.
    Two states in one metacell make the features that distinguish them rise and fall together.

    .. math::

        D(Z) = \frac{\lVert \operatorname{cor}(Z) - I \rVert_F}
                    {\sqrt{\operatorname{E} \lVert \operatorname{cor}(Z^*) - I \rVert_F^2}}
             = \lVert \operatorname{cor}(Z) - I \rVert_F \sqrt{\frac{n - 1}{p (p - 1)}}

    for :math:`n` cells and :math:`p` standardised features :math:`Z`; :math:`Z^*` has each feature
    permuted among the cells, and a permuted Pearson correlation has variance :math:`1 / (n - 1)`.
    The null distribution is that of :math:`D` after permuting the values within each cell: that
    destroys what features have in common and keeps what makes whole cells differ, such as depth.
    Draws are pooled over metacells of similar size.

    Parameters
    ----------
    X
        Expression, shape ``(n_cells, n_features)``, dense or sparse, 0 where nothing was detected;
        log1p counts per 10k of the most variable genes.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    level
        Share of the null draws above the threshold.
    n_permutations
        Permutations per metacell, pooled over metacells of the nearest sizes to at least
        ``10 / level`` draws.
    min_detected
        A metacell is judged by the features detected in more than this share of its cells.
    max_cells, seed
        Larger metacells are judged by a random sample of this many cells: bounds memory.

    Returns
    -------
    One row per metacell, indexed by its name: ``n_cells`` and ``n_features`` (those judged),
    ``statistic`` (:math:`D`, about 1 for independent features; lower is better), ``threshold`` and
    ``dubious`` (bool). Metacells of fewer than three cells or two features cannot be judged, which
    does not make them good: NaN, NaN and False. After mcRigor (Liu and Li, Nature Communications
    2025), with the permutation of features replaced by its expectation and sizes pooled instead of
    smoothed. The test shows that a metacell is mixed, not that this harms; with more cells it
    detects smaller differences. At ``level=0.01`` up to 7 in 100 homogeneous metacells are called.
    """
    check_int("n_permutations", n_permutations)
    check_int("max_cells", max_cells, least=3)
    check_int("seed", seed, least=0)
    check_share("level", level, excluded=[0, 1])
    check_share("min_detected", min_detected, excluded=[1])
    X, groups = grouped_rows(X, assignment)
    # a stream per metacell: what is drawn for one does not depend on the others
    streams = np.random.default_rng(seed).spawn(len(groups.names))
    judged = [
        _judge(X, rows, rng, n_permutations, min_detected, max_cells)
        for rows, rng in zip(groups.members, streams, strict=True)
    ]
    columns = [_keys.N_CELLS, "n_features", "statistic"]
    names = groups.names.rename(_keys.METACELL)
    table = pd.DataFrame([row for *row, _ in judged], names, columns)
    null = np.array([draws for *_, draws in judged])
    n_pooled = int(np.ceil(10 / level / n_permutations))
    table["threshold"] = _thresholds(table[_keys.N_CELLS].to_numpy(), null, level, n_pooled)
    table["dubious"] = table["statistic"] > table["threshold"]
    return table


def _judge(
    X: Any, rows: np.ndarray, rng: np.random.Generator, n_draws: int, least: float, most: int
) -> tuple[int, int, float, np.ndarray]:
    """Cells, features and divergence of one metacell, and divergences of draws of the null."""
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    cells = X[rows]  # n x F
    cells = cells.toarray() if sp.issparse(cells) else cells
    detected = (cells != 0).mean(axis=0) > least
    Z = unit_rows(cells[:, detected].T).T  # n x p
    Z = Z[:, Z.any(axis=0)]
    if len(rows) < 3 or Z.shape[1] < 2:
        return len(rows), Z.shape[1], np.nan, np.full(n_draws, np.nan)
    null = [_divergence(unit_rows(rng.permuted(Z, axis=1).T).T) for _ in range(n_draws)]
    return len(rows), Z.shape[1], _divergence(Z), np.array(null)


def _divergence(Z: np.ndarray) -> float:
    """Norm of the correlations between columns, over what independent columns would give."""
    n, p = Z.shape
    gram = Z @ Z.T if n < p else Z.T @ Z  # the same norm, from the smaller of the two
    between = np.square(gram).sum() - p  # the diagonal of the correlations is one
    return float(np.sqrt(max(between, 0) * (n - 1) / (p * (p - 1))))


def _thresholds(sizes: np.ndarray, null: np.ndarray, level: float, n_pooled: int) -> np.ndarray:
    """Quantile of the null draws of metacells near in size, shape ``(n_metacells,)``."""
    usable = ~np.isnan(null).any(axis=1)  # K
    thresholds = np.full(len(sizes), np.nan)
    near = min(n_pooled, int(usable.sum()))
    for size in np.unique(sizes[usable]):
        distance = np.abs(np.log(sizes[usable] / size))
        pool = null[usable][distance <= np.partition(distance, near - 1)[near - 1]]
        thresholds[usable & (sizes == size)] = np.quantile(pool, 1 - level)
    return thresholds
