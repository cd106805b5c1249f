from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as FittedMixture
from torch import Tensor, nn

from ._gaussian import Gaussian, gaussian_kl

_LEAST_VARIANCE = 1e-3


class GaussianMixture(nn.Module):
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

    fitted: Tensor

    def __init__(self, n_components: int, n_latent: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))  # C
        self.means = nn.Parameter(torch.zeros(n_components, n_latent))  # C x D
        self.log_variances = nn.Parameter(torch.zeros(n_components, n_latent))  # C x D
        self.register_buffer("fitted", torch.tensor(False))
        self.is_fitted = False
        """``fitted`` where the host need not wait for the device to know it."""

    @property
    def n_components(self) -> int:
        """Number of components, ``C``."""
        return len(self.logits)

    def forward(self, q: Gaussian) -> Tensor:
        r"""How far posteriors are from the prior, in nats, ``(n_cells,)``.

        .. math:: -\log \sum_c \pi_c\, e^{-KL(q \| \mathcal N_c)} \;\ge\; KL(q \| p) ,

        which is :math:`KL(q(z) q(c) \| p(z, c))` at the best :math:`q(c)`, given by
        :meth:`responsibilities`. It is exact for one component and as sharp as the components
        are apart; there is no closed form of :math:`KL(q \| p)` itself.

        References
        ----------
        Hershey and Olsen, ICASSP 2007, doi:10.1109/ICASSP.2007.366913 (the bound).
        Jiang et al., Variational deep embedding, IJCAI 2017 (the prior).
        """
        if not self.is_fitted:
            zero = torch.zeros_like(q.mean)
            return gaussian_kl(q, Gaussian(zero, zero))  # B
        return -torch.logsumexp(self._log_terms(q), 1)  # B

    def responsibilities(self, q: Gaussian) -> Tensor:
        """Share of each component in posteriors, ``(n_cells, n_components)``; rows sum to one."""
        return torch.softmax(self._log_terms(q), 1)  # B x C

    def _log_terms(self, q: Gaussian) -> Tensor:
        component = Gaussian(self.means, self.log_variances)  # C x D
        cell = Gaussian(q.mean[:, None], q.log_variance[:, None])  # B x 1 x D
        return self.logits.log_softmax(0) - gaussian_kl(cell, component)  # B x C

    @torch.no_grad()
    def set_mixture(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """Take over a mixture, ``(C,)``, ``(C, D)`` and ``(C, D)``; from now on it learns."""
        self.logits.copy_(weights.clamp_min(1e-6).log())
        self.means.copy_(means)
        self.log_variances.copy_(variances.clamp_min(_LEAST_VARIANCE).log())
        self.fitted.fill_(True)
        self.is_fitted = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.is_fitted = bool(self.fitted)


def initial_mixture(
    posteriors: Gaussian, n_components: int, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixture that is fitted to the posteriors of cells by expectation maximisation.

    Parameters
    ----------
    posteriors
        Of the reference cells.
    n_components
        Number of components, at most that of the cells.
    seed
        Seed of the initialisation by k-means.

    Returns
    -------
    Weights ``(C,)``, means ``(C, D)`` and variances ``(C, D)``. The mixture is that of the means of
    the cells, widened by the average variance of their posteriors.
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
