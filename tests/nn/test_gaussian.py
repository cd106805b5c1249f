import torch
from torch.distributions import Independent, Normal, kl_divergence

from scmetaq.nn import Gaussian, GaussianHead, gaussian_kl


def draw(n=5, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, n, d, generator=generator).unbind(0))


def as_torch(q):
    return Independent(Normal(q.mean, (q.log_variance / 2).exp()), 1)


def test_the_divergence_agrees_with_torch():
    q, p = draw(seed=0), draw(seed=1)
    torch.testing.assert_close(gaussian_kl(q, p), kl_divergence(as_torch(q), as_torch(p)))
    torch.testing.assert_close(gaussian_kl(q, q), torch.zeros(5), rtol=0, atol=1e-6)


def test_draws_have_the_mean_and_the_variance():
    torch.manual_seed(0)
    q = draw(1)
    many = Gaussian(*(part.expand(100_000, 3) for part in q))
    z = many.sample()
    torch.testing.assert_close(z.mean(0), q.mean[0], rtol=0, atol=0.03)
    torch.testing.assert_close(z.var(0).log(), q.log_variance[0], rtol=0, atol=0.03)


def test_variances_stay_in_bounds():
    head = GaussianHead(2, 3)
    q = head(torch.full((1, 2), 1e6))
    assert torch.isfinite(q.log_variance.exp()).all()
