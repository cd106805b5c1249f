import torch
from torch import Tensor, nn


class FactorModel(nn.Module):
    r"""What features that a cell lacks would be, from those that it has.

    .. math:: x = \mu + L^\top t + \epsilon, \quad t \sim N(0, \Lambda), \quad
        \epsilon \sim N(0, \Psi)

    with diagonal :math:`\Lambda` and :math:`\Psi`. What is missing is filled in with its mean given
    what is there, as in probabilistic principal component analysis.

    Parameters
    ----------
    n_features
        Number of features, ``M``.
    n_factors
        Number of factors, ``S``.

    References
    ----------
    Tipping and Bishop, J. R. Stat. Soc. B 61 (1999), doi:10.1111/1467-9868.00196.
    """

    mean: Tensor
    loadings: Tensor
    noise: Tensor
    prior: Tensor

    def __init__(self, n_features: int, n_factors: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))  # M
        self.register_buffer("loadings", torch.zeros(n_factors, n_features))  # S x M
        self.register_buffer("noise", torch.ones(n_features))  # M
        self.register_buffer("prior", torch.ones(n_factors))  # S

    def forward(self, values: Tensor, is_missing: Tensor) -> Tensor:
        """Values with the missing features filled in.

        Parameters
        ----------
        values
            ``(n_cells, M)``.
        is_missing
            Which features all cells lack, ``(M,)`` bool.
        """
        known = ~is_missing
        weighted = self.loadings[:, known] / self.noise[known]  # S x K
        precision = torch.diag(1 / self.prior) + weighted @ self.loadings[:, known].T  # S x S
        centred = (values - self.mean)[:, known]  # B x K
        factors = torch.linalg.solve(precision, weighted @ centred.T).T  # B x S
        return torch.where(is_missing, self.mean + factors @ self.loadings, values)  # B x M

    @torch.no_grad()
    def set_factors(self, mean: Tensor, loadings: Tensor, *, noise: Tensor, prior: Tensor) -> None:
        """Take over a fitted model: ``(M,)``, ``(S, M)``, and variances ``(M,)`` and ``(S,)``."""
        for name, fitted in (("mean", mean), ("loadings", loadings)):
            getattr(self, name).copy_(fitted)
        self.noise.copy_(noise)
        self.prior.copy_(prior)
