import warnings
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit, exchange, initial_codes, kmeans_plusplus, relocate, set_apart

from ._size_bounds import SizeBounds, bound_sizes


class CodebookFit(Callback):
    """Fits the codebook to the latents of a reference sample, in the middle and at the end.

    :meth:`finish` is for the caller to call when training is over: a callback that puts the best
    epoch back comes after all others.

    Parameters
    ----------
    module
        The module that holds the codebook.
    reference_latents
        Encodes the reference sample with the module as it stands, ``(n_reference, n_latent)``.
    warmup_fraction
        Share of the steps before the codebook is initialised.
    init
        How codes are initialised.
    refine
        Whether codes are brought to the least quantization error by
        :func:`~scmetaq.nn.exchange` and :func:`~scmetaq.nn.relocate`: those that training begins
        with, and at the end others that are started anew, since the latents have moved meanwhile,
        some of which go to groups that are :func:`apart <scmetaq.nn.set_apart>`.
        Codes that were there before the training are gone on with.
    evenness
        How much even sizes are worth to :func:`~scmetaq.nn.exchange` at the end, where codes are
        refined.
    seed
        Seed of the initialisation.
    """

    def __init__(
        self,
        module: MetaQModule,
        reference_latents: Callable[[], Tensor],
        *,
        warmup_fraction: float,
        init: CodebookInit,
        refine: bool,
        evenness: float,
        seed: int,
    ):
        self.module = module
        self.reference_latents = reference_latents
        self.warmup_fraction = warmup_fraction
        self.init = init
        self.refine = refine
        self.evenness = evenness
        self.seed = seed
        self.bounds: SizeBounds | None = None
        """Sizes that metacells must have."""
        self._goes_on = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold codes that a model was loaded with, as those that were fitted here are held."""
        self._goes_on = self.module.codebook.is_fitted
        if self._goes_on:
            self.module.codebook.codes.requires_grad_(not self.refine)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Initialise the codebook once the warm-up is over."""
        n_warmup = int(self.warmup_fraction * trainer.estimated_stepping_batches)
        if trainer.global_step >= n_warmup and not self.module.codebook.is_fitted:
            self._initialise()
            _forget_momentum(trainer, self.module.codebook.codes)

    @torch.no_grad()
    def finish(self) -> None:
        """Refine the codes and see that each has a cell, or as many as the bounds say."""
        if not self.module.codebook.is_fitted:
            self._initialise()
        z = self.reference_latents()
        codebook = self.module.codebook
        codes = codebook.codes.detach().clone()
        if self.refine:
            start = codes if self._goes_on else self._start(z)
            codes = set_apart(z, self._refined(z, start, evenness=self.evenness))
        codebook.set_codes(codes)
        codebook.claim_cells(z)
        if self.bounds is not None:
            bound_sizes(codebook, self.bounds, move_codes=self.refine)
        codebook.set_usage(z)
        codebook.set_reach(z, self.module.state_dimensions)
        codebook.set_spread(z)
        n_empty = int((codebook.usage == 0).sum())
        if n_empty:
            warnings.warn(
                f"Expected a cell for each of the {codebook.n_codes} metacells, {n_empty} have "
                "none: there are fewer distinct cells than metacells. Remove duplicated cells, or "
                "ask for fewer metacells.",
                stacklevel=2,
            )

    def _initialise(self) -> None:
        z = self.reference_latents()
        codebook = self.module.codebook
        if self.init == "random" and self.warmup_fraction == 0:
            # As published: nothing is learnt yet, so keep the small random codes.
            codebook.set_codes(codebook.codes.detach().clone())
        else:
            codes = self._start(z)
            codebook.set_codes(self._refined(z, codes) if self.refine else codes)
        self.module.copy_decoder()
        # Exchanged codes are the exact minimisers of the codebook loss: gradients would only
        # take them away from it.
        codebook.codes.requires_grad_(not self.refine)

    def _start(self, z: Tensor) -> Tensor:
        n_codes = self.module.codebook.n_codes
        if self.init == "kmeans" and self.refine:  # exchange does all that k-means would do
            return z[kmeans_plusplus(z, n_codes, seed=self.seed)]
        return initial_codes(z, n_codes, self.init, seed=self.seed)

    def _refined(self, z: Tensor, codes: Tensor, *, evenness: float = 0.0) -> Tensor:
        generator = torch.Generator(z.device).manual_seed(self.seed)
        exchanged = exchange(z, codes, generator=generator)
        relocated = relocate(z, exchanged, generator=generator)
        if evenness == 0:
            return relocated
        return exchange(z, relocated, generator=generator, evenness=evenness)


def _forget_momentum(trainer: Trainer, parameter: Tensor) -> None:
    """Drop the optimiser's memory of a parameter that has just been replaced."""
    for optimizer in trainer.optimizers:
        state: dict[Any, Any] = optimizer.state
        state.pop(parameter, None)
