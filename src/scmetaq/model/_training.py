from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
from scvi.data import AnnDataManager
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import SaveCheckpoint

from scmetaq.data._validation import check_positive
from scmetaq.train import TrainingSetSplitter


def default_batch_size(largest: int, n_cells: int) -> int:
    """Cells of a batch: no more than an eighth of all, but 32 where there are as many."""
    return min(largest, max(32, n_cells // 8))


def default_epochs(n_steps: int, n_cells: int, batch_size: int, *, most: int | None = None) -> int:
    """Epochs of about so many steps, at least one."""
    return int(np.clip(round(n_steps / np.ceil(n_cells / batch_size)), 1, most))


def _looks_at_held_out(
    *,
    enable_checkpointing: bool = False,
    check_val_every_n_epoch: int | None = None,
    callbacks: Iterable[Any] | None = None,
    **_: Any,
) -> bool:
    """Whether arguments of training ask for cells that are held out."""
    monitors = [str(c.monitor) for c in callbacks or () if isinstance(c, SaveCheckpoint)]
    looks = enable_checkpointing or check_val_every_n_epoch is not None
    return looks or any("validation" in monitor for monitor in monitors)


class TrainingMixin(UnsupervisedTrainingMixin):
    """scvi-tools' training, of what was prepared from a sample of the cells."""

    _data_splitter_cls = TrainingSetSplitter

    def _check_training(
        self,
        max_epochs: int | None,
        batch_size: int | None,
        train_size: float | None,
        *,
        early_stopping: bool,
        plan_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Refuse arguments of ``train`` before any work starts."""
        self._check_plan(self._training_plan_cls, plan_kwargs)
        if self.adata is None:
            raise ValueError("The model was loaded without cells: there are none to train on.")
        check_positive("max_epochs", max_epochs)
        check_positive("batch_size", batch_size)
        if train_size is not None and not 0 < train_size <= 1:
            raise ValueError(
                f"Expected train_size above 0 and at most 1, found {train_size}: the share of the "
                "cells to train on."
            )
        if early_stopping and train_size is not None and train_size >= 1:
            raise ValueError(
                f"Expected cells held out for early_stopping, found train_size={train_size}. Leave "
                "train_size out, or pass a share below one."
            )

    def _check_plan(self, plan: type, plan_kwargs: dict[str, Any] | None) -> None:
        """Refuse arguments that neither a training plan nor the loss of the module has."""
        inits = [vars(of)["__init__"] for of in plan.__mro__ if "__init__" in vars(of)]
        known = {name for of in (*inits, self.module.loss) for name in signature(of).parameters}
        odd = sorted(set(plan_kwargs or {}) - known)
        if odd:
            raise TypeError(
                f"Expected plan_kwargs to be arguments of scmetaq.train.{plan.__name__}, found "
                f"{odd[0]!r}."
            )

    @property
    def _n_features_read(self) -> str:
        """How many features are read, of each modality where there are several."""
        sizes = {k: len(p.feature_scaling.features) for k, p in self.module.parts.items()}
        return " + ".join(
            f"{n:,} {kind}" if len(sizes) > 1 else f"{n:,}" for kind, n in sizes.items()
        )

    def _train_on(
        self,
        cells: np.ndarray,
        training_set: AnnDataManager,
        *,
        train_size: float | None,
        early_stopping: bool,
        datasplitter_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on a prepared set, and put cells back in the terms of the user's.

        Parameters
        ----------
        cells
            Indices of the cells of the set.
        training_set
            What training reads of them.
        train_size, early_stopping, datasplitter_kwargs, **kwargs
            As of :meth:`scvi.model.base.UnsupervisedTrainingMixin.train`. By default all cells
            are trained on, or nine in ten where the others are looked at: for ``early_stopping``,
            ``enable_checkpointing`` or ``check_val_every_n_epoch``.
        """
        splitter = {"training_set": training_set, **(datasplitter_kwargs or {})}
        if splitter.get("external_indexing") is not None:
            splitter["external_indexing"] = [
                np.flatnonzero(np.isin(cells, chosen)) for chosen in splitter["external_indexing"]
            ]
        holds_out = early_stopping or _looks_at_held_out(**kwargs)
        super().train(
            train_size=train_size or (0.9 if holds_out else 1.0),
            early_stopping=early_stopping,
            datasplitter_kwargs=splitter,
            **kwargs,
        )
        for name in ("train_indices", "validation_indices", "test_indices"):
            chosen = getattr(self, name)
            setattr(self, name, None if chosen is None else cells[np.asarray(chosen, dtype=int)])
