from typing import Literal

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

CodebookInit = Literal["kmeans", "random", "geometric"]

_MAX_CELLS_FULL_KMEANS = 50_000


def initial_codes(
    z: np.ndarray, n_codes: int, init: CodebookInit = "kmeans", *, seed: int = 0
) -> np.ndarray:
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
    Codes, shape ``(n_codes, n_latent)``.

    References
    ----------
    Geometric sketching: Hie et al., Cell Systems 8 (2019), doi:10.1016/j.cels.2019.05.003.
    """
    if init == "kmeans":
        return _kmeans_centres(z, n_codes, seed)
    if init == "geometric":
        return z[_geometric_sketch(z, n_codes, seed)]
    return z[np.random.default_rng(seed).choice(len(z), n_codes, replace=False)]


def _kmeans_centres(z: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """K-means centres; mini-batches only where whole passes would take minutes."""
    if len(z) <= _MAX_CELLS_FULL_KMEANS:
        kmeans = KMeans(n_codes, n_init=1, random_state=seed)
    else:
        kmeans = MiniBatchKMeans(n_codes, n_init=1, random_state=seed, batch_size=4096)
    return kmeans.fit(z).cluster_centers_


def _geometric_sketch(z: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    from geosketch import gs

    state = np.random.get_state()  # noqa: NPY002  (geosketch seeds the global generator)
    try:
        return np.asarray(gs(z, n_codes, replace=False, seed=seed))
    finally:
        np.random.set_state(state)  # noqa: NPY002
