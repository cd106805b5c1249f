import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scmetaq.nn import Codebook, bounded_sizes

from ._callbacks import say

_ROUNDS = 5
"""Most times that codes follow their cells."""


class SizeBounds(NamedTuple):
    """How many cells a metacell may have, and of which cells."""

    least: int
    most: int
    latents: Callable[[], Tensor]
    """Encodes the cells with the module as it stands, ``(n_cells, n_latent)``."""


@torch.no_grad()
def bound_sizes(codebook: Codebook, bounds: SizeBounds, *, move_codes: bool = True) -> None:
    """Give the codes offsets under which every metacell has an allowed number of cells.

    Codes move to the means of the cells that they then have, which asks for other offsets, and so
    on until no cell changes its code: constrained k-means (Bradley, Bennett and Demiriz 2000).

    Parameters
    ----------
    codebook
        The codes; its codes and offsets change.
    bounds
        Sizes and cells.
    move_codes
        Whether codes move; otherwise they only get offsets.
    """
    z = bounds.latents()
    say(
        f"Bounding the sizes of {codebook.n_codes:,} metacells of {len(z):,} cells; with many "
        "metacells and narrow bounds this takes minutes."
    )
    found = _set_offsets(codebook, z, bounds)
    for _ in range(_ROUNDS if move_codes else 0):
        total = torch.zeros_like(codebook.codes).index_add_(0, found, z)
        codebook.set_codes(total / codebook.count_cells(found).clamp_min(1)[:, None])
        before, found = found, _set_offsets(codebook, z, bounds)
        if torch.equal(found, before):
            break
    codebook.claim_cells(z)  # identical cells take one code where the bounds gave them several
    _check_sizes(codebook, z, bounds)


def _set_offsets(codebook: Codebook, z: Tensor, bounds: SizeBounds) -> Tensor:
    """Fit the offsets; the codes of the cells under them."""
    offsets = bounded_sizes(codebook.exact_similarity(z), bounds.least, bounds.most)
    codebook.set_offsets(offsets.to(codebook.offsets))
    assignment: Tensor = codebook(z).assignment
    return assignment


def _check_sizes(codebook: Codebook, z: Tensor, bounds: SizeBounds) -> None:
    sizes = codebook.count_cells(codebook(z).assignment)
    smallest, largest = int(sizes.min()), int(sizes.max())
    if smallest < bounds.least or largest > bounds.most:
        warnings.warn(
            f"Expected metacells of {bounds.least} to {bounds.most} cells, made some of "
            f"{smallest} to {largest}: cells with the same counts always share a metacell. Remove "
            "duplicated cells, or widen the bounds.",
            stacklevel=2,
        )
