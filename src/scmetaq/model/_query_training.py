import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import settings

from scmetaq.data._training_set import training_set
from scmetaq.train import QueryTrainingPlan

from ._cells import Cells
from ._training import default_batch_size, default_epochs

if TYPE_CHECKING:
    from ._reference_mapping import ReferenceMappingMixin
    from ._training import TrainingMixin

    class _Base(ReferenceMappingMixin, TrainingMixin):
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

    def _train_query(
        self,
        *,
        max_epochs: int | None,
        train_size: float | None,
        batch_size: int | None,
        early_stopping: bool,
        plan_kwargs: dict[str, Any] | None,
        **kwargs: Any,
    ) -> None:
        self._check_query_training(
            max_epochs=max_epochs,
            train_size=train_size,
            batch_size=batch_size,
            early_stopping=early_stopping,
            plan_kwargs=plan_kwargs,
            plan=QueryTrainingPlan,
            **kwargs,
        )
        if not self._has_new_conditions():
            return
        started = time.perf_counter()
        cells = self._cells(self.adata_manager)
        chosen = self._cells_of_new_conditions(cells, settings.seed or 0)
        batch_size = batch_size or default_batch_size(_BATCH_SIZE, len(chosen))
        self._training_plan_cls = QueryTrainingPlan
        with warnings.catch_warnings():  # most of the network is frozen, and batches may be small
            warnings.filterwarnings("ignore", _EXPECTED, UserWarning)
            self._train_on(
                chosen,
                training_set(self._inputs(cells.sample(chosen))),
                train_size=None,
                early_stopping=False,
                max_epochs=max_epochs or default_epochs(_N_STEPS, len(chosen), batch_size),
                batch_size=batch_size,
                plan_kwargs={**_PLAN, **(plan_kwargs or {})},
                **kwargs,
            )
        if not self.history_:  # scvi-tools continues the history of an earlier training
            self.history_ = getattr(self.trainer.logger, "history", {})  # none without a logger
        self._say_fitted(len(chosen), time.perf_counter() - started)
