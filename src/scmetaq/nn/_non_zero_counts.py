from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import _device


class NonZeroCounts(NamedTuple):
    """Counts of cells as likelihoods need them: the non-zeros, where they are, and ``log x!``.

    Counts are 90 to 97 % zeros, where log-gamma terms cancel or vanish. A GPU has computed all of
    them sooner than the host has learnt how many it needs: there, every count stands here.
    """

    shape: tuple[int, ...]
    """Cells and features."""
    at: Tensor | None
    """Places among ``n_cells * n_features``, rising; None where all counts are here."""
    values: Tensor
    """Counts at these places, in order."""
    log_factorial: Tensor
    """``log x!`` of each."""

    def pick(self, values: Tensor) -> Tensor:
        """Values ``(n_cells, n_features)`` at the places."""
        flat = values.reshape(-1)
        return flat if self.at is None else flat.index_select(0, self.at)

    def add(self, values: Tensor, more: Tensor) -> None:
        """Add to contiguous values ``(n_cells, n_features)`` at the places."""
        flat = values.view(-1)
        if self.at is None:
            flat.add_(more)
        else:
            flat.scatter_add_(0, self.at, more)

    def replace(self, values: Tensor, new: Tensor) -> None:
        """Replace contiguous values ``(n_cells, n_features)`` where counts are not zero."""
        flat = values.view(-1)
        if self.at is None:
            flat.copy_(torch.where(self.values != 0, new, flat))
        else:
            flat.scatter_(0, self.at, new)

    def to(self, dtype: torch.dtype) -> "NonZeroCounts":
        """The same in another precision."""
        if self.values.dtype == dtype:
            return self
        return self._replace(
            values=self.values.to(dtype), log_factorial=self.log_factorial.to(dtype)
        )

    def blocks(self, n_numbers: int) -> Iterator[tuple[slice, "NonZeroCounts"]]:
        """Blocks of cells of about so many numbers, which stay in a cache; all, if all are here."""
        n_cells, width = self.shape
        step = -(-n_cells // max(1, round(n_cells * width / n_numbers)))
        if self.at is None or step >= n_cells:
            yield slice(0, n_cells), self
            return
        starts = list(range(0, n_cells, step))
        edges = torch.searchsorted(self.at, torch.tensor([s * width for s in starts])).tolist()
        for first, a, b in zip(starts, edges, [*edges[1:], len(self.at)], strict=True):
            rows = slice(first, min(first + step, n_cells))
            yield (
                rows,
                NonZeroCounts(
                    (rows.stop - first, width),
                    self.at[a:b] - first * width,
                    self.values[a:b],
                    self.log_factorial[a:b],
                ),
            )


def non_zero_counts(counts: Tensor) -> NonZeroCounts:
    """What likelihoods need of counts, which does not change with the parameters.

    Parameters
    ----------
    counts
        Raw counts, ``(n_cells, n_features)``, floating.
    """
    values, at = counts.reshape(-1), None
    if _device.on_cpu(counts):
        at = torch.from_numpy(np.flatnonzero(values.bool().numpy()))
        values = values.index_select(0, at)
    return NonZeroCounts(tuple(counts.shape), at, values, torch.lgamma(values + 1))
