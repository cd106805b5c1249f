import torch
from torch import Tensor


def prototype_loss(z: Tensor, labels: Tensor, prototypes: Tensor) -> Tensor:
    r"""Distance of cells to the prototype of their label, every label counting alike.

    .. math::
        L = \sum_{k} \frac{1}{|K_k|} \sum_{i \in K_k} \lVert z_i - p_k \rVert_2

    over the labels :math:`k` that occur in the batch, :math:`K_k` being its cells of label
    :math:`k`. The paper writes one mean over all cells; its code balances the labels as here, so
    that rare ones count as much as frequent ones.

    Parameters
    ----------
    z
        Latents, ``(n_cells, n_latent)``.
    labels
        Label of each cell, ``(n_cells,)`` int64; -1 where there is none.
    prototypes
        ``(n_labels, n_latent)``.

    Returns
    -------
    Scalar; zero if no cell has a label.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """
    known = (labels >= 0).to(z)  # B
    label = labels.clamp_min(0)
    distance = torch.linalg.vector_norm(z - prototypes[label], dim=1) * known  # B
    n_cells = z.new_zeros(len(prototypes)).index_add_(0, label, known)  # K
    return (distance / n_cells[label].clamp_min(1)).sum()


def class_means(z: Tensor, labels: Tensor) -> Tensor:
    """Prototypes: mean latent of the cells of each label.

    Parameters
    ----------
    z
        Latents, ``(n_cells, n_latent)``.
    labels
        Label of each cell, ``(n_cells,)`` int64; -1 where there is none.

    Returns
    -------
    ``(n_labels, n_latent)``; zero for a label without cells.
    """
    known = labels >= 0
    n_cells = torch.bincount(labels[known])  # K
    total = z.new_zeros(len(n_cells), z.shape[1]).index_add_(0, labels[known], z[known])
    return total / n_cells.clamp_min(1)[:, None]
