from math import log
from typing import Literal

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

CodebookInit = Literal["kmeans", "random", "geometric"]


def initial_codes(
    z: Tensor, n_codes: int, init: CodebookInit = "kmeans", *, seed: int = 0
) -> Tensor:
    """Codes to start from, taken from the latents of cells.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    n_codes
        Number of codes, at most ``n_cells``.
    init
        ``"kmeans"``: centres of k-means; ``"geometric"``: cells of a geometric sketch, which
        covers the latent space evenly; ``"random"``: cells drawn at random.
    seed
        Seed of the draws.

    Returns
    -------
    Codes, shape ``(n_codes, n_latent)``, on the device of ``z``.

    References
    ----------
    Geometric sketching: Hie et al., Cell Systems 8 (2019), doi:10.1016/j.cels.2019.05.003.
    """
    if init == "kmeans":
        return _kmeans_centres(z, n_codes, seed)
    if init == "geometric":
        return z[_geometric_sketch(z.cpu().numpy(), n_codes, seed)]
    return z[np.random.default_rng(seed).choice(len(z), n_codes, replace=False)]


def kmeans_plusplus(z: Tensor, n_codes: int, *, seed: int = 0) -> Tensor:
    r"""Cells to start k-means from, by greedy k-means++.

    Each further cell is drawn with a chance in proportion to its squared distance to the nearest
    cell chosen so far; of :math:`2 + \lfloor\ln K\rfloor` such cells the one is taken that
    leaves the least sum of these distances. The same draws choose the same cells as in
    scikit-learn, but for rounding; this one works in single precision, on the device of ``z``.

    Parameters
    ----------
    z
        Latents, shape ``(n_cells, n_latent)``.
    n_codes
        Number of cells to choose, at most ``n_cells``.
    seed
        Seed of the draws.

    Returns
    -------
    Indices of the cells, shape ``(n_codes,)``.

    References
    ----------
    Arthur and Vassilvitskii, SODA (2007), doi:10.5555/1283383.1283494.
    """
    generator = np.random.RandomState(seed)
    n_cells, n_trials = len(z), 2 + int(log(n_codes))
    z = z - z.mean(0)  # less to lose by rounding
    squares = z.square().sum(1)  # N
    chosen = torch.empty(n_codes, dtype=torch.long, device=z.device)
    chosen[0] = int(generator.choice(n_cells, p=np.full(n_cells, 1 / n_cells)))
    closest = _distances(z, squares, chosen[:1])[:, 0]  # N
    for k in range(1, n_codes):
        cumulated = closest.double().cumsum(0)  # N
        draws = torch.from_numpy(generator.uniform(size=n_trials)).to(z.device) * cumulated[-1]
        candidates = torch.searchsorted(cumulated, draws).clamp_(max=n_cells - 1)
        distances = torch.minimum(_distances(z, squares, candidates), closest[:, None])  # N x T
        best = distances.sum(0, dtype=torch.float64).argmin()
        closest, chosen[k] = distances[:, best].contiguous(), candidates[best]
    return chosen


def _distances(z: Tensor, squares: Tensor, cells: Tensor) -> Tensor:
    """Squared distances of all cells, of squared norms ``squares``, to some: ``(n_cells, n)``."""
    cross = torch.addmm(squares[:, None], z, z[cells].T, alpha=-2)
    return cross.add_(squares[cells]).clamp_(min=0)


def _kmeans_centres(z: Tensor, n_codes: int, seed: int) -> Tensor:
    start = z[kmeans_plusplus(z, n_codes, seed=seed)]
    kmeans = KMeans(n_codes, init=start.cpu().numpy(), n_init=1).fit(z.cpu().numpy())
    return torch.from_numpy(kmeans.cluster_centers_).to(z)


def _geometric_sketch(z: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    from geosketch import gs

    state = np.random.get_state()  # noqa: NPY002  (geosketch seeds the global generator)
    try:
        return np.asarray(gs(z, n_codes, replace=False, seed=seed))
    finally:
        np.random.set_state(state)  # noqa: NPY002
