import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from scmetaq._errors import InputValueError
from scmetaq._parallel import in_parts
from scmetaq._progress import working
from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit, cluster, cluster_by_region, initial_codes
from scmetaq.nn._distances import n_distinct
from scmetaq.nn._regions import MOST_AT_ONCE, means_of_more
from scmetaq.nn._small_groups import set_groups_apart

from ._callbacks import encode


@torch.no_grad()
def fit_codes(
    module: MetaQModule,
    z: Tensor,
    *,
    others: Iterable[Tensor] = (),
    n_all: int = 0,
    init: CodebookInit,
    evenness: float,
    seed: int,
) -> None:
    """Fit the codes of least quantization error to latents ``(n_cells, n_latent)``.

    See :func:`~scmetaq.nn.cluster`, of many codes :func:`~scmetaq.nn.cluster_by_region`. Codes from
    an earlier training are the starting point. No gradient changes them: it would only raise the
    error. Latents may be in half precision. Codes are the means of these cells and of ``others``,
    ``n_all`` together.
    """
    codebook = module.codebook
    n_codes, start = codebook.n_codes, None
    check_distinct(z, n_codes)
    if codebook.is_fitted:
        start = codebook.codes.detach().clone()
    elif init != "kmeans":
        start = initial_codes(z.float(), n_codes, init, seed=seed)
    options: dict[str, Any] = {"start": start, "evenness": evenness, "seed": seed}
    if n_codes <= MOST_AT_ONCE:
        with working("Searching for codes"):
            found = cluster(z.float(), n_codes, **options)
            codes = set_groups_apart(z.float(), found).codes
    else:
        options |= {"states": module.state_dimensions}
        options |= {"each": partial(_in_parts, z.device.type != "cpu")}
        codes = cluster_by_region(z, n_codes, **options).codes
    if n_all > len(z):
        each = partial(_in_parts, z.device.type != "cpu")
        codes = means_of_more(codes, chain([z], others), each)
    codebook.set_codes(codes)
    n_empty = finish_codes(module, z, share=len(z) / max(len(z), n_all))
    if n_empty:  # latents that differ in the last digits have one nearest code
        codebook.is_fitted = start is not None
        check_distinct(z, n_codes, n_codes - n_empty)


def check_distinct(z: Tensor, n_codes: int, n: int | None = None) -> None:
    """Refuse fewer distinct cells than codes: cells with one latent are in one metacell."""
    n = n_distinct(z) if n is None else n
    if n < n_codes:
        raise InputValueError(
            f"Expected at least {n_codes} distinct cells for as many metacells, found {n} among "
            f"{len(z):,}: the others are as one of them in what is read.",
            "Remove duplicated cells, use more features, or ask for fewer metacells.",
            "n_metacells",
        )


@torch.no_grad()
def finish_codes(module: MetaQModule, z: Tensor, *, share: float = 1.0) -> int:
    """Make sure that each code has a cell, and store what its cells, of which a share, are like.

    Return how many codes have none, since there are too few distinct cells.
    """
    codebook = module.codebook
    assignment = codebook.claim_cells(z)
    codebook.describe_cells(z, assignment, module.state_dimensions, share=share)
    return int((codebook.usage == 0).sum())


def latents(module: MetaQModule, inputs: Mapping[str, Any]) -> Tensor:
    """Latents of prepared inputs with the module as it stands, ``(n_cells, n_latent)``."""
    (z,) = encode(module, inputs, lambda outputs: [outputs["z"]])
    return z.to(module.device)


@dataclass(eq=False, repr=False)
class CodebookStart(Callback):
    """Initialises codes that gradients train, as published, when a warm-up is over.

    Parameters
    ----------
    module
        The module that holds the codebook.
    inputs
        Prepared inputs of cells by name, each ``(n_cells, any)``, dense or CSR, as in a training
        set.
    warmup_fraction
        Share of the steps before.
    init
        How codes are initialised; ``"random"`` without a warm-up keeps the small random codes.
    seed
        Seed of the initialisation.
    """

    module: MetaQModule
    inputs: Mapping[str, Any]
    warmup_fraction: float
    init: CodebookInit
    seed: int

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Initialise the codebook once the warm-up is over."""
        codebook = self.module.codebook
        n_warmup = int(self.warmup_fraction * trainer.estimated_stepping_batches)
        if trainer.global_step >= n_warmup and not codebook.is_fitted:
            self._start()
            for optimizer in trainer.optimizers:  # its memory is of the codes that were replaced
                state: dict[Any, Any] = optimizer.state
                state.pop(codebook.codes, None)

    def finish(self) -> None:
        """Give each code a cell when training is over, after other callbacks."""
        if not self.module.codebook.is_fitted:  # no step was made
            self._start()
        n_empty = finish_codes(self.module, latents(self.module, self.inputs))
        if n_empty:
            warnings.warn(
                f"Expected a cell for each of the {self.module.codebook.n_codes} metacells, "
                f"{n_empty} have none: training made cells too similar. Ask for fewer metacells.",
                stacklevel=2,
            )

    @torch.no_grad()
    def _start(self) -> None:
        """Set the first codes, and copy the decoders of cells to those of codes."""
        codebook = self.module.codebook
        if self.init == "random" and self.warmup_fraction == 0:
            codes = codebook.codes.detach().clone()
        else:
            z = latents(self.module, self.inputs)
            codes = initial_codes(z, codebook.n_codes, self.init, seed=self.seed)
        codebook.set_codes(codes)
        for part in self.module.parts.values():
            part.copy_decoder()


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
