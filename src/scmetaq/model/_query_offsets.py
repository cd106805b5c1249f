import time
from typing import TYPE_CHECKING, Any

import torch
from scvi import settings

from scmetaq.module import MetaQModule
from scmetaq.nn import PRESENT, fit_query_offsets

from ._cells import Cells
from ._reading import Block

if TYPE_CHECKING:
    from ._reference_mapping import ReferenceMappingMixin as _Base
else:
    _Base = object


class QueryOffsetMixin(_Base):
    """Effects of the new conditions of a query on the values that MetaQ reads."""

    module: MetaQModule

    def _train_query(self, **arguments: Any) -> None:
        """Estimate the effects of new conditions; their embeddings stay the mean of known ones."""
        self._check_query_training(**arguments, plan=self._training_plan_cls)
        if not self._has_new_conditions():
            return
        started = time.perf_counter()
        cells = self._cells(self.adata_manager)
        cells = cells.sample(self._cells_of_new_conditions(cells, settings.seed or 0))
        if self.module.correction is not None:
            self._fit_query_offsets(cells)
        self._say_fitted(cells.n_cells, time.perf_counter() - started)

    @torch.no_grad()
    def _fit_query_offsets(self, cells: Cells) -> None:
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
