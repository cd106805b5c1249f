from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ._likelihoods import (
    LOG_DISPERSION_RANGE,
    ZERO_LOGIT_RANGE,
    Likelihood,
    bounded,
)
from ._mean_nll import mean_nll
from ._mlp import Norm, hidden_layers
from ._non_zero_counts import NonZeroCounts, non_zero_counts

_FIRST_ZERO_LOGIT = -3.0
"""Log odds of an excess zero before training: one in twenty."""


class CountParameters(NamedTuple):
    """What a decoder says of the counts of its cells, shapes ``(n_cells, n_features)``."""

    log_rate: Tensor
    """Log of the expected count per unit of size factor."""
    log_dispersion: Tensor | None
    """Log of the inverse dispersion; None but for the negative binomial."""
    zero_logit: Tensor | None = None
    """Log odds of an excess zero; None but for the zero-inflated Poisson."""

    @property
    def likelihood(self) -> Likelihood:
        """The distribution that has these parameters."""
        if self.log_dispersion is not None:
            return "nb"
        return "poisson" if self.zero_logit is None else "zip"

    @property
    def other(self) -> Tensor | None:
        """The parameter beside the rate, if there is one."""
        return self.zero_logit if self.log_dispersion is None else self.log_dispersion

    def take(self, rows: Tensor) -> "CountParameters":
        """Parameters of chosen rows, in their order and as often as they are named."""
        # the gradient of an embedding is a sum of rows, not a sort
        return CountParameters(
            F.embedding(rows, self.log_rate),
            *(None if v is None else F.embedding(rows, v) for v in self[1:]),
        )


class CountDecoder(nn.Module):
    r"""Decoder from the latent to the parameters of a count distribution.

    Paper Eq. 2 and 4: with :math:`d = g(z)`, the mean is :math:`s \exp(W_\mu d)` for size
    factor :math:`s` and the inverse dispersion :math:`\exp(W_r d)`. Of the zero-inflated Poisson
    :math:`W_\pi d` are the log odds of an excess zero.

    Parameters
    ----------
    n_latent
        Dimension of the latent.
    n_features
        Number of features to reconstruct.
    likelihood
        ``"nb"``, ``"poisson"`` or ``"zip"`` (zero-inflated Poisson).
    hidden
        Widths of the hidden layers; empty for a linear decoder (the paper's for chromatin).
    norm
        Normalisation after each hidden layer.
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
        """Start at the average profile: the bias of the log rate is the log of ``mean_rate``."""
        self.log_rate.bias.copy_(mean_rate.clamp_min(1e-4).log())

    @torch.no_grad()
    def start_as(self, other: "CountDecoder", columns: list[int]) -> None:
        """Take over another decoder, which reads only some columns of this one's latents.

        Parameters
        ----------
        other
            Decoder of the same features and hidden layers.
        columns
            The columns that it reads, in its order; the weights of the others become zero.
        """
        taken = other.state_dict()
        for name in other._first_weights():
            wide = torch.zeros_like(self.get_parameter(name))  # H x D
            wide[:, columns] = taken[name]
            taken[name] = wide
        self.load_state_dict(taken)

    def _first_weights(self) -> list[str]:
        """Names of the weights that meet the latent."""
        if len(self.trunk):
            return ["trunk.0.weight"]
        heads = ("log_rate", "log_dispersion", "zero_logit")
        return [f"{name}.weight" for name in heads if getattr(self, name) is not None]


def _exact(values: Tensor) -> Tensor:
    """At least single precision, also under autocast: log-gammas cancel to their last digits."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


@torch.compiler.disable  # its own kernels, and as many non-zeros as there are
def reconstruction_nll(
    parameters: CountParameters,
    counts: Tensor | NonZeroCounts,
    size_factor: Tensor,
    *,
    is_missing: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood of raw counts under decoded parameters (paper Eq. 1, 3).

    Parameters
    ----------
    parameters
        Output of :class:`CountDecoder`.
    counts
        Raw counts, shape ``(n_cells, n_features)``, or what :func:`non_zero_counts` says of them:
        under several sets of parameters it need be found out only once.
    size_factor
        Library size over the target sum, shape ``(n_cells, 1)``.
    is_missing
        Features that were not measured and do not count, ``(n_features,)`` bool; by default none.

    Returns
    -------
    Mean over features in nats, shape ``(n_cells,)``. The paper sums over features; the mean,
    as in the authors' code, keeps losses comparable between data sets.
    """
    if isinstance(counts, Tensor):
        counts = non_zero_counts(counts.to(parameters.log_rate.dtype))
    weight = None
    if is_missing is not None:
        weight = (~is_missing).to(parameters.log_rate.dtype)  # M
        weight = weight / weight.sum().clamp_min(1)
    return mean_nll(
        parameters.likelihood,
        parameters.log_rate,
        parameters.other,
        size_factor.log(),
        counts,
        weight=weight,
    )
