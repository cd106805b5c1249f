import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import settings

from scmetaq.train import QueryTrainingPlan

from ._cells import Cells
from ._training import Preparation, default_batch_size

if TYPE_CHECKING:
    from ._reference_mapping import ReferenceMappingMixin

    class _Base(ReferenceMappingMixin):
        history_: dict[str, Any]

        def _inputs(self, cells: Cells) -> dict[str, np.ndarray]: ...
else:
    _Base = object

_N_STEPS = 60
_BATCH_SIZE = 256
_EXPECTED = r"(?s).*(Last batch will have a small size|module\(s\) in eval mode)"
_PLAN = {"one_cycle": True, "lr": 2e-2, "weight_decay": 0.0, "n_epochs_kl_warmup": None}


class QueryTrainingMixin(_Base):
    """Training of the embeddings of the new conditions of a query."""

    def _train_query(self, **arguments: Any) -> None:
        self._check_query_training(**arguments, plan=QueryTrainingPlan)
        if not self._has_new_conditions():
            return
        started = time.perf_counter()
        cells = self._cells(self.adata_manager)
        chosen = self._cells_of_new_conditions(cells, settings.seed or 0)
        prepared = Preparation(
            chosen,
            self._inputs(cells.sample(chosen)),
            batch_size=default_batch_size(_BATCH_SIZE, len(chosen)),
            n_steps=_N_STEPS,
            most_epochs=10_000,
            plan=_PLAN,
        )
        self._training_plan_cls = QueryTrainingPlan
        with warnings.catch_warnings():  # most of the network is frozen, and batches may be small
            warnings.filterwarnings("ignore", _EXPECTED, UserWarning)
            self._run(prepared, **arguments)
        if not self.history_:  # scvi-tools continues the history of an earlier training
            self.history_ = getattr(self.trainer.logger, "history", {})  # none without a logger
        self._say_fitted(len(chosen), time.perf_counter() - started)
