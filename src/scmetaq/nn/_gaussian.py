from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_LOG_VARIANCE_RANGE = (-12.0, 6.0)
_LEAST_PRECISION = 1e-3
"""Of cells without any modality, which are padding."""


class Gaussian(NamedTuple):
    """Normal distributions with diagonal covariance, one per row."""

    mean: Tensor
    """``(n_rows, n_latent)``."""
    log_variance: Tensor
    """``(n_rows, n_latent)``."""

    def sample(self) -> Tensor:
        """A draw of each, through which gradients flow, ``(n_rows, n_latent)``."""
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)


class GaussianHead(nn.Module):
    """Linear layers to the mean and the log variance of a posterior.

    Parameters
    ----------
    n_input
        Number of hidden units.
    n_latent
        Dimension of the latent.
    """

    def __init__(self, n_input: int, n_latent: int):
        super().__init__()
        self.mean = nn.Linear(n_input, n_latent)
        self.log_variance = nn.Linear(n_input, n_latent)

    def forward(self, h: Tensor) -> Gaussian:
        """Posteriors of cells with hidden units ``(n_cells, n_input)``."""
        return Gaussian(self.mean(h), self.log_variance(h).clamp(*_LOG_VARIANCE_RANGE))  # B x D


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    r"""Kullback-Leibler divergence of normal distributions, :math:`KL(q \| p)`.

    Parameters
    ----------
    q, p
        Distributions whose shapes broadcast.

    Returns
    -------
    In nats, without the last dimension.
    """
    difference = (q.mean - p.mean).square() * torch.exp(-p.log_variance)
    ratio = q.log_variance - p.log_variance
    return (difference + ratio.exp() - 1 - ratio).sum(-1) / 2


def gaussian_product(experts: Sequence[Gaussian], present: Sequence[Tensor]) -> Gaussian:
    r"""Product of normal distributions: a joint posterior of several modalities.

    Precisions add up, and means are weighted by them :cite:p:`Wu18`. An expert alone is returned
    as it is.

    Parameters
    ----------
    experts
        A posterior by each modality, of shapes ``(n_cells, n_latent)``.
    present
        Which cells have the modality of each expert: 1 or 0, ``(n_cells, 1)``.
    """
    if len(experts) == 1:
        return experts[0]
    precisions = [
        is_there * torch.exp(-q.log_variance) for q, is_there in zip(experts, present, strict=True)
    ]
    total = torch.stack(precisions).sum(0).clamp_min(_LEAST_PRECISION)  # B x D
    weighted = [p * q.mean for p, q in zip(precisions, experts, strict=True)]
    return Gaussian(torch.stack(weighted).sum(0) / total, -total.log())
