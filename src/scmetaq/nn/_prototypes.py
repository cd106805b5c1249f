import json
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ._prototype_distances import mean_errors, prototype_distances
from ._saved_sizes import SavedSizes

N_QUANTILES = 1_000
"""Quantiles of the reference that are kept: at 0, 0.001, ..., 0.999."""
_SMALLEST = 1 / N_QUANTILES
_ROWS = 1_024
"""Cells that are compared at a time: a fixed number, so that a cell's result is the same to the
last bit whichever cells come with it."""


class PrototypeState(NamedTuple):
    """What is known of the labels of one key; see :class:`LabelPrototypes`."""

    means: Tensor
    n_cells: Tensor
    whitening: Tensor
    spread: Tensor
    states: Tensor
    state_whitening: Tensor
    state_spread: Tensor
    typical: Tensor
    quantiles: Tensor
    new_cells: Tensor


class LabelPrototypes(SavedSizes):
    r"""Prototypes of the labels of one key: their class means in the latent.

    Letters: ``L`` labels, ``D`` dimensions of the latent, ``Q`` quantiles, ``E`` dimensions of the
    latent that are cell states. Cells are compared with the mean :math:`\mu_k` of the :math:`n_k`
    labelled cells of a label by

    .. math:: d_k^2(z) = \lVert W (z - \mu_k) \rVert^2 - e_k

    where :math:`W` whitens what varies within labels, and :math:`e_k` is what a mean of few cells
    errs by: :math:`s / n_k`, with :math:`s` the mean squared distance of cells to the true mean of
    their label, but no more than by how much the label lies apart from more frequent ones.
    The label is that of the nearest prototype. How sure it is is told from the states, in which
    there is little noise: their distance to that prototype, with a :math:`W` and :math:`s` of their
    own, over :math:`m_k`, the distance that is typical of cells next to that prototype, is compared
    with the same ratio of reference cells. Cells that the latent was not fitted to are nearer to
    prototypes than others of their type, by a factor :math:`r` that their distances are divided by.

    Parameters
    ----------
    n_latent
        Dimension of the latent, ``D``.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023, for labels by prototypes; Lee et al., A simple
    unified framework for detecting out-of-distribution samples, NeurIPS 2018, for the distance.
    """

    means: Tensor
    n_cells: Tensor
    whitening: Tensor
    spread: Tensor
    states: Tensor
    state_whitening: Tensor
    state_spread: Tensor
    typical: Tensor
    quantiles: Tensor
    new_cells: Tensor
    names: Tensor

    def __init__(self, n_latent: int):
        super().__init__()
        self.register_buffer("means", torch.zeros(0, n_latent))  # L x D
        self.register_buffer("n_cells", torch.zeros(0, dtype=torch.int64))  # L
        self.register_buffer("whitening", torch.eye(n_latent))  # D x D
        self.register_buffer("spread", torch.tensor(float(n_latent)))
        self.register_buffer("states", torch.arange(n_latent))  # E
        self.register_buffer("state_whitening", torch.eye(n_latent))  # E x E
        self.register_buffer("state_spread", torch.tensor(float(n_latent)))
        self.register_buffer("typical", torch.zeros(0))  # L
        self.register_buffer("quantiles", torch.zeros(N_QUANTILES))  # Q
        self.register_buffer("new_cells", torch.tensor(1.0))  # r
        self.register_buffer("names", _encoded([]))  # UTF-8

    @property
    def labels(self) -> list[str]:
        """Names of the labels in the order of their prototypes."""
        return json.loads(bytes(self.names.cpu().tolist()).decode())

    @torch.no_grad()
    def set_state(self, labels: list[str], state: PrototypeState) -> None:
        """Take over what has been fitted.

        Parameters
        ----------
        labels
            Names of the labels.
        state
            What :meth:`~scmetaq.nn.PrototypeFit.finish` has found.
        """
        for name, values in state._asdict().items():
            old = self._buffers[name]
            assert old is not None
            self._buffers[name] = values.to(old)
        self.names = _encoded(labels).to(self.names)

    @torch.no_grad()
    def add(self, labels: list[str], means: Tensor, n_cells: Tensor) -> None:
        """Add prototypes of further labels; nothing else changes.

        Parameters
        ----------
        labels
            Their names.
        means
            Means of their cells, ``(n_new, D)``.
        n_cells
            Number of these cells, ``(n_new,)``.
        """
        self.names = _encoded([*self.labels, *labels]).to(self.names)
        self.means = torch.cat([self.means, means.to(self.means)])
        self.n_cells = torch.cat([self.n_cells, n_cells.to(self.n_cells)])
        self.typical = torch.cat([self.typical, self.typical.mean().expand(len(labels))])

    @torch.no_grad()
    def nearest(self, z: Tensor, is_new: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Nearest prototype of each cell and the uncertainty of the label.

        Parameters
        ----------
        z
            Latents, ``(n_cells, D)``.
        is_new
            Cells that the latent was not fitted to, ``(n_cells,)`` bool; by default none.

        Returns
        -------
        Index of the label, ``(n_cells,)`` int64, and the share of the reference cells that lie
        nearer to their prototype, as measured by what is typical of it, from 0 to 1,
        ``(n_cells,)`` float64.
        """
        state = PrototypeState(*(getattr(self, name).cpu() for name in PrototypeState._fields))
        found = [self._nearest(block, state) for block in z.cpu().split(_ROWS)]
        label, ratio = (torch.cat(parts) for parts in zip(*found, strict=True))
        if is_new is not None:
            ratio = torch.where(is_new.cpu(), ratio / state.new_cells.double(), ratio)
        return label, self._share_nearer(ratio)

    def _nearest(self, z: Tensor, state: PrototypeState) -> tuple[Tensor, Tensor]:
        """Label of at most a block of cells, and their distance over what is typical of it."""
        padded = F.pad(z, (0, 0, 0, _ROWS - len(z)))
        label = nearest_prototype(padded, state)
        ratio = state_distance(padded, label, state) / state.typical.double()[label]
        return label[: len(z)], ratio[: len(z)]

    def _share_nearer(self, ratio: Tensor) -> Tensor:
        """Share of reference cells below each, which still rises beyond all of them."""
        table = self.quantiles.cpu().double()
        above = torch.searchsorted(table, ratio, right=True).clamp(1, N_QUANTILES - 1)
        low, high = table[above - 1], table[above]
        rank = above - 1 + ((ratio - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        share = _SMALLEST + rank / (N_QUANTILES - 1) * (1 - 2 * _SMALLEST)
        near, far = table[0].clamp_min(1e-12), table[-1].clamp_min(1e-12)
        share = torch.where(ratio < near, _SMALLEST * (ratio / near).clamp_min(0), share)
        return torch.where(ratio > far, 1 - _SMALLEST * far / ratio.clamp_min(far), share)


def nearest_prototype(z: Tensor, state: PrototypeState) -> Tensor:
    """Index of the nearest prototype of each cell, ``(n_cells,)``.

    Parameters
    ----------
    z
        Latents, ``(n_cells, D)``.
    state
        The prototypes and their metric; labels without cells are passed over.
    """
    return _distances(z, state).argmin(1)


def _distances(z: Tensor, state: PrototypeState) -> Tensor:
    metric = {"whitening": state.whitening, "spread": state.spread}
    return prototype_distances(z, state.means, state.n_cells, **metric)


def compared(z: Tensor, state: PrototypeState) -> tuple[Tensor, Tensor]:
    """Nearest prototype of each cell, and the squared distance of its state: ``(n_cells,)`` each.

    Parameters
    ----------
    z
        Latents, ``(n_cells, D)``.
    state
        The prototypes and their metric.
    """
    label = nearest_prototype(z, state)
    return label, state_distance(z, label, state)


def state_distance(z: Tensor, label: Tensor, state: PrototypeState) -> Tensor:
    """Squared distance of the states of cells to the prototypes of labels, ``(n_cells,)``.

    Parameters
    ----------
    z
        Latents, ``(n_cells, D)``.
    label
        Index of a label of each cell, ``(n_cells,)``.
    state
        The prototypes and their metric.
    """
    away = z.double() - state.means.double()[label]  # B x D
    white = away[:, state.states] @ state.state_whitening.double()  # B x E
    errors = mean_errors(
        state.means[:, state.states],
        state.n_cells,
        whitening=state.state_whitening,
        spread=state.state_spread,
    )
    return white.square().sum(1) - errors[label]


def _encoded(labels: list[str]) -> Tensor:
    """Names as bytes: they are part of the learnt state, and a state holds tensors."""
    return torch.tensor(list(json.dumps(labels).encode()), dtype=torch.uint8)
