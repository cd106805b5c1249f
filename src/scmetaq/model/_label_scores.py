import numpy as np
import pandas as pd
import torch

from scmetaq.nn import PRESENT, LabelScoresState, fit_label_scores

from ._cells import Cells
from ._parts import MetaQParts
from ._prototype_fit import PrototypeFitMixin, folds
from ._reading import Block

_MOST_CELLS = 4_000
"""Cells that scores of labels are fitted to, where more have a label."""
_MOST_VALUES = 60_000_000
"""Values of these cells that are held at most."""


class LabelScoresMixin(PrototypeFitMixin, MetaQParts):
    """Scores of labels, told from the features that the model reads: see ``LabelScores``."""

    def _fitted_scores(self, codes: np.ndarray, n_labels: int) -> LabelScoresState | None:
        if not self._recipe.n_components:  # the published recipe
            return None
        n_values = sum(len(part.feature_scaling.features) for part in self.module.parts.values())
        chosen = even_sample(codes, min(_MOST_CELLS, max(1, _MOST_VALUES // n_values)))
        cells = self._cells(self.adata_manager).sample(chosen)
        values = self._in_blocks(lambda block: {"values": self._log_values(block)}, cells)["values"]
        label, fold = (torch.from_numpy(of[chosen]) for of in (codes, folds(codes)))
        return fit_label_scores(torch.from_numpy(values), label, fold, n_labels=n_labels)

    def _latents_and_scores(self, cells: Cells) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        keys = [key for key, of_key in self._prototypes.items() if of_key.scores.is_fitted]
        if not keys:
            return super()._latents_and_scores(cells)

        def encode(block: Block) -> dict[str, torch.Tensor]:
            values = self._log_values(block)
            return {
                "z": self.module.inference(block.inputs, block.conditions)["z"],
                **{f"scores of {key}": self._prototypes[key].scores(values) for key in keys},
            }

        found = self._in_blocks(encode, cells)
        scores = {key: torch.from_numpy(found[f"scores of {key}"]) for key in keys}
        return torch.from_numpy(found["z"]), scores

    def _log_values(self, block: Block) -> torch.Tensor:
        """Centred log counts of all modalities side by side; zero where a cell lacks one."""
        values = [
            part.log_values(block.counts[kind]) * block.inputs[kind][PRESENT]
            for kind, part in self.module.parts.items()
        ]
        return torch.cat(values, 1)


def even_sample(codes: np.ndarray, at_most: int) -> np.ndarray:
    """Sorted indices of cells with a label, at most so many, the same of every label if possible.

    Parameters
    ----------
    codes
        Index of the label of each cell, -1 without, ``(n_cells,)``.
    at_most
        Number of cells.
    """
    labelled = np.random.default_rng(0).permutation(np.flatnonzero(codes >= 0))
    rank = pd.Series(codes[labelled]).groupby(codes[labelled]).cumcount().to_numpy()
    return np.sort(labelled[np.argsort(rank, kind="stable")[:at_most]])
