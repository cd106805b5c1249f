from typing import ClassVar

import numpy as np
import torch

from scmetaq.nn import PRESENT, fit_query_offsets

from ._cells import Cells
from ._query_training import QueryTrainingMixin
from ._reading import Block
from ._reference_fit import ReferenceFitMixin


class QueryOffsetMixin(QueryTrainingMixin, ReferenceFitMixin):
    """What the new conditions of a query add to the scores and profiles that MetaQ reads.

    It is taken off before cells are encoded, which leaves little for embeddings to learn.
    """

    _query_steps: ClassVar[int] = 30
    _query_batch_size: ClassVar[int] = 64

    def _query_inputs(self, cells: Cells, seed: int) -> dict[str, np.ndarray]:
        """Find out what new conditions add; what training reads of their cells."""
        if self.module.correction is not None:
            self._fit_query_offsets(cells)
        if self._recipe.n_components:
            return self._linear_inputs(cells, {}, seed)
        return self._selected_inputs(cells)

    @torch.no_grad()
    def _fit_query_offsets(self, cells: Cells) -> None:
        """Find out what new categories add to scores and profiles."""
        module, device = self.module, self.module.device
        correction = module.correction
        assert correction is not None
        assert self.reference_ is not None

        def uncorrected(block: Block) -> dict[str, torch.Tensor]:
            present = {kind: of_kind[PRESENT] for kind, of_kind in block.inputs.items()}
            return {"values": module.linear_values(module.read_as_is(block.counts, present))}

        values = self._in_blocks(uncorrected, cells)["values"]
        n_known = self.reference_["n_categories"]
        new = [range(n_known[found.key], len(found.categories)) for found in self._conditions]
        fit_query_offsets(
            correction,
            torch.from_numpy(values).to(device),
            torch.from_numpy(cells.conditions).to(device),
            new=correction.columns(new),
        )
