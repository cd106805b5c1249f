from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ._fitted import Fitted

TARGET_SUM = 1e4
"""Counts per cell after division by the size factor."""


class CountBatch:
    """Raw counts of a batch of cells, of which only the non-zeros are touched.

    Counts are 90 to 97 % zeros. Library sizes and transforms that leave zero at zero are
    computed at the others, and only the features that are asked for are ever made dense.

    Parameters
    ----------
    counts
        Raw counts, ``(n_cells, n_features)``: a CSR or a dense tensor.
    share
        Share of the library size that falls on these features, ``()``; all of it by default.
    sizes
        Library sizes that are given, ``(n_cells, 1)``; by default the sums of the counts.
    """

    def __init__(self, counts: Tensor, *, share: Tensor | None = None, sizes: Tensor | None = None):
        self._share, self._sizes = share, sizes
        self.n_cells, self.n_features = counts.shape
        if counts.layout is not torch.sparse_csr:
            self._rows, self._columns = counts.nonzero(as_tuple=True)  # nnz
            self.values = counts[self._rows, self._columns]  # nnz
            return
        self.values = counts.values()  # nnz
        self._columns = counts.col_indices().long()  # nnz
        cells = torch.arange(self.n_cells, device=counts.device)
        self._rows = torch.repeat_interleave(
            cells, counts.crow_indices().diff(), output_size=len(self.values)
        )  # nnz

    @cached_property
    def size_factor(self) -> Tensor:
        """Library size over the target sum, ``(n_cells, 1)``."""
        if self._sizes is not None:
            return self._sizes.clamp_min(1) / TARGET_SUM
        total = self.values.new_zeros(self.n_cells).index_add_(0, self._rows, self.values)
        factor = total[:, None].clamp_min(1) / TARGET_SUM
        return factor if self._share is None else factor / self._share

    @cached_property
    def per_10k(self) -> Tensor:
        """Non-zero counts over the size factor, ``(nnz,)``."""
        return self.values / self.size_factor[:, 0].index_select(0, self._rows)

    def dense(self, features: Tensor, values: Tensor | None = None) -> Tensor:
        """Chosen features as a dense matrix.

        Parameters
        ----------
        features
            Indices of features, ``(n_selected,)``.
        values
            What to put in place of the non-zero counts, ``(nnz,)``; by default the counts.

        Returns
        -------
        ``(n_cells, n_selected)``, rows of a matrix with one column more.
        """
        n, width = self.n_cells, len(features)
        # one column more, for what is not wanted: nothing waits for a number from the device
        column_of = features.new_full((self.n_features,), width)  # G
        column_of[features] = torch.arange(width, device=features.device)
        place = column_of.index_select(0, self._columns).add_(self._rows, alpha=width + 1)  # nnz
        values = self.values if values is None else values
        found = values.new_zeros(n * (width + 1)).scatter_(0, place, values)
        return found.view(n, width + 1)[:, :width]


class Coverage(NamedTuple):
    """Average profile of the reference sample, and what was measured of it."""

    rate: Tensor
    """Mean count per unit of size factor, ``(n_features,)``."""
    is_missing: Tensor
    """Which features are missing, ``(n_features,)`` bool; empty if none is."""


class FeatureCoverage(Fitted[Coverage]):
    """Which features of a model its cells were measured in."""

    def __init__(self) -> None:
        super().__init__(Coverage(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))

    def batch(self, counts: Tensor, sizes: Tensor | None = None) -> CountBatch:
        """Counts ``(n_cells, n_features)``; library sizes, unless given, are of all features."""
        share = self.share if len(self.is_missing) else None
        return CountBatch(counts, share=share, sizes=sizes)

    @property
    def share(self) -> Tensor:
        """Share of the counts of an average cell that fall on the features measured, ``()``."""
        known = self.rate[~self.is_missing] if len(self.is_missing) else self.rate
        return known.sum() / self.rate.sum().clamp_min(1e-12)

    def missing_of(self, features: Tensor) -> Tensor | None:
        """Which of some features are missing, ``(n_selected,)`` bool; None if all were measured."""
        return self.is_missing[features] if len(self.is_missing) else None

    def set_rate(self, rate: Tensor) -> None:
        """Set the mean counts per unit of size factor, ``(n_features,)``."""
        self.set_state(self.state._replace(rate=rate))

    def set_missing(self, is_missing: Tensor) -> None:
        """Set which features are missing, ``(n_features,)`` bool."""
        is_missing = is_missing if is_missing.any() else is_missing[:0]
        self.set_state(self.state._replace(is_missing=is_missing))
