"""Cells brought into a space that only their metacells were put into."""

import warnings
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from scmetaq import _keys
from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._groups import factorize_metacells
from scmetaq.tl._log_counts import log_counts

_N_HIDDEN: Final = 256
_N_EPOCHS: Final = 1_000
_BATCH_SIZE: Final = 512
_N_COMPONENTS: Final = 50


def recover_embedding(
    adata: AnnData,
    metacells: AnnData,
    use_rep: str,
    *,
    basis: str | None = None,
    by: str | pd.Series = _keys.METACELL,
    layer: str | None = None,
    seed: int = 0,
) -> np.ndarray:
    r"""Map cells into a space in which their metacells were integrated, say by Harmony.

    A small network :math:`m` learns from the metacells to go from the space before integration to
    the one after it, and is then applied to the cells (Eq. 25):

    .. math::
        m = \arg\min \frac{1}{K} \sum_{k=1}^{K} \|m(\hat x_k) - \hat z_k\|_2^2,
        \qquad z_i = m(x_i)

    where :math:`\hat z_k` is the integrated embedding of metacell :math:`k`, :math:`x_i` that of
    cell :math:`i` before integration, and :math:`\hat x_k` the mean of :math:`x_i` over the cells
    of the metacell.

    Parameters
    ----------
    adata
        Cells with an assignment, and with counts or an embedding before integration.
    metacells
        Metacells, named as in the assignment, with the integrated embedding.
    use_rep
        Entry of ``metacells.obsm`` with the integrated embedding, ``(n_metacells, d)``.
    basis
        Entry of ``adata.obsm`` with the embedding before integration. None: 50 principal
        components of log1p counts per 10k.
    by
        Metacell of each cell: a column of ``adata.obs``, or a Series aligned by barcode. Cells
        without a metacell teach the network nothing, but are mapped like all others.
    layer
        Layer with the raw counts; None: ``X``. Not read if ``basis`` is given.
    seed
        Seed of the network's start and of the principal components.

    Returns
    -------
    Embedding of the cells in the space of ``use_rep``, ``(n_cells, d)`` float32, in the order of
    the cells. Nothing is written: ``adata.obsm["X_recovered"] = recover_embedding(...)``.

    Raises
    ------
    TypeError
        Not AnnData, or an embedding is sparse.
    KeyError
        No such column, layer, or entry of ``obsm``; the message lists those there are.
    ValueError
        Cells are assigned to metacells that ``metacells`` does not have, fewer than two of its
        metacells have cells, or an embedding or the counts hold values that cannot be used.

    Notes
    -----
    The network has one hidden layer of 256 units and is trained for at most 1,000 epochs with
    Adam in batches of 512, as published. Two things differ. Its input is a linear embedding, not
    all features: then its size does not depend on their number. And :math:`\hat x_k` is the mean
    of the cells' embeddings, not the embedding of their mean counts: the logarithm of a mean is
    not the mean of logarithms, and the network would meet cells unlike anything it learnt from.

    The network knows no batches. It removes what integration removed as far as the batch of a cell
    can be told from its expression, and interpolates between the metacells; cells unlike all
    metacells land anywhere. Metacells of mixed batches teach it little about correcting them:
    make metacells within each batch first.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 25.
    """
    _check_data(adata, metacells)
    target = _entry(metacells, use_rep, "use_rep", "metacells")
    assignment = cell_values(adata, by, what="by")
    position = _positions(assignment, metacells.obs_names)
    if basis is None:
        x = _components(log_counts(adata, layer, otherwise="a layer or `basis`"), seed)
    else:
        x = _entry(adata, basis, "basis", "adata")
    learnt, means = _means(x, position)
    if len(learnt) < 2:
        raise ValueError(
            f"Expected at least two metacells with cells to learn from, found {len(learnt)} among "
            f"{metacells.n_obs}. Pass the cells that the metacells were made of."
        )
    return _mapped(x, means, target[learnt], seed)


def _mapped(x: np.ndarray, means: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
    """Learn the map of metacells and apply it to the cells, ``(n_cells, d)``.

    Both spaces keep the proportions of their axes: one scale each, so that the network listens
    to the leading axes more.
    """
    centre, scale = means.mean(0), _scale(means)
    target_centre, target_scale = target.mean(0), _scale(target)
    network = MLPRegressor(
        hidden_layer_sizes=(_N_HIDDEN,),
        batch_size=min(_BATCH_SIZE, len(means)),
        max_iter=_N_EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():  # the number of epochs is the published one
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit((means - centre) / scale, (target - target_centre) / target_scale)
    z = network.predict((x - centre) / scale).reshape(len(x), -1)
    return (z * target_scale + target_centre).astype(np.float32)


def _scale(values: np.ndarray) -> float:
    """Root mean variance of the columns; one if nothing varies."""
    return float(np.sqrt(values.var(0).mean())) or 1.0


def _means(x: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the metacells with cells, and the mean of their cells, ``(n, n_inputs)``."""
    cells = np.flatnonzero(position >= 0)
    learnt, code, sizes = np.unique(position[cells], return_inverse=True, return_counts=True)
    shape = (len(learnt), len(cells))
    indicator = sp.csr_matrix((1 / sizes[code], (code, np.arange(len(cells)))), shape=shape)
    return learnt, indicator @ x[cells]


def _positions(assignment: pd.Series, names: pd.Index) -> np.ndarray:
    """Position of each cell's metacell in ``names``, ``(n_cells,)``; -1: in none."""
    column = factorize_metacells(assignment)
    of_names = names.get_indexer(column.categories.astype(str))
    unknown = [str(name) for name in column.categories[of_names < 0]]
    if unknown:
        raise ValueError(
            f"Expected every metacell of the cells among the {len(names)} of `metacells`, found "
            f"{len(unknown)} unknown, e.g. {unknown[:3]}; known ones are {list(names[:3])}, ... "
            "Pass the metacells that were made by this assignment."
        )
    return np.append(of_names, -1)[column.codes]


def _components(log: sp.csr_matrix, seed: int) -> np.ndarray:
    """Principal components of log counts, ``(n_cells, at most 50)``."""
    n_components = min(_N_COMPONENTS, min(log.shape) - 1)
    return PCA(n_components, svd_solver="arpack", random_state=seed).fit_transform(log)


def _entry(adata: AnnData, name: str, argument: str, what: str) -> np.ndarray:
    if name not in adata.obsm:
        raise KeyError(
            f"Expected `{argument}` to name an entry of `{what}.obsm`, found no {name!r}. "
            f"Entries there: {sorted(map(str, adata.obsm.keys()))}."
        )
    if sp.issparse(adata.obsm[name]):
        raise TypeError(
            f"Expected a dense matrix in `{what}.obsm[{name!r}]`, found a sparse one. Reduce it to "
            "a few dimensions first."
        )
    values: np.ndarray = np.asarray(adata.obsm[name], dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(
            f"Expected a matrix of finite numbers in `{what}.obsm[{name!r}]`, found shape "
            f"{values.shape} with {int((~np.isfinite(values)).sum())} missing or infinite values."
        )
    return values


def _check_data(adata: Any, metacells: Any) -> None:
    for what, data in (("adata", adata), ("metacells", metacells)):
        if not isinstance(data, AnnData):
            raise TypeError(
                f"Expected `{what}` as an AnnData, found {type(data).__name__}. "
                "Of a MuData pass one modality."
            )
    if not metacells.obs_names.is_unique:
        raise ValueError("Expected unique names of `metacells`, found repeats. Make them unique.")
