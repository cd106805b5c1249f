import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from scmetaq._parallel import in_parts
from scmetaq._progress import working
from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit, cluster, cluster_by_region, initial_codes
from scmetaq.nn._regions import MOST_AT_ONCE, means_of_more

from ._callbacks import encode

_MOST_IN_TRAINING: Final = 400
"""Distinct codes while the network is trained: those of metacells are fitted when it is."""


@dataclass(eq=False, repr=False)
class CodebookFit(Callback):
    """Fits the codebook to latents of cells, after the warm-up and at the end.

    :meth:`finish` is for the caller to call when training is over: a callback that restores the
    best epoch comes after all others.

    Parameters
    ----------
    module
        The module that holds the codebook.
    inputs
        Prepared inputs of cells by name, each ``(n_cells, any)``, dense or CSR, as in a training
        set.
    warmup_fraction
        Share of the steps before the codebook is initialised.
    init
        How codes are initialised.
    refine
        Whether codes are those of least quantization error (:func:`~scmetaq.nn.cluster`, of many
        codes :func:`~scmetaq.nn.cluster_by_region`), when training begins with them and again at
        the end, since the latents have moved meanwhile. Codes from an earlier training are the
        starting point.
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
    def finish(
        self, z: Tensor | None = None, others: Iterable[Tensor] = (), n_all: int = 0
    ) -> None:
        """Refine the codes, and make sure that each has a cell.

        The latents ``z``, ``(n_cells, n_latent)``, are those of the inputs by default; they may be
        in half precision. Codes are their means and those of ``others``, ``n_all`` cells together.
        """
        codebook = self.module.codebook
        if not codebook.is_fitted:
            self._initialise(self.latents())
        z = self.latents() if z is None else z
        codes = codebook.codes.detach().clone()
        if self.refine:
            start = codes if self._continues else None
            codes = self._refined(z, codebook.n_codes, start)
        if n_all > len(z):
            each = partial(_in_parts, z.device.type != "cpu")
            codes = means_of_more(codes, chain([z], others), each)
        codebook.set_codes(codes)
        assignment = codebook.claim_cells(z)
        share = len(z) / max(len(z), n_all)
        codebook.describe_cells(z, assignment, self.module.state_dimensions, share=share)
        n_empty = int((codebook.usage == 0).sum())
        if n_empty:
            warnings.warn(
                f"Expected a cell for each of the {codebook.n_codes} metacells, {n_empty} have "
                "none: there are fewer distinct cells than metacells. Remove duplicated cells, or "
                "ask for fewer metacells.",
                stacklevel=2,
            )

    def latents(self) -> Tensor:
        """Latents of the inputs with the module as it stands, ``(n_cells, n_latent)``."""
        (z,) = encode(self.module, self.inputs, lambda outputs: [outputs["z"]])
        return z.to(self.module.device)

    def _initialise(self, z: Tensor) -> None:
        codebook = self.module.codebook
        if self.init == "random" and self.warmup_fraction == 0:
            # As published: nothing is learnt yet, so keep the small random codes.
            codes = codebook.codes.detach().clone()
        elif self.refine:  # any further ones repeat them
            n = min(codebook.n_codes, _MOST_IN_TRAINING)
            codes = cluster(z, n, start=self._start(z, n), seed=self.seed).codes
            codes = codes[torch.arange(codebook.n_codes) % n]
        else:
            codes = initial_codes(z, codebook.n_codes, self.init, seed=self.seed)
        codebook.set_codes(codes)
        for part in self.module.parts.values():
            part.copy_decoder()
        # Refined codes minimise the codebook loss exactly: gradients would only raise it.
        codebook.codes.requires_grad_(not self.refine)

    def _start(self, z: Tensor, n_codes: int) -> Tensor | None:
        """Cells to start from; None for those that the search for codes takes by itself."""
        if self.init == "kmeans":
            return None
        return initial_codes(z.float(), n_codes, self.init, seed=self.seed)

    def _refined(self, z: Tensor, n_codes: int, start: Tensor | None) -> Tensor:
        """Codes of least quantization error with even sizes."""
        start = self._start(z, n_codes) if start is None else start
        options: dict[str, Any] = {"start": start, "evenness": self.evenness, "seed": self.seed}
        if n_codes <= MOST_AT_ONCE:
            with working("Searching for codes"):
                return cluster(z.float(), n_codes, set_apart=True, **options).codes
        options |= {"states": self.module.state_dimensions}
        options |= {"each": partial(_in_parts, z.device.type != "cpu")}
        return cluster_by_region(z, n_codes, **options).codes


def _in_parts(
    is_local: bool,
    function: Callable[..., Any],
    calls: Iterable[tuple],
    n_calls: int,
    description: str,
) -> Iterator[Any]:
    """Show a bar, and let the workers of dask help if there are any."""
    options: dict[str, Any] = {"n_parts": n_calls, "shown_as": description, "is_local": is_local}
    return in_parts(lambda f, arguments: f(*arguments), function, calls, **options)
