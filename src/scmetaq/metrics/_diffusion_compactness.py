"""Diffusion compactness: how little the cells of a metacell spread in diffusion space."""

import pandas as pd
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._diffusion_map import DiffusionMap, grouped_components


def diffusion_compactness(X: ArrayLike | DiffusionMap, assignment: ArrayLike) -> pd.Series:
    r"""Variance of diffusion components within each metacell, mean over components.

    .. math::

        \frac{1}{L} \sum_{l=1}^{L} \frac{1}{|M| - 1} \sum_{i \in M} (c_{il} - \bar c_{Ml})^2

    with :math:`L` diffusion components :math:`c` and their mean :math:`\bar c_M` in the metacell.

    Lower is better: the opposite direction of :func:`~scmetaq.metrics.compactness`, which is a
    correlation. Never compare the two.

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
    Value per metacell, shape ``(n_metacells,)``, in squared units of the diffusion components;
    NaN for a metacell of one cell, or outside the largest piece of the map. Comparable between
    groupings of the same cells only.

    References
    ----------
    Persad et al., SEACells infers transcriptional and epigenomic cellular states from single-cell
    genomics data, Nature Biotechnology 2023.
    """
    components, groups = grouped_components(X, assignment)
    variance = components.groupby(level=0).var().reindex(range(len(groups.names)))  # K x L
    return pd.Series(
        variance.mean(axis=1).to_numpy(),
        index=groups.names.rename(_keys.METACELL),
        name="diffusion_compactness",
    )
