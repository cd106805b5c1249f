import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit, cluster, initial_codes

from ._callbacks import encode


@dataclass(eq=False, repr=False)
class CodebookFit(Callback):
    """Fits the codebook to the latents of a sample of cells, after the warm-up and at the end.

    :meth:`finish` is for the caller to call when training is over: a callback that restores the
    best epoch comes after all others.

    Parameters
    ----------
    module
        The module that holds the codebook.
    inputs
        Prepared inputs of the sample by name, each ``(n_cells, any)``, dense or CSR, as in a
        training set.
    warmup_fraction
        Share of the steps before the codebook is initialised.
    init
        How codes are initialised.
    refine
        Whether codes are those of least quantization error (:func:`~scmetaq.nn.cluster`), when
        training begins with them and again at the end, since the latents have moved meanwhile.
        Codes from an earlier training are the starting point.
    evenness
        Weight of even sizes at the end, where codes are refined.
    seed
        Seed of the initialisation.
    """

    module: MetaQModule
    inputs: Mapping[str, Any]
    warmup_fraction: float
    init: CodebookInit
    refine: bool
    evenness: float
    seed: int
    _continues: bool = field(default=False, init=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the codes of an earlier training from gradient steps, if they are refined."""
        self._continues = self.module.codebook.is_fitted
        if self._continues:
            self.module.codebook.codes.requires_grad_(not self.refine)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Initialise the codebook once the warm-up is over."""
        codebook = self.module.codebook
        n_warmup = int(self.warmup_fraction * trainer.estimated_stepping_batches)
        if trainer.global_step >= n_warmup and not codebook.is_fitted:
            self._initialise(self.latents())
            for optimizer in trainer.optimizers:  # its memory is of the codes that were replaced
                state: dict[Any, Any] = optimizer.state
                state.pop(codebook.codes, None)

    @torch.no_grad()
    def finish(self) -> None:
        """Refine the codes, and make sure that each has a cell."""
        codebook, z = self.module.codebook, self.latents()
        if not codebook.is_fitted:
            self._initialise(z)
        codes = codebook.codes.detach().clone()
        if self.refine:
            start = codes if self._continues else None
            codes = self._refined(z, start, evenness=self.evenness, set_apart=True)
        codebook.set_codes(codes)
        assignment = codebook.claim_cells(z)
        codebook.describe_cells(z, assignment, self.module.state_dimensions)
        n_empty = int((codebook.usage == 0).sum())
        if n_empty:
            warnings.warn(
                f"Expected a cell for each of the {codebook.n_codes} metacells, {n_empty} have "
                "none: there are fewer distinct cells than metacells. Remove duplicated cells, or "
                "ask for fewer metacells.",
                stacklevel=2,
            )

    def latents(self) -> Tensor:
        """Latents of the sample with the module as it stands, ``(n_cells, n_latent)``."""
        (z,) = encode(self.module, self.inputs, lambda outputs: [outputs["z"]])
        return z.to(self.module.device)

    def _initialise(self, z: Tensor) -> None:
        codebook = self.module.codebook
        if self.init == "random" and self.warmup_fraction == 0:
            # As published: nothing is learnt yet, so keep the small random codes.
            codes = codebook.codes.detach().clone()
        elif self.refine:
            codes = self._refined(z)
        else:
            codes = initial_codes(z, codebook.n_codes, self.init, seed=self.seed)
        codebook.set_codes(codes)
        for part in self.module.parts.values():
            part.copy_decoder()
        # Refined codes minimise the codebook loss exactly: gradients would only raise it.
        codebook.codes.requires_grad_(not self.refine)

    def _refined(self, z: Tensor, start: Tensor | None = None, **options: Any) -> Tensor:
        """Codes of least error from ``start``; by default from cells, of k-means++ or as asked."""
        n_codes = self.module.codebook.n_codes
        if start is None and self.init != "kmeans":
            start = initial_codes(z, n_codes, self.init, seed=self.seed)
        return cluster(z, n_codes, start=start, seed=self.seed, **options).codes
