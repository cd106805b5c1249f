"""Cells and the codes around them: soft assignments, and the cell that stands for a metacell."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import check_int, check_share
from scmetaq.data._cells import Cells

from ._blocks import Block
from ._given import Chosen

SHARPNESS = 16
"""Of the weights of the nearest codes."""
OUTLIER_DEVIATIONS = 5
"""Median absolute deviations above the median of the log score from which a cell is an outlier."""

_SCALE_OF_MAD = 1.4826
"""Of the median absolute deviation, to a standard deviation."""


def get_soft_assignments(
    self: Any,
    adata: AnnData | MuData | None = None,
    *,
    n_neighbors: int = 5,
    indices: Any = None,
    batch_size: int | None = None,
    dataloader: Any = None,
) -> sp.csr_matrix:
    r"""Weights of the nearest metacells of each cell.

    .. math:: w_{ik} \propto \exp\!\Big(-16\,\frac{d_{ik}^2}{s_{k(i)}^2}\Big)

    with the distances :math:`d_{ik}` to the ``n_neighbors`` nearest codes and the distance
    :math:`s_k` at which cells of code :math:`k` typically are, see :meth:`get_outlier_scores`. The
    factor makes weights about the shares of cells that another sample of their counts would assign
    to each metacell: it is that of the largest likelihood of the metacells of one half of the
    counts by the weights of the other half (``benchmarks/soft.py``).

    Parameters
    ----------
    adata
        Cells, with the features of the model; by default those of the model.
    n_neighbors
        Metacells with a weight above zero, at least 1; of a model with fewer all of them.
    indices, batch_size, dataloader
        As of :meth:`get_latent_representation`.

    Returns
    -------
    CSR ``(n_cells, n_metacells)``, columns in the order of :attr:`metacell_names`; rows sum to one,
    and the largest weight is that of the metacell of :meth:`get_assignments`.
    """
    check_int("n_neighbors", n_neighbors)
    chosen = self._chosen(adata, indices, batch_size, dataloader)
    return soft_weights(self, chosen.cells, n_neighbors)[chosen.place]


def soft_weights(model: Any, cells: Cells, n_neighbors: int = 5) -> sp.csr_matrix:
    """Weights of the nearest metacells of cells, see :func:`get_soft_assignments`."""
    n = min(n_neighbors, model.n_metacells)

    def nearest(module: Any, block: Block) -> dict[str, torch.Tensor]:
        found = module.inference(block.inputs, block.conditions)
        value, code = module.codebook.nearest(**found, n=n)
        if module.codebook.distance == "cosine":  # a squared distance of vectors of one length
            value = 2 * value * found["z"].square().sum(1, keepdim=True)
        typical = module.codebook.typical_distance[code[:, :1]].clamp_min(1e-12)
        weight = torch.softmax(SHARPNESS * value / typical.square(), 1)
        return {"code": code, "weight": weight}

    found = model._in_blocks(nearest, cells)
    shape = (cells.n_cells, model.n_metacells)
    ends = np.arange(0, found["code"].size + 1, n)
    weights = sp.csr_matrix((found["weight"].ravel(), found["code"].ravel(), ends), shape=shape)
    weights.sort_indices()
    return weights


def weights_of_all(
    model: Any, chosen: Chosen, metacell: pd.Series, group: torch.Tensor | None
) -> sp.csr_matrix:
    """Weights of all cells of the data in the metacells that have any, in groups of codes."""
    codes = metacell.cat.codes.to_numpy()
    rows = np.arange(len(codes))[chosen.rows]
    found = soft_weights(model, chosen.cells).astype(np.float64)
    if group is not None:
        of_code = group.cpu().numpy()
        found = found @ sp.csr_matrix((np.ones(len(of_code)), (np.arange(len(of_code)), of_code)))
    kept = np.flatnonzero(codes[rows] >= 0)
    place = sp.csr_matrix((np.ones(len(kept)), (rows[kept], kept)), (len(codes), len(rows)))
    return place @ found[:, np.unique(codes[codes >= 0])]


def get_representative_cells(
    self: Any,
    adata: AnnData | MuData | None = None,
    *,
    indices: Any = None,
    batch_size: int | None = None,
    dataloader: Any = None,
) -> pd.Series:
    """Barcode of the cell nearest to the code of each metacell, of the cells assigned to it.

    Parameters
    ----------
    adata
        Cells to choose from, with the features of the model; by default those of the model.
    indices, batch_size, dataloader
        As of :meth:`get_latent_representation`.

    Returns
    -------
    Indexed by metacell name, in the order of the codebook: ``cell``. Metacells without any of these
    cells are left out.
    """
    chosen = self._chosen(adata, indices, batch_size, dataloader)

    def distance(module: Any, block: Block) -> dict[str, torch.Tensor]:
        found = module.inference(block.inputs, block.conditions)
        code = module.codebook(**found).assignment
        return {"code": code, "distance": module.codebook.distances(**found, assignment=code)}

    found = pd.DataFrame(self._in_blocks(distance, chosen.cells))
    first = found.sort_values(["code", "distance"], kind="stable").drop_duplicates("code")
    names = pd.Index(self.metacell_names, name=_keys.METACELL)[first["code"]]
    return pd.Series(np.asarray(chosen.cells.names)[first.index], names, name="cell")


def outliers(scores: pd.Series, metacell: pd.Series, drop: float | bool) -> np.ndarray:
    """Which cells to leave out, ``(n_cells,)`` bool: by share, or (True) far above the others.

    The cell with the lowest score of each metacell stays.
    """
    values = np.log(np.maximum(scores.to_numpy(np.float64), 1e-12))
    if drop is True:
        deviation = np.median(np.abs(values - np.median(values)))
        is_out = values > np.median(values) + OUTLIER_DEVIATIONS * _SCALE_OF_MAD * deviation
    else:
        check_share("drop_outliers", drop, excluded=(1,))
        is_out = np.zeros(len(values), bool)
        is_out[np.argsort(-values, kind="stable")[: round(drop * len(values))]] = True
    lowest = scores.groupby(metacell.array, observed=True).idxmin()
    return is_out & ~scores.index.isin(lowest)
