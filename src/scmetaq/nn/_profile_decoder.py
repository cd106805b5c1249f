import torch
from torch import Tensor, nn

from ._condition_embedding import beside
from ._decoder import CountParameters
from ._likelihoods import LOG_DISPERSION_RANGE, Likelihood, bounded
from ._mlp import hidden_layers


class ProfileDecoder(nn.Module):
    r"""Decoder from latent and conditions to each feature's share of a cell's counts, as in scPoli.

    With :math:`d = g(z, s)` for latent :math:`z` and condition embedding :math:`s`, the mean is
    :math:`\ell\, \mathrm{softmax}(W d)` for library size :math:`\ell`, the sum of the cell's counts
    over these features. The inverse dispersion :math:`\exp(b + V s)` is one of the feature and the
    condition, not of the cell.

    Parameters
    ----------
    n_latent
        Dimension of the latent.
    n_conditions
        Dimension of the condition embedding.
    n_features
        Number of features to reconstruct.
    likelihood
        ``"nb"`` or ``"poisson"``, which has no dispersion.
    n_hidden
        Hidden units.
    dropout
        Share of hidden units that are silenced at each step of training.

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
        dropout: float = 0.0,
    ):
        super().__init__()
        self.likelihood = likelihood
        self.hidden = hidden_layers([n_latent + n_conditions, n_hidden], dropout=dropout)
        self.logits = nn.Linear(n_hidden, n_features)
        self.log_dispersion = None
        self.dispersion_of_condition = None
        if likelihood == "nb":
            self.log_dispersion = nn.Parameter(torch.zeros(n_features))  # M
            if n_conditions:
                self.dispersion_of_condition = nn.Linear(n_conditions, n_features, bias=False)
                nn.init.zeros_(self.dispersion_of_condition.weight)

    def forward(self, z: Tensor, condition: Tensor) -> CountParameters:
        """Parameters of the count distribution of cells, the rate being per count of the library.

        Parameters
        ----------
        z
            Latents, ``(n_cells, n_latent)``.
        condition
            Embedding of their conditions, ``(n_cells, n_conditions)``.
        """
        logits = self.logits(self.hidden(beside(z, condition)))  # B x M
        log_rate = torch.log_softmax(logits.float(), 1)  # B x M
        return CountParameters(log_rate, self._dispersion(condition, log_rate))

    def _dispersion(self, condition: Tensor, like: Tensor) -> Tensor | None:
        if self.log_dispersion is None:
            return None
        log_r = self.log_dispersion.expand_as(like)  # B x M
        if self.dispersion_of_condition is not None:
            log_r = log_r + self.dispersion_of_condition(condition)
        return bounded(log_r.float(), LOG_DISPERSION_RANGE)

    @torch.no_grad()
    def start_at(self, mean_rate: Tensor) -> None:
        """Start at the average profile: the bias of the logits is the log of ``mean_rate``."""
        self.logits.bias.copy_(mean_rate.clamp_min(1e-4).log())
