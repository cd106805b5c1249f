from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from scmetaq.nn import Gaussian, GaussianMixture, initial_mixture


class MixtureFit(Callback):
    """Fits the prior to the posteriors of a reference sample, once, when the warm-up is over.

    From then on it learns with all else. Before, the prior is the standard normal distribution.

    Parameters
    ----------
    prior
        The prior.
    reference_posteriors
        Encodes the reference sample with the module as it stands.
    warmup_fraction
        Share of the steps before.
    seed
        Seed of the fit.
    """

    def __init__(
        self,
        prior: GaussianMixture,
        reference_posteriors: Callable[[], Gaussian],
        *,
        warmup_fraction: float,
        seed: int,
    ):
        self.prior = prior
        self.reference_posteriors = reference_posteriors
        self.warmup_fraction = warmup_fraction
        self.seed = seed

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Fit the prior once the warm-up is over."""
        n_warmup = int(self.warmup_fraction * trainer.estimated_stepping_batches)
        if trainer.global_step >= n_warmup and not self.prior.is_fitted:
            posteriors = self.reference_posteriors()
            n_components = self.prior.n_components
            self.prior.set_mixture(*initial_mixture(posteriors, n_components, seed=self.seed))
