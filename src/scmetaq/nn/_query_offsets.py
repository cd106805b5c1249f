import torch
from torch import Tensor

from ._mixture_correction import MixtureCorrection, one_hot

_RIDGE = 1.0
_RIDGE_OF_CLUSTERS = 10.0
"""Cells of a cluster that outweigh what a category adds to cells of any cluster."""
_N_ROUNDS = 10
_BLOCK = 1_024
_TOLERANCE = 1e-3


@torch.no_grad()
def fit_query_offsets(
    correction: MixtureCorrection, values: Tensor, conditions: Tensor, *, new: Tensor
) -> None:
    r"""Find out what new categories add to cells, the clusters of a reference being given.

    Centroids and the offsets of known categories stay as they are. The shares of the clusters in
    the corrected cells, and what new categories add, are estimated in turns: first to the cells
    of all clusters together, :math:`g_a`, then what is left of it in each,

    .. math:: w_{ca} = g_a + \frac{\sum_i r_{ic} (x_i - \mu_c - g_a)}{\lambda + \sum_i r_{ic}}

    for cells :math:`i` of category :math:`a` alone. Clusters with few cells are thus corrected as
    the others are, and a state that the reference lacks is not taken for the nearest that it has.

    Parameters
    ----------
    correction
        Correction of the reference, with columns for the new categories; its offsets are filled in.
    values
        Values of the query, ``(n_cells, D)``.
    conditions
        Category of each key, ``(n_cells, n_keys)`` int64.
    new
        Columns of the new categories among those of all keys, ``(n_new,)``.

    References
    ----------
    Kang et al., Symphony, Nature Communications 2021.
    """
    design = one_hot(conditions, correction.n_categories).to(values)  # N x A
    correction.offsets[:, new] = 0
    for _ in range(_N_ROUNDS):
        gram, rest = _moments(correction, values, conditions, design, new)
        together = _ridge(gram.sum(0), rest.sum(0), _RIDGE)  # n_new x D
        added = together + _ridge(gram, rest - gram @ together, _RIDGE_OF_CLUSTERS)
        moved = (added - correction.offsets[:, new]).norm() / added.norm().clamp_min(1e-12)
        correction.offsets[:, new] = added
        if moved < _TOLERANCE:
            break


def _moments(
    correction: MixtureCorrection, values: Tensor, conditions: Tensor, design: Tensor, new: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over the cells of each cluster, as large as they are in it.

    Returns
    -------
    Of products of the new categories' indicators, ``(C, n_new, n_new)``, and of what is left of
    values without centroids and known categories, by new category ``(C, n_new, D)``.
    """
    n_clusters, n_dims = correction.centroids.shape
    gram = values.new_zeros(n_clusters, len(new), len(new))
    rest = values.new_zeros(n_clusters, len(new), n_dims)
    offsets_of_known = correction.offsets.clone()
    offsets_of_known[:, new] = 0
    for v, of_cells, d in zip(
        values.split(_BLOCK), conditions.split(_BLOCK), design.split(_BLOCK), strict=True
    ):
        share = correction.shares(correction(v, of_cells))  # B x C
        known = torch.einsum("bc,ba,cad->bd", share, d, offsets_of_known)  # B x D
        gram += torch.einsum("bc,ba,be->cae", share, d[:, new], d[:, new])
        rest += torch.einsum("bc,ba,bd->cad", share, d[:, new], v - known)
    n_cells = torch.diagonal(gram, dim1=1, dim2=2)  # C x n_new
    return gram, rest - n_cells[:, :, None] * correction.centroids[:, None]


def _ridge(gram: Tensor, target: Tensor, penalty: float) -> Tensor:
    return torch.linalg.solve(gram + penalty * torch.eye(gram.shape[-1]).to(gram), target)
