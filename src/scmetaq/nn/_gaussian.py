from typing import NamedTuple

import torch
from torch import Tensor, nn

_LOG_VARIANCE_RANGE = (-12.0, 6.0)


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
