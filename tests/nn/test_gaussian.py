import torch
from torch.distributions import Independent, Normal, kl_divergence

from scmetaq.nn import Gaussian, GaussianHead, gaussian_kl, gaussian_product


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


def test_the_product_is_that_of_the_densities():
    torch.manual_seed(0)
    p, q = (Gaussian(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(2))
    there = torch.ones(5, 1)
    found = gaussian_product([p, q], [there, there])
    x = torch.randn(50, 5, 3)
    normal = [Normal(g.mean, (g.log_variance / 2).exp()) for g in (p, q, found)]
    rest = normal[0].log_prob(x) + normal[1].log_prob(x) - normal[2].log_prob(x)
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=1e-4, atol=1e-4)


def test_the_product_passes_over_what_a_cell_lacks():
    p, q = (Gaussian(torch.randn(2, 3), torch.randn(2, 3)) for _ in range(2))
    found = gaussian_product([p, q], [torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])])
    for values, of_p, of_q in zip(found, p, q, strict=True):
        torch.testing.assert_close(values, torch.stack([of_p[0], of_q[1]]))
    assert gaussian_product([p], [torch.zeros(2, 1)]) is p
