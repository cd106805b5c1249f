"""Cells mapped into a space in which only their metacells were integrated."""

import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from scmetaq import _keys
from scmetaq._errors import InputValueError, check_unique
from scmetaq.metrics._groups import cell_values, factorize_metacells
from scmetaq.tl._summarize import check_anndata, coordinates, log_counts, mean_rows

_N_HIDDEN, _N_EPOCHS, _BATCH_SIZE, _N_COMPONENTS = 256, 1_000, 512, 50


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
    the one after it, and is then applied to the cells (Li et al., MetaQ, Nature Communications
    2025, Eq. 25):

    .. math::
        m = \arg\min \frac{1}{K} \sum_{k=1}^{K} \|m(\hat x_k) - \hat z_k\|_2^2,
        \qquad z_i = m(x_i)

    where :math:`\hat z_k` is the integrated embedding of metacell :math:`k`, :math:`x_i` that of
    cell :math:`i` before integration, and :math:`\hat x_k` its mean over the metacell's cells.

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
        without one teach the network nothing, but are mapped, too.
    layer
        Layer with the raw counts; None: ``X``. Not read if ``basis`` is given.
    seed
        Seed of the network's start and of the principal components.

    Returns
    -------
    Embedding of the cells in the space of ``use_rep``, ``(n_cells, d)`` float32. Nothing is
    written: ``adata.obsm["X_recovered"] = recover_embedding(...)``.

    Raises
    ------
    KeyError, TypeError, ValueError
        No such column, layer, or entry of ``obsm``; not AnnData, an embedding that is sparse or
        not finite, negative counts, cells of metacells that ``metacells`` does not have, or fewer
        than two metacells with cells.

    Notes
    -----
    The network has one hidden layer of 256 units and is trained for at most 1,000 epochs with
    Adam in batches of 512, as published. Two things differ. Its input is a linear embedding, so
    that its size does not depend on the number of features. And :math:`\hat x_k` is the mean of
    the cells' embeddings, not the embedding of their mean counts: the logarithm of a mean is not
    the mean of logarithms.

    It knows no batches: it corrects a batch as far as expression predicts it, and interpolates
    between the metacells. Make metacells within each batch: mixed ones carry little information.
    """
    check_anndata(adata, "adata")
    target = coordinates(metacells, use_rep, "use_rep", "metacells")
    check_unique(metacells.obs_names, "names of `metacells`", "metacells.obs_names_make_unique()")
    column, known = factorize_metacells(cell_values(adata, by, what="by")), metacells.obs_names
    of_names = known.get_indexer(column.categories.astype(str))
    unknown = [str(name) for name in column.categories[of_names < 0]]
    if unknown:
        raise InputValueError(
            f"Expected every metacell of the cells among the {len(known)} of `metacells`, found "
            f"{len(unknown)} unknown, e.g. {unknown[:3]}; known ones are {list(known[:3])}, ..."
        )
    position = np.append(of_names, -1)[column.codes]  # of each cell's metacell; -1: in none
    if basis is None:
        log = log_counts(adata, layer)
        n_components = min(_N_COMPONENTS, min(log.shape) - 1)
        x = PCA(n_components, svd_solver="arpack", random_state=seed).fit_transform(log)
    else:
        x = coordinates(adata, basis, "basis", "adata")
    learnt = np.unique(position[position >= 0])
    if len(learnt) < 2:
        problem = f"Expected at least two of the {metacells.n_obs} `metacells` with cells to learn"
        raise InputValueError(f"{problem} from, found {len(learnt)}.")
    means, target = mean_rows(x, position, metacells.n_obs)[learnt], target[learnt]
    # one scale of all axes keeps their proportions
    centre, scale = means.mean(0), _scale(means)
    target_centre, target_scale = target.mean(0), _scale(target)
    batch_size = min(_BATCH_SIZE, len(means))
    options = {"batch_size": batch_size, "max_iter": _N_EPOCHS, "random_state": seed}
    network = MLPRegressor(hidden_layer_sizes=(_N_HIDDEN,), **options)
    with warnings.catch_warnings():  # the number of epochs is the published one
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit((means - centre) / scale, (target - target_centre) / target_scale)
    z = network.predict((x - centre) / scale).reshape(len(x), -1)
    return (z * target_scale + target_centre).astype(np.float32)


def _scale(values: np.ndarray) -> float:
    """Root mean variance of the columns; one if nothing varies."""
    return float(np.sqrt(values.var(0).mean())) or 1.0
