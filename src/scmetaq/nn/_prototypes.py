import json
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ._distances import squared_distances
from ._fitted import Fitted

N_QUANTILES = 1_000
"""Quantiles of the reference that are kept: at 0, 0.001, ..., 0.999."""
_SMALLEST = 1 / N_QUANTILES
_ROWS = 1_024
"""Cells that are compared at a time: a fixed number, so that a cell's result is the same to the
last bit whichever cells come with it."""


class PrototypeState(NamedTuple):
    """What is known of the labels of one key; see :class:`LabelPrototypes`."""

    names: Tensor
    """Names of the labels, JSON in UTF-8: a state holds tensors."""
    means: Tensor
    """``(L, D)``."""
    n_cells: Tensor
    """``(L,)`` int64."""
    whitening: Tensor
    """``(D, D)``."""
    spread: Tensor
    """Mean squared distance of cells to the true mean of their label, ``()``."""
    states: Tensor
    """Dimensions of the latent that are cell states, ``(E,)`` int64."""
    state_whitening: Tensor
    """``(E, E)``."""
    state_spread: Tensor
    typical: Tensor
    """Typical squared distance of states of cells next to each prototype, ``(L,)``."""
    quantiles: Tensor
    """Quantiles of this distance over what is typical, ``(Q,)``."""
    new_cells: Tensor
    """Distance of cells that the latent was not fitted to, over that of others, ``()``."""
    fitted_to: Tensor
    """Numbers that identify the cells that it was fitted to, ``(S,)`` int64."""


class LabelPrototypes(Fitted[PrototypeState]):
    r"""Prototypes of the labels of one key: their class means in the latent.

    Letters: ``L`` labels, ``D`` dimensions of the latent, ``Q`` quantiles, ``E`` dimensions of the
    latent that are cell states. Cells are compared with the mean :math:`\mu_k` of the :math:`n_k`
    labelled cells of a label by

    .. math:: d_k^2(z) = \lVert W (z - \mu_k) \rVert^2 - e_k

    where :math:`W` whitens what varies within labels, and :math:`e_k` is the squared error of a
    mean of few cells, see :func:`mean_errors`. The label is that of the nearest prototype. Its
    uncertainty is estimated from the states, in which there is little noise: their distance to that
    prototype, with a :math:`W` and :math:`e` of their own, over :math:`m_k`, the distance that is
    typical of cells next to that prototype, is compared with the same ratio of reference cells.
    Cells that the latent was not fitted to are nearer to prototypes than others of their type, by a
    factor :math:`r` that their distances are divided by.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023, for labels by prototypes; Lee et al., A simple
    unified framework for detecting out-of-distribution samples, NeurIPS 2018, for the distance.
    """

    def __init__(self, n_latent: int):
        every, spread = torch.arange(n_latent), torch.tensor(float(n_latent))
        super().__init__(
            PrototypeState(
                names=encoded([]),
                means=torch.zeros(0, n_latent),
                n_cells=torch.zeros(0, dtype=torch.int64),
                whitening=torch.eye(n_latent),
                spread=spread,
                states=every,
                state_whitening=torch.eye(n_latent),
                state_spread=spread.clone(),
                typical=torch.zeros(0),
                quantiles=torch.zeros(N_QUANTILES),
                new_cells=torch.tensor(1.0),
                fitted_to=torch.zeros(0, dtype=torch.int64),
            )
        )

    @property
    def labels(self) -> list[str]:
        """Names of the labels in the order of their prototypes."""
        return json.loads(bytes(self.state.names.cpu().tolist()).decode())

    def is_new(self, number: Tensor) -> Tensor:
        """Which cells, by the numbers that identify them, the latent was not fitted to."""
        return ~torch.isin(number, self.state.fitted_to.cpu())

    def add(self, labels: list[str], means: Tensor, n_cells: Tensor) -> None:
        """Add prototypes of further labels, ``(n_new, D)`` and ``(n_new,)``; the rest stays."""
        old = self.state
        self.set_state(
            old._replace(
                names=encoded([*self.labels, *labels]),
                means=torch.cat([old.means, means.to(old.means)]),
                n_cells=torch.cat([old.n_cells, n_cells.to(old.n_cells)]),
                typical=torch.cat([old.typical, old.typical.mean().expand(len(labels))]),
            )
        )

    @property
    def within(self) -> float:
        """Mean squared distance of cells to the mean of their label in the latent as it is."""
        return float(torch.linalg.inv(self.state.whitening.cpu().double()).square().sum())

    @torch.no_grad()
    def posterior(self, z: Tensor, n_labels: int) -> Tensor:
        r"""Probabilities of the first labels, as :math:`\exp(-d_k^2 / 2)`, ``(n_cells, L)``."""
        means, n_cells, *metric = (
            of.cpu() for of in (self.means, self.n_cells, self.whitening, self.spread)
        )
        distances = prototype_distances(z.cpu(), means[:n_labels], n_cells[:n_labels], *metric)
        return torch.softmax(-distances / 2, 1).to(z)

    @torch.no_grad()
    def nearest(self, z: Tensor, is_new: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest prototype of each cell ``(n_cells, D)``, uncertainty of the label and distance.

        Returns the index of the label, ``(n_cells,)`` int64; the share of the reference cells
        that lie nearer to their prototype, as measured by what is typical of it, from 0 to 1,
        ``(n_cells,)`` float64; and the distance of the states, the square root of
        :func:`state_distance`. The latent was not fitted to cells ``is_new``, by default none.
        """
        state = PrototypeState(*(values.cpu() for values in self.state))
        parts = []
        for block in z.cpu().split(_ROWS):
            padded = F.pad(block, (0, 0, 0, _ROWS - len(block)))
            label = nearest_prototype(padded, state)
            parts.append((label, state_distance(padded, label, state)))
        label, distance = (torch.cat(of)[: len(z)] for of in zip(*parts, strict=True))
        ratio = distance / state.typical.double()[label]
        if is_new is not None:
            ratio = torch.where(is_new.cpu(), ratio / state.new_cells.double(), ratio)
        uncertainty = _share_nearer(ratio, state.quantiles.double())
        return label, uncertainty, distance.clamp_min(0).sqrt()


def _share_nearer(ratio: Tensor, table: Tensor) -> Tensor:
    """Share of reference cells below each, which still rises beyond all of them."""
    above = torch.searchsorted(table, ratio, right=True).clamp(1, N_QUANTILES - 1)
    low, high = table[above - 1], table[above]
    rank = above - 1 + ((ratio - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    share = _SMALLEST + rank / (N_QUANTILES - 1) * (1 - 2 * _SMALLEST)
    near, far = table[0].clamp_min(1e-12), table[-1].clamp_min(1e-12)
    share = torch.where(ratio < near, _SMALLEST * (ratio / near).clamp_min(0), share)
    return torch.where(ratio > far, 1 - _SMALLEST * far / ratio.clamp_min(far), share)


def encoded(labels: list[str]) -> Tensor:
    """Names as bytes."""
    return torch.tensor(list(json.dumps(labels).encode()), dtype=torch.uint8)


def nearest_prototype(z: Tensor, state: PrototypeState) -> Tensor:
    """Index of the nearest prototype of each cell ``(B, D)``; labels without cells are ignored."""
    metric = (state.whitening, state.spread)
    return prototype_distances(z, state.means, state.n_cells, *metric).argmin(1)


def state_distance(z: Tensor, label: Tensor, state: PrototypeState) -> Tensor:
    """Squared distance of the states of cells to the prototypes of given labels, ``(B,)``."""
    whitening = state.state_whitening.double()
    centres = state.means.double()[:, state.states]
    white = (z.double()[:, state.states] - centres[label]) @ whitening  # B x E
    errors = mean_errors(centres @ whitening, state.n_cells, state.state_spread)
    return white.square().sum(1) - errors[label]


def prototype_distances(
    values: Tensor, means: Tensor, n_cells: Tensor, whitening: Tensor, spread: Tensor
) -> Tensor:
    """Squared distances of cells ``(B, D)`` to means of labels less their errors, ``(B, L)``."""
    cells, centres = (rows.double() @ whitening.double() for rows in (values, means))
    distances = squared_distances(cells, centres) - mean_errors(centres, n_cells, spread)
    return distances.masked_fill(n_cells == 0, torch.inf)


def mean_errors(centres: Tensor, n_cells: Tensor, spread: Tensor) -> Tensor:
    r"""Squared errors of means of few cells, to subtract from distances to them, ``(L,)`` float64.

    A mean of :math:`n_k` cells has an error of :math:`s / n_k` in expectation, :math:`s` being the
    ``spread``. It is subtracted in full where the whitened mean :math:`W \mu_k` lies apart from all
    that have more cells, and never more than by how much it does,

    .. math::

        e_k = \min\Bigl(\frac{s}{n_k}, \max\bigl(0, \min_{j : n_j > n_k}
        \lVert W (\mu_k - \mu_j) \rVert^2 - \frac{s}{n_k} - \frac{s}{n_j}\bigr)\Bigr),

    so that a few cells with a wrong label, whose mean is as far from that of their type as means of
    as few of its cells are, do not draw half of the type to it.
    """
    expected = spread.double() / n_cells.double()  # L
    apart = squared_distances(centres, centres) - expected[:, None] - expected
    has_more = n_cells > n_cells[:, None]  # j has more cells than k
    nearest = apart.masked_fill(~has_more, torch.inf).amin(1)
    return torch.minimum(expected, nearest.clamp_min(0))


def prototype_loss(z: Tensor, labels: Tensor, prototypes: Tensor) -> Tensor:
    r"""Distance of cells to the prototype of their label, every label counting alike.

    .. math::
        L = \sum_{k} \frac{1}{|K_k|} \sum_{i \in K_k} \lVert z_i - p_k \rVert_2

    over the labels :math:`k` that occur in the batch, :math:`K_k` being its cells of label
    :math:`k`. The paper writes one mean over all cells; its code balances the labels as here, so
    that rare ones count as much as frequent ones.

    Latents ``z`` are ``(n_cells, n_latent)``, labels ``(n_cells,)`` int64, -1 where there is none,
    and prototypes ``(n_labels, n_latent)``. Zero if no cell has a label.

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
    """Prototypes: mean latent of the cells of each label, ``(n_labels, n_latent)``.

    Latents are ``(n_cells, n_latent)``, labels ``(n_cells,)`` int64, -1 where there is none. Zero
    for a label without cells.
    """
    known = labels >= 0
    n_cells = torch.bincount(labels[known])  # K
    total = z.new_zeros(len(n_cells), z.shape[1]).index_add_(0, labels[known], z[known])
    return total / n_cells.clamp_min(1)[:, None]
