"""Diffusion separation: how far a metacell is from the nearest other in diffusion space."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from scmetaq import _keys
from scmetaq.metrics._diffusion_map import DiffusionMap, grouped_components


def diffusion_separation(X: ArrayLike | DiffusionMap, assignment: ArrayLike) -> pd.Series:
    r"""Distance of each metacell's mean to the nearest other's, in diffusion components.

    .. math:: \min_{M' \ne M} \lVert \bar c_M - \bar c_{M'} \rVert

    with the mean :math:`\bar c_M` of the diffusion components of the metacell's cells.

    Parameters
    ----------
    X
        Embedding, shape ``(n_cells, n_dimensions)``, e.g. principal components; or the
        :func:`~scmetaq.metrics.diffusion_map` of the cells, to compute it once for many calls.
        The map is made of all rows, so that methods which leave cells out are judged in the same
        space.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in units of the diffusion components; higher is
    better; NaN for a metacell outside the largest piece of the map. Comparable between groupings
    of the same cells only.

    References
    ----------
    Persad et al., SEACells infers transcriptional and epigenomic cellular states from single-cell
    genomics data, Nature Biotechnology 2023.
    """
    components, groups = grouped_components(X, assignment)
    means = components.groupby(level=0).mean()  # up to K x L
    if len(means) < 2:
        raise ValueError(
            f"Expected at least two metacells, found only {groups.names[means.index].tolist()}. "
            "Separation compares metacells; pass a finer assignment."
        )
    # a tree computes each distance from differences: exact however near two means are
    search = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(means.to_numpy())
    values = np.full(len(groups.names), np.nan)
    values[means.index] = search.kneighbors()[0].ravel()
    return pd.Series(values, index=groups.names.rename(_keys.METACELL), name="diffusion_separation")
