from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from scmetaq._progress import with_progress
from scmetaq.data._columns import Labels, read_labels
from scmetaq.data._fingerprint import fingerprints_of
from scmetaq.nn import (
    N_FOLDS,
    LabelPrototypes,
    PrototypeFit,
    PrototypeState,
    SeenCells,
)

from ._cells import Cells
from ._reading import ReadingMixin

_CHUNK = 16_384
"""Cells whose latents are held at a time."""
_CELLS_FOR_SCALE = 20_000
"""Cells to which the scale of the uncertainty is fitted, where more have a label."""


class Chunk(NamedTuple):
    """Some cells and their latents."""

    cells: np.ndarray
    """Their indices."""
    z: torch.Tensor
    """``(n_cells, n_latent)``."""
    is_new: torch.Tensor
    """Which of them the latent was not fitted to, ``(n_cells,)`` bool."""


class PrototypeFitMixin(ReadingMixin):
    """Fitting the prototypes of labels to the latents of a trained model."""

    if TYPE_CHECKING:

        def _latents(self, cells: Cells) -> np.ndarray:
            """Latents of cells, ``(n_cells, n_latent)``."""

    @property
    def _prototypes(self) -> dict[str, LabelPrototypes]:
        """Prototypes by key of labels."""
        return dict(zip(self._label_keys, self.module.prototypes, strict=True))

    def _add_prototypes(self, n_latent: int) -> None:
        """Make room for prototypes in the state of the module."""
        self.module.prototypes = torch.nn.ModuleList(
            LabelPrototypes(n_latent) for _ in self._label_keys
        )
        self.module.seen_cells = SeenCells()

    def _fit_prototypes(self, reference: np.ndarray | None = None) -> None:
        """Fit prototypes to the labels of the model's cells; keys without any stay as they are.

        Parameters
        ----------
        reference
            Sorted indices of the cells that the latent was fitted to.
        """
        manager = self.adata_manager
        found = {key: self._labels_of(manager, key) for key in self._prototypes}
        found = {k: v for k, v in found.items() if np.bincount(v[1][v[1] >= 0]).max(initial=0) > 1}
        new_cells = self._new_cells([codes for _, codes in found.values()], reference)
        for (key, (names, codes)), ratio in zip(found.items(), new_cells, strict=True):
            state = self._fitted(self._cells(manager), codes, len(names), ratio)
            self._prototypes[key].set_state(names, state)

    def _new_cells(self, labels: list[np.ndarray], reference: np.ndarray | None) -> list[float]:
        """How much nearer to prototypes cells are that the latent was not fitted to.

        Parameters
        ----------
        labels
            Index of the label of each cell, -1 without, one array per key.
        reference
            Sorted indices of the cells that the latent was fitted to.
        """
        return [1.0] * len(labels)

    def _fitted(
        self, cells: Cells, codes: np.ndarray, n_labels: int, new_cells: float
    ) -> PrototypeState:
        """Prototypes of labelled cells, read chunk by chunk."""
        labelled = np.flatnonzero(codes >= 0)
        n_cells = torch.from_numpy(np.bincount(codes[labelled], minlength=n_labels))
        fold, fit = folds(codes), self._empty_fit(n_cells)
        n_sampled = min(len(labelled), _CELLS_FOR_SCALE)
        sample = labelled[np.linspace(0, len(labelled) - 1, n_sampled).astype(int)]
        sampled, is_new = [], []
        for chunk in self._latents_in_chunks(cells, labelled):
            of_chunk = (torch.from_numpy(values[chunk.cells]) for values in (codes, fold))
            fit.add(chunk.z, *of_chunk)
            is_sampled = torch.from_numpy(np.isin(chunk.cells, sample))
            sampled.append(chunk.z[is_sampled])
            is_new.append(chunk.is_new[is_sampled])
        of_sample = (torch.from_numpy(values[sample]) for values in (codes, fold))
        return fit.finish(
            torch.cat(sampled), *of_sample, is_new=torch.cat(is_new), new_cells=new_cells
        )

    def _empty_fit(self, n_cells: torch.Tensor) -> PrototypeFit:
        """A fit that has seen no cell, of labels with so many cells."""
        n_latent = self.module.prototypes[0].means.shape[1]
        return PrototypeFit(n_cells, n_latent, getattr(self.module, "state_dimensions", None))

    def _labels_of(self, manager: Any, key: str) -> Labels:
        args = self.registry["setup_args"]
        where = (args.get("modalities") or {}).get("labels_key")
        return read_labels(manager.adata, key, args["unlabeled_category"], where)

    def _latents_in_chunks(self, cells: Cells, chosen: np.ndarray | None = None) -> Iterator[Chunk]:
        """Cells and their latents, a bounded number at a time."""
        chosen = np.arange(cells.n_cells) if chosen is None else chosen
        starts = range(0, len(chosen), _CHUNK)
        for start in with_progress(starts, "Reading cells", at_least=3):
            some = chosen[start : start + _CHUNK]
            sampled = cells.sample(some)
            z = torch.from_numpy(self._latents(sampled))
            yield Chunk(some, z, self._is_new(sampled))

    def _is_new(self, cells: Cells) -> torch.Tensor:
        """Which cells the latent was not fitted to; all, where that is unknown."""
        seen = self.module.seen_cells
        if not len(seen):
            return torch.ones(cells.n_cells, dtype=torch.bool)
        return ~seen.contain(torch.from_numpy(fingerprints_of(cells)))


def folds(codes: np.ndarray) -> np.ndarray:
    """Fold of each cell: those of a label are dealt out in turn."""
    rank = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    return rank % N_FOLDS
