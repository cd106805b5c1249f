from typing import Any, Final

import torch
from torch import Tensor, nn

from ._condition_embedding import with_condition
from ._layers import Norm, hidden_layers
from ._likelihoods import (
    LOG_DISPERSION_RANGE,
    ZERO_LOGIT_RANGE,
    CountParameters,
    Likelihood,
    bounded,
)

_PRIOR_COUNTS: Final = 0.3
"""Counts at the mean rate that every group is thought to have."""
_LEAST_RATE: Final = 1e-4
_LEAST_LENGTH, _LEAST_RIDGE = 1e-3, 1e-9
"""Of latents, which are zero if the weight of their modality is."""
_RIDGE: Final = 0.3
"""Ridge of log rates on hidden units, as a share of the mean variance of these."""
_FIRST_LOG_DISPERSION: Final = (-4.6, 6.9)
"""Smallest and largest logarithm of an inverse dispersion before training."""
_FIRST_ZERO_LOGIT: Final = -3.0
"""Log odds of an excess zero before training: one in twenty."""


class CountDecoder(nn.Module):
    r"""Decoder from the latent to the parameters of a count distribution.

    Paper Eq. 2 and 4: with :math:`d = g(z)`, the mean is :math:`s \exp(W_\mu d)` for size
    factor :math:`s` and the inverse dispersion :math:`\exp(W_r d)`. Of the zero-inflated Poisson
    :math:`W_\pi d` are the log odds of an excess zero. Without ``hidden`` layers the
    decoder is linear (the paper's for chromatin).
    """

    def __init__(
        self,
        n_latent: int,
        n_features: int,
        *,
        likelihood: Likelihood = "nb",
        hidden: tuple[int, ...] = (128, 512),
        norm: Norm = "layer",
    ):
        super().__init__()
        self.likelihood = likelihood
        self.trunk = hidden_layers([n_latent, *hidden], norm)
        n_hidden = hidden[-1] if hidden else n_latent
        self.log_rate = nn.Linear(n_hidden, n_features)
        self.log_dispersion = nn.Linear(n_hidden, n_features) if likelihood == "nb" else None
        self.zero_logit = nn.Linear(n_hidden, n_features) if likelihood == "zip" else None
        if self.zero_logit is not None:
            nn.init.constant_(self.zero_logit.bias, _FIRST_ZERO_LOGIT)

    def forward(self, z: Tensor) -> CountParameters:
        """Parameters of the count distributions of latents ``(n_cells, n_latent)``."""
        d = self.trunk(z)  # B x H
        dispersion = zero_logit = None
        if self.log_dispersion is not None:
            dispersion = bounded(_exact(self.log_dispersion(d)), LOG_DISPERSION_RANGE)  # B x M
        if self.zero_logit is not None:
            zero_logit = bounded(_exact(self.zero_logit(d)), ZERO_LOGIT_RANGE)  # B x M
        return CountParameters(_exact(self.log_rate(d)), dispersion, zero_logit)  # B x M

    @torch.no_grad()
    def start_at(self, mean_rate: Tensor) -> None:
        """Start at the average profile, ``mean_rate`` per unit of size factor."""
        self.log_rate.bias.copy_(mean_rate.clamp_min(_LEAST_RATE).log())

    @torch.no_grad()
    def start_from(self, z: Tensor, groups: Any) -> None:
        r"""Start at what groups of cells show, in closed form.

        With counts :math:`x` and size factors :math:`s` summed over each group :math:`k`, and
        :math:`a` counts at the mean rate :math:`\bar\rho_g` of the feature, rates are
        :math:`(x_{kg} + a) / (s_k + a / \bar\rho_g)`. Their logarithms are regressed, by ridge
        regression, on the hidden units of the groups' latents, for which the first layer is drawn
        at the scale of the latents. The inverse dispersion of each feature is that of the variance
        within groups.

        Parameters
        ----------
        z
            Latents of the groups, ``(n_groups, n_latent)``.
        groups
            Their counts, a :class:`~scmetaq.data._groups.GroupCounts`.
        """
        totals, exposure, exposure_squares, cross, squares = (
            torch.as_tensor(of, dtype=torch.float32, device=z.device) for of in groups
        )
        if len(self.trunk):
            length = float(z.square().sum(1).mean().sqrt())
            self.trunk.get_parameter("0.weight").normal_(std=1 / max(length, _LEAST_LENGTH))
        mean = (totals.sum(0) / exposure.sum()).clamp_min(_LEAST_RATE)
        target = (totals + _PRIOR_COUNTS) / (exposure[:, None] + _PRIOR_COUNTS / mean)
        hidden, target = self.trunk(z), target.log()  # n x H, n x M
        weight = (exposure / exposure.sum())[:, None]
        centre, level = (weight * hidden).sum(0), (weight * target).sum(0)
        hidden = hidden - centre
        gram = hidden.T @ (weight * hidden)  # H x H
        gram.diagonal().add_(_RIDGE * gram.trace() / len(gram) + _LEAST_RIDGE)
        slope = torch.linalg.solve(gram, hidden.T @ (weight * (target - level)))
        self.log_rate.weight.copy_(slope.T)
        self.log_rate.bias.copy_(level - centre @ slope)
        if self.log_dispersion is not None:
            rate = (hidden @ slope + level).exp()  # n x M
            expected = exposure_squares @ rate.square()  # M
            excess = squares - 2 * (rate * cross).sum(0) + expected - totals.sum(0)
            inverse = expected / excess.clamp_min(1e-12)
            self.log_dispersion.weight.zero_()
            self.log_dispersion.bias.copy_(inverse.log().clamp(*_FIRST_LOG_DISPERSION))

    @torch.no_grad()
    def start_as(self, other: "CountDecoder", columns: list[int]) -> None:
        """Copy a decoder that reads only these columns of the latent; other weights become zero."""
        taken = other.state_dict()
        heads = [name for name in taken if name.endswith("weight")]
        for name in ["trunk.0.weight"] if len(self.trunk) else heads:
            wide = torch.zeros_like(self.get_parameter(name))  # H x D
            wide[:, columns] = taken[name]
            taken[name] = wide
        self.load_state_dict(taken)


class ProfileDecoder(nn.Module):
    r"""Decoder from latent and conditions to each feature's share of a cell's counts, as in scPoli.

    With :math:`d = g(z, s)` for latent :math:`z` and condition embedding :math:`s`, the mean is
    :math:`\ell\, \mathrm{softmax}(W d)` for library size :math:`\ell`, the sum of the cell's counts
    over these features. The inverse dispersion :math:`\exp(b + V s)` is one of the feature and the
    condition, not of the cell. A Poisson likelihood has no dispersion.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """

    def __init__(
        self,
        n_latent: int,
        n_conditions: int,
        n_features: int,
        *,
        likelihood: Likelihood = "nb",
        n_hidden: int = 64,
        n_layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.likelihood = likelihood
        self.hidden = hidden_layers(
            [n_latent + n_conditions, *[n_hidden] * n_layers], dropout=dropout
        )
        self.logits = nn.Linear(n_hidden, n_features)
        self.log_dispersion = None
        self.dispersion_of_condition = None
        if likelihood == "nb":
            self.log_dispersion = nn.Parameter(torch.zeros(n_features))  # M
            if n_conditions:
                self.dispersion_of_condition = nn.Linear(n_conditions, n_features, bias=False)
                nn.init.zeros_(self.dispersion_of_condition.weight)

    def forward(
        self, z: Tensor, condition: Tensor, is_missing: Tensor | None = None
    ) -> CountParameters:
        """Parameters of the counts of latents ``(n_cells, n_latent)`` under embedded conditions.

        Shares, of which some features may be missing (``(n_features,)`` bool), are those of the
        features measured.
        """
        logits = self.logits(self.hidden(with_condition(z, condition))).float()  # B x M
        if is_missing is not None:
            logits = logits.masked_fill(is_missing, -torch.inf)
        log_rate = torch.log_softmax(logits, 1)  # B x M
        if self.log_dispersion is None:
            return CountParameters(log_rate, None)
        log_r = self.log_dispersion.expand_as(log_rate)  # B x M
        if self.dispersion_of_condition is not None:
            log_r = log_r + self.dispersion_of_condition(condition)
        return CountParameters(log_rate, bounded(log_r.float(), LOG_DISPERSION_RANGE))

    @torch.no_grad()
    def start_at(self, mean_rate: Tensor) -> None:
        """Start at the average profile: set the bias of the logits to the log of ``mean_rate``."""
        self.logits.bias.copy_(mean_rate.clamp_min(1e-4).log())


def _exact(values: Tensor) -> Tensor:
    """At least single precision, also under autocast: log-gammas cancel to their last digits."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
