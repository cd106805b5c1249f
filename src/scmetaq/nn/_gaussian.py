from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as FittedMixture
from torch import Tensor, nn

from ._fitted import Fitted

_LOG_VARIANCE_RANGE = (-12.0, 6.0)
_LEAST_PRECISION: Final = 1e-3
"""Of cells without any modality, which are padding."""
_LEAST_VARIANCE: Final = 1e-3


class Gaussian(NamedTuple):
    """Normal distributions with diagonal covariance, one per row."""

    mean: Tensor
    """``(n_rows, n_latent)``."""
    log_variance: Tensor
    """``(n_rows, n_latent)``."""

    def standard(self) -> "Gaussian":
        """As many standard normal distributions."""
        return Gaussian(torch.zeros_like(self.mean), torch.zeros_like(self.mean))

    def sample(self) -> Tensor:
        """A draw of each, through which gradients flow, ``(n_rows, n_latent)``."""
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)


class GaussianHead(nn.Module):
    """Linear layers to the mean and the log variance of a posterior."""

    def __init__(self, n_input: int, n_latent: int):
        super().__init__()
        self.mean = nn.Linear(n_input, n_latent)
        self.log_variance = nn.Linear(n_input, n_latent)

    def forward(self, h: Tensor) -> Gaussian:
        """Posteriors of cells with hidden units ``(n_cells, n_input)``."""
        return Gaussian(self.mean(h), self.log_variance(h).clamp(*_LOG_VARIANCE_RANGE))  # B x D


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    r"""Kullback-Leibler divergence of normal distributions, :math:`KL(q \| p)`.

    In nats, summed over the last dimension; shapes broadcast.
    """
    difference = (q.mean - p.mean).square() * torch.exp(-p.log_variance)
    ratio = q.log_variance - p.log_variance
    return (difference + ratio.exp() - 1 - ratio).sum(-1) / 2


def gaussian_product(experts: Sequence[Gaussian], present: Sequence[Tensor]) -> Gaussian:
    r"""Product of normal distributions: a joint posterior of several modalities.

    Precisions add up, and means are weighted by them :cite:p:`Wu18`. An expert alone is returned
    as it is. ``present`` is 1 or 0 for each cell and expert, ``(n_cells, 1)``.
    """
    if len(experts) == 1:
        return experts[0]
    pairs = zip(experts, present, strict=True)
    precisions = torch.stack([there * torch.exp(-q.log_variance) for q, there in pairs])
    total = precisions.sum(0).clamp_min(_LEAST_PRECISION)  # B x D
    weighted = precisions * torch.stack([q.mean for q in experts])
    return Gaussian(weighted.sum(0) / total, -total.log())


class _NoState(NamedTuple):
    """Weights, means and variances learn: they are parameters."""


class GaussianMixture(Fitted[_NoState]):
    r"""Prior of latents: a mixture of normal distributions whose parameters are learnt.

    .. math:: p(z) = \sum_c \pi_c\, \mathcal N(z; \mu_c, \mathrm{diag}\, \sigma_c^2)

    Before :meth:`set_mixture` the prior is the standard normal distribution.

    Parameters
    ----------
    n_components
        Number of components, ``C``.
    n_latent
        Dimension of the latent, ``D``.
    """

    def __init__(self, n_components: int, n_latent: int):
        super().__init__(_NoState())
        self.logits = nn.Parameter(torch.zeros(n_components))  # C
        self.means = nn.Parameter(torch.zeros(n_components, n_latent))  # C x D
        self.log_variances = nn.Parameter(torch.zeros(n_components, n_latent))  # C x D

    def forward(self, q: Gaussian) -> Tensor:
        r"""How far posteriors are from the prior, in nats, ``(n_cells,)``.

        .. math:: -\log \sum_c \pi_c\, e^{-KL(q \| \mathcal N_c)} \;\ge\; KL(q \| p) ,

        which is :math:`KL(q(z) q(c) \| p(z, c))` at the best :math:`q(c)`. It is exact for one
        component and the sharper the further the components are apart; :math:`KL(q \| p)` itself
        has no closed form.

        References
        ----------
        Hershey and Olsen, ICASSP 2007, doi:10.1109/ICASSP.2007.366913 (the bound).
        Jiang et al., Variational deep embedding, IJCAI 2017 (the prior).
        """
        if not self.is_fitted:
            return gaussian_kl(q, q.standard())  # B
        return -torch.logsumexp(self._log_terms(q), 1)  # B

    def _log_terms(self, q: Gaussian) -> Tensor:
        component = Gaussian(self.means, self.log_variances)  # C x D
        cell = Gaussian(q.mean[:, None], q.log_variance[:, None])  # B x 1 x D
        return self.logits.log_softmax(0) - gaussian_kl(cell, component)  # B x C

    @torch.no_grad()
    def set_mixture(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """Start from a mixture, ``(C,)``, ``(C, D)`` and ``(C, D)``; from then on it learns."""
        self.logits.copy_(weights.clamp_min(1e-6).log())
        self.means.copy_(means)
        self.log_variances.copy_(variances.clamp_min(_LEAST_VARIANCE).log())
        self.set_state(_NoState())


def initial_mixture(
    posteriors: Gaussian, n_components: int, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a mixture to the posteriors of cells by expectation maximisation.

    It is that of the cells' means, widened by the average variance of their posteriors. Returned
    are weights ``(C,)``, means ``(C, D)`` and variances ``(C, D)``.
    """
    z = posteriors.mean.cpu().numpy().astype(np.float64)
    variance = posteriors.log_variance.exp().mean(0).cpu()
    fitted = FittedMixture(
        n_components, covariance_type="diag", reg_covar=_LEAST_VARIANCE, random_state=seed
    ).fit(z)
    weights, means, variances = (
        torch.as_tensor(values, dtype=variance.dtype)
        for values in (fitted.weights_, fitted.means_, fitted.covariances_)
    )
    return weights, means, variances + variance
