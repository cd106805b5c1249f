import numpy as np
import torch

from scmetaq.train import SizeBounds

from ._parts import MetaQParts

_MOST_SIMILARITIES = 125_000_000
"""Cells times metacells, in double precision a gigabyte."""


class SizeBoundsMixin(MetaQParts):
    """Metacells of at least and at most so many cells."""

    def _size_bounds(self, min_size: int | None, max_size: int | None) -> SizeBounds | None:
        """Bounds as the codebook takes them; None where there are none.

        Raises
        ------
        TypeError
            A size is not whole.
        ValueError
            Sizes below one or in the wrong order, or so many metacells cannot have them.
        """
        if min_size is None and max_size is None:
            return None
        n_cells, n_metacells = self.adata.n_obs, self.n_metacells
        check_sizes(min_size, max_size, n_cells, n_metacells)
        everything = self._cells(self.adata_manager)
        least, most = min_size or 1, min(max_size or n_cells, n_cells)
        at_most = max(_MOST_SIMILARITIES // n_metacells, 20 * n_metacells)
        if n_cells > at_most:
            everything = everything.sample(np.linspace(0, n_cells - 1, at_most).astype(np.int64))
            share = at_most / n_cells
            least, most = max(1, int(least * share)), int(np.ceil(most * share))

        def latents() -> torch.Tensor:
            return torch.from_numpy(self._latents(everything)).to(self.module.device)

        return SizeBounds(least, most, latents)


def check_sizes(min_size: int | None, max_size: int | None, n_cells: int, n_metacells: int) -> None:
    """Refuse sizes that so many metacells of so many cells cannot have."""
    for name, size in (("min_size", min_size), ("max_size", max_size)):
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"Expected {name} to be an int, found {size!r}.")
        if size < 1:
            raise ValueError(f"Expected {name} to be at least 1, found {size}.")
    if min_size is not None and max_size is not None and min_size > max_size:
        raise ValueError(
            f"Expected min_size of at most max_size, found min_size={min_size} and "
            f"max_size={max_size}."
        )
    cells = (
        f"{n_metacells} metacells of {n_cells} cells have {n_cells / n_metacells:.4g} on average"
    )
    if min_size is not None and min_size * n_metacells > n_cells:
        raise ValueError(
            f"Expected min_size of at most {n_cells // n_metacells}, found {min_size}: {cells}. "
            f"Lower min_size, or ask for at most {n_cells // min_size} metacells."
        )
    if max_size is not None and max_size * n_metacells < n_cells:
        raise ValueError(
            f"Expected max_size of at least {-(-n_cells // n_metacells)}, found {max_size}: "
            f"{cells}. Raise max_size, or ask for at least {-(-n_cells // max_size)} metacells."
        )
