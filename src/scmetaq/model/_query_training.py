import time
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scvi import settings

from scmetaq.data._training_set import training_set
from scmetaq.data._validation import check_positive
from scmetaq.train import QueryTrainingPlan, say

from ._cells import Cells
from ._reference_mapping import ReferenceMappingMixin
from ._training import TrainingMixin, default_batch_size, default_epochs

_MOST_CELLS = 5_000
"""Cells of new conditions that are trained on, where there are more."""
_EXPECTED = r"(?s).*(Last batch will have a small size|module\(s\) in eval mode)"
_PLAN = {"one_cycle": True, "lr": 2e-2, "weight_decay": 0.0, "n_epochs_kl_warmup": None}


class QueryTrainingMixin(ReferenceMappingMixin, TrainingMixin):
    """Fitting what the new conditions of a query add."""

    _query_steps: ClassVar[int] = 60
    """Steps after which default training ends."""
    _query_batch_size: ClassVar[int] = 256

    def _train_query(
        self,
        max_epochs: int | None = None,
        *,
        train_size: float | None = None,
        batch_size: int | None = None,
        early_stopping: bool = False,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Tell what new conditions add to cells, then learn their embeddings."""
        check_positive("max_epochs", max_epochs)
        check_positive("batch_size", batch_size)
        self._check_plan(QueryTrainingPlan, plan_kwargs)
        if self.adata is None:
            raise ValueError("The model was loaded without cells: there are none to train on.")
        if early_stopping or train_size is not None:
            raise ValueError(
                "Expected no train_size or early_stopping, found some: a few steps fit what new "
                "conditions of a query add, on all its cells, and none are held out."
            )
        new = {key: categories for key, categories in self.new_conditions.items() if categories}
        if not new:
            say("No condition of the query is new: there is nothing to train.")
            return
        started, seed = time.perf_counter(), settings.seed or 0
        everything = self._cells(self.adata_manager)
        chosen = self._cells_of_new_conditions(everything, seed)
        cells = everything.sample(chosen)
        inputs = self._query_inputs(cells, seed)
        batch_size = batch_size or default_batch_size(self._query_batch_size, len(chosen))
        n_epochs = default_epochs(self._query_steps, len(chosen), batch_size)
        self._training_plan_cls = QueryTrainingPlan
        with warnings.catch_warnings():  # most of the network is frozen, and batches may be small
            warnings.filterwarnings("ignore", _EXPECTED, UserWarning)
            self._train_on(
                chosen,
                training_set(inputs),
                train_size=None,
                early_stopping=False,
                max_epochs=max_epochs or n_epochs,
                batch_size=batch_size,
                plan_kwargs={**_PLAN, **(plan_kwargs or {})},
                **kwargs,
            )
        if not self.history_:  # scvi-tools goes on with the losses that were there before
            self.history_ = getattr(self.trainer.logger, "history", {})  # none without a logger
        n_new = sum(map(len, new.values()))
        say(
            f"Fitted {n_new} new categories of {', '.join(map(repr, new))} to {len(chosen):,} "
            f"cells in {time.perf_counter() - started:.0f} s; all else is as in the reference."
        )

    if TYPE_CHECKING:

        def _query_inputs(self, cells: Cells, seed: int) -> dict[str, np.ndarray]:
            """What training reads of the cells of new conditions."""

    def _cells_of_new_conditions(self, cells: Cells, seed: int) -> np.ndarray:
        """Sorted indices of cells of which a condition is new, evenly of each if there are many."""
        assert self.reference_ is not None
        n_known = [self.reference_["n_categories"][found.key] for found in self._conditions]
        is_new = cells.conditions >= np.array(n_known)  # n_cells x n_keys
        n_new = sum(map(len, self.new_conditions.values()))
        rng, chosen = np.random.default_rng(seed), set()
        for codes, of_key in zip(cells.conditions.T, is_new.T, strict=True):
            for category in np.unique(codes[of_key]):
                found = rng.permutation(np.flatnonzero(codes == category))
                chosen |= set(found[: max(1, _MOST_CELLS // n_new)].tolist())
        return np.array(sorted(chosen))
