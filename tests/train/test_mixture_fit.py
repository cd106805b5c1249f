from types import SimpleNamespace

import torch

from scmetaq.nn import Gaussian, GaussianMixture
from scmetaq.train import MixtureFit


def posteriors():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(60, 2, generator=generator) + 6 * (torch.arange(60) % 2)[:, None]
    return Gaussian(mean, torch.full((60, 2), -1.0))


def test_the_prior_is_fitted_once_when_the_warm_up_is_over():
    prior = GaussianMixture(2, 2)
    fit = MixtureFit(prior, posteriors, warmup_fraction=0.3, seed=0)
    trainer = SimpleNamespace(global_step=2, estimated_stepping_batches=10)
    fit.on_train_batch_start(trainer, None, None, 0)
    assert not prior.is_fitted
    trainer.global_step = 3
    fit.on_train_batch_start(trainer, None, None, 0)
    assert prior.is_fitted
    assert sorted(prior.means[:, 0].round().tolist()) == [0, 6]
    with torch.no_grad():
        prior.means.add_(1)
    before = prior.means.clone()
    fit.on_train_batch_start(trainer, None, None, 0)
    torch.testing.assert_close(prior.means, before, rtol=0, atol=0)
