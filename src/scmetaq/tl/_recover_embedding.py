"""Cells mapped into a space in which only their metacells were integrated."""

import warnings
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from scmetaq import _keys
from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.metrics._cell_values import cell_values
from scmetaq.metrics._groups import factorize_metacells
from scmetaq.tl._summarize import check_anndata, entry_of, log_counts, mean_rows

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
    KeyError
        No such column, layer, or entry of ``obsm``; the message lists those there are.
    TypeError, ValueError
        Not AnnData, an embedding that is sparse or not finite, negative counts, cells of metacells
        that ``metacells`` does not have, or fewer than two metacells with cells.

    Notes
    -----
    The network has one hidden layer of 256 units and is trained for at most 1,000 epochs with
    Adam in batches of 512, as published. Two things differ. Its input is a linear embedding, not
    all features: then its size does not depend on their number. And :math:`\hat x_k` is the mean
    of the cells' embeddings, not the embedding of their mean counts: the logarithm of a mean is
    not the mean of logarithms, and the network would meet cells unlike any in its training.

    The network knows no batches: it corrects a batch as far as expression predicts it, and
    interpolates between the metacells. Make metacells within each batch: mixed ones carry little
    information about the correction.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 25.
    """
    check_anndata(adata, "adata")
    check_anndata(metacells, "metacells")
    if not metacells.obs_names.is_unique:
        raise InputValueError(
            "Expected unique names of `metacells`, found repeats.", "Make them unique.", "metacells"
        )
    target = _entry(metacells, use_rep, "use_rep", "metacells")
    position = _positions(cell_values(adata, by, what="by"), metacells.obs_names)
    if basis is None:
        x = _components(log_counts(adata, layer, otherwise="a layer or `basis`"), seed)
    else:
        x = _entry(adata, basis, "basis", "adata")
    learnt = np.unique(position[position >= 0])
    if len(learnt) < 2:
        raise InputValueError(
            f"Expected at least two metacells with cells to learn from, found {len(learnt)} among "
            f"{metacells.n_obs}.",
            "Pass the cells that the metacells were made of.",
            "adata",
        )
    means = mean_rows(x, position, metacells.n_obs)[learnt]
    return _mapped(x, means, target[learnt], seed)


def _mapped(x: np.ndarray, means: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
    """Learn the map of metacells and apply it to the cells; one scale keeps axes' proportions."""
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


def _positions(assignment: pd.Series, names: pd.Index) -> np.ndarray:
    """Position of each cell's metacell in ``names``, ``(n_cells,)``; -1: in none."""
    column = factorize_metacells(assignment)
    of_names = names.get_indexer(column.categories.astype(str))
    unknown = [str(name) for name in column.categories[of_names < 0]]
    if unknown:
        raise InputValueError(
            f"Expected every metacell of the cells among the {len(names)} of `metacells`, found "
            f"{len(unknown)} unknown, e.g. {unknown[:3]}; known ones are {list(names[:3])}, ...",
            "Pass the metacells that were made by this assignment.",
            "metacells",
        )
    return np.append(of_names, -1)[column.codes]


def _components(log: sp.csr_matrix, seed: int) -> np.ndarray:
    """Principal components of log counts, ``(n_cells, at most 50)``."""
    n_components = min(_N_COMPONENTS, min(log.shape) - 1)
    return PCA(n_components, svd_solver="arpack", random_state=seed).fit_transform(log)


def _entry(adata: AnnData, name: str, argument: str, what: str) -> np.ndarray:
    found = entry_of(adata, name, argument, f"{what}.")
    where = f"`{what}.obsm[{name!r}]`"
    if sp.issparse(found):
        raise InputTypeError(
            f"Expected a dense matrix in {where}, found a sparse one.",
            "Reduce it to a few dimensions first.",
            argument,
        )
    values: np.ndarray = np.asarray(found, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputValueError(
            f"Expected a matrix of finite numbers in {where}, found shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum())} missing or infinite values.",
            argument=argument,
        )
    return values
