import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from scmetaq.nn import Gaussian, GaussianMixture
from scmetaq.nn._gaussian import GaussianHead, gaussian_kl, gaussian_product, initial_mixture


def draw(n=5, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, n, d, generator=generator).unbind(0))


def as_torch(q):
    return Independent(Normal(q.mean, (q.log_variance / 2).exp()), 1)


def test_divergence_draws_and_bounds():
    q, p = draw(seed=0), draw(seed=1)
    torch.testing.assert_close(gaussian_kl(q, p), kl_divergence(as_torch(q), as_torch(p)))
    torch.testing.assert_close(gaussian_kl(q, q), torch.zeros(5), rtol=0, atol=1e-6)
    torch.manual_seed(0)
    q = draw(1)
    many = Gaussian(*(part.expand(100_000, 3) for part in q))
    z = many.sample()
    torch.testing.assert_close(z.mean(0), q.mean[0], rtol=0, atol=0.03)
    torch.testing.assert_close(z.var(0).log(), q.log_variance[0], rtol=0, atol=0.03)
    head = GaussianHead(2, 3)
    q = head(torch.full((1, 2), 1e6))
    assert torch.isfinite(q.log_variance.exp()).all()


def test_the_product_is_that_of_the_densities_and_ignores_what_a_cell_lacks():
    torch.manual_seed(0)
    p, q = (Gaussian(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(2))
    there = torch.ones(5, 1)
    found = gaussian_product([p, q], [there, there])
    x = torch.randn(50, 5, 3)
    normal = [Normal(g.mean, (g.log_variance / 2).exp()) for g in (p, q, found)]
    rest = normal[0].log_prob(x) + normal[1].log_prob(x) - normal[2].log_prob(x)
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=1e-4, atol=1e-4)
    p, q = (Gaussian(torch.randn(2, 3), torch.randn(2, 3)) for _ in range(2))
    found = gaussian_product([p, q], [torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])])
    for values, of_p, of_q in zip(found, p, q, strict=True):
        torch.testing.assert_close(values, torch.stack([of_p[0], of_q[1]]))
    assert gaussian_product([p], [torch.zeros(2, 1)]) is p


def posteriors(n=4, d=2, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    mean = spread * torch.randn(n, d, generator=generator)
    return Gaussian(mean, torch.randn(n, d, generator=generator) / 2 - 1)


def mixture(means, variance=0.5, weights=None):
    means = torch.as_tensor(means, dtype=torch.float32)
    prior = GaussianMixture(*means.shape)
    weights = torch.full((len(means),), 1 / len(means)) if weights is None else weights
    prior.set_mixture(torch.as_tensor(weights), means, torch.full_like(means, variance))
    return prior


def monte_carlo(q, prior, n=200_000):
    """Divergence of each posterior from the mixture by torch's distributions and many draws."""
    torch.manual_seed(0)
    normal = Independent(Normal(prior.means, (prior.log_variances / 2).exp()), 1)
    p = MixtureSameFamily(Categorical(logits=prior.logits), normal)
    own = Independent(Normal(q.mean, (q.log_variance / 2).exp()), 1)
    z = own.sample((n,))
    return (own.log_prob(z) - p.log_prob(z)).mean(0)


def test_one_component_is_exact_and_components_far_apart_as_good():
    q, prior = posteriors(), mixture([[0.3, -0.2]])
    torch.testing.assert_close(prior(q), monte_carlo(q, prior), rtol=0.02, atol=0.02)
    prior = mixture([[-20.0, 0], [20, 0], [0, 30]], weights=[0.5, 0.3, 0.2])
    q = Gaussian(prior.means.detach() + 0.3, torch.full((3, 2), -1.0))
    torch.testing.assert_close(prior(q), monte_carlo(q, prior), rtol=0.01, atol=0.01)
    torch.testing.assert_close(
        torch.softmax(prior._log_terms(q), 1), torch.eye(3), rtol=0, atol=1e-6
    )


def test_it_is_a_bound_and_the_joint_divergence_at_its_responsibilities():
    q, prior = posteriors(20, spread=2.0), mixture(torch.randn(20, 2))
    truth = monte_carlo(q, prior, 5_000)
    component = [Gaussian(m, v) for m, v in zip(prior.means, prior.log_variances, strict=True)]
    single = (
        torch.stack([gaussian_kl(q, c) for c in component]) - prior.logits.log_softmax(0)[:, None]
    )
    assert (prior(q) >= truth - 0.1).all()
    assert (prior(q) <= single.amin(0) + 1e-5).all()
    q, prior = posteriors(), mixture(torch.randn(5, 2))
    share = torch.softmax(prior._log_terms(q), 1)
    component = [Gaussian(m, v) for m, v in zip(prior.means, prior.log_variances, strict=True)]
    of_z = torch.stack([gaussian_kl(q, c) for c in component], 1)
    joint = (share * (of_z + share.log() - prior.logits.log_softmax(0))).sum(1)
    torch.testing.assert_close(prior(q), joint)


def test_a_mixture_is_the_standard_normal_before_the_fit_and_fitted_when_loaded():
    q, prior = posteriors(), GaussianMixture(3, 2)
    zero = torch.zeros(4, 2)
    torch.testing.assert_close(prior(q), gaussian_kl(q, Gaussian(zero, zero)))
    prior = mixture([[0.0, 1.0], [2.0, 3.0]])
    loaded = GaussianMixture(2, 2)
    loaded.load_state_dict(prior.state_dict())
    q = posteriors()
    assert loaded.is_fitted
    torch.testing.assert_close(loaded(q), prior(q), rtol=0, atol=0)


def test_the_fit_finds_the_groups():
    centres = torch.tensor([[-5.0, 0], [5, 0], [0, 8]])
    of_cell = torch.arange(300) % 3
    q = Gaussian(centres[of_cell] + 0.1 * torch.randn(300, 2), torch.full((300, 2), -2.0))
    weights, means, variances = initial_mixture(q, 3)
    nearest = torch.cdist(means, centres).argmin(1)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3), rtol=0, atol=0.01)
    expected = 0.01 + torch.exp(torch.tensor(-2.0)).item()
    torch.testing.assert_close(variances, torch.full((3, 2), expected), rtol=0, atol=0.02)
