"""Body of all models: cells are read in blocks, and models loaded and trained, in one way."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from scmetaq._errors import InputValueError, check_choice, check_int
from scmetaq._progress import only_warnings
from scmetaq.data._cells import Cells, own_name, read_cells
from scmetaq.data._checks import check_cells, check_paired, check_unchanged
from scmetaq.data._columns import check_categories, size_factors
from scmetaq.data._containers import readable, without_view_of_file
from scmetaq.data._grouping import check_embedding
from scmetaq.data._modality import get_modality, of_modalities
from scmetaq.data._query import with_features
from scmetaq.data._reference import MAX_REFERENCE_CELLS, N_SCORES
from scmetaq.data._training_set import spread
from scmetaq.nn import Likelihood, ModalityShape
from scmetaq.nn._inputs import Inputs, flat, nested
from scmetaq.train import TrainingSetSplitter, say_trained

from ._blocks import Block, Function, in_blocks
from ._described import described
from ._given import Chosen, check_can_be_made, choose, refuse_datamodule
from ._saving import load, load_registry, save, view_setup_args
from ._seed import draws_by_seed
from ._setup import SetupMixin
from ._stages import Runner, become_trained, fit_network, stage, whole_or_as_before
from ._training import (
    MOST_EPOCHS,
    Preparation,
    check_batch_size,
    check_losses,
    check_others,
    check_plan_kwargs,
    check_precision,
    check_strategy,
    check_train_size,
    device_of,
    few_cells_allowed,
    looks_at_held_out,
)


class CountModel(SetupMixin, UnsupervisedTrainingMixin, BaseModelClass):
    """A model of raw counts of one or several modalities, with conditions and labels."""

    _data_splitter_cls = TrainingSetSplitter
    _train_runner_cls = Runner
    module: Any
    _aligned_to_query: Callable[[Any], Any]
    _check_query_training: Callable[..., None]
    """Of models that map queries."""
    _grouping_labels: Callable[[Any], np.ndarray]
    _label_weight: float = 0.0
    """Weight of labels in the grouping of cells."""
    reference_: Any = None
    """Of a query's model: ``n_categories`` of each condition key that its reference knows, and the
    features ``missing`` from the query by kind. None otherwise."""
    size_scale_: float = 1.0
    """Library size per size factor in the reference, where size factors are given."""
    _random_state: tuple[int | None, Any] = None, None
    """Seed of what it has drawn at random, and torch's state after that."""
    _stored: Any = None
    """Mapping in which a caller keeps finished stages of training, to resume it; None: nowhere."""

    def __init__(self, adata: Any = None, registry: dict | None = None):
        check_can_be_made(type(self).__name__, adata, registry)
        super().__init__(adata, registry)

    save, load = save, classmethod(load)
    load_registry, view_setup_args = map(staticmethod, (load_registry, view_setup_args))

    def __repr__(self) -> str:
        return described(self)

    @property
    def is_query(self) -> bool:
        """Whether the model was made by ``load_query_data``."""
        return self.reference_ is not None

    @property
    def _init_arguments(self) -> dict[str, Any]:
        """Arguments that the model was made with, but for cells and registry."""
        params = self.init_params_
        others = [v for of_kwargs in params["kwargs"].values() for v in of_kwargs.items()]
        return {**params["non_kwargs"], **dict(others)}

    @property
    def _n_features_read(self) -> str:
        """How many features are read, of each modality where there are several."""
        sizes = {k: len(p.feature_scaling.features) for k, p in self.module.parts.items()}
        named = [f"{n:,} {kind}" if len(sizes) > 1 else f"{n:,}" for kind, n in sizes.items()]
        return " + ".join(named)

    def _shapes(
        self,
        n_top_features: int | dict[str, int] | None,
        likelihood: Likelihood | dict[str, Likelihood] | None,
        *,
        likelihoods: Iterable[Likelihood] = get_args(Likelihood),
        n_components: int = 0,
        is_shallow: bool = False,
    ) -> dict[str, ModalityShape]:
        """Sizes and count distribution of each modality, ``likelihoods`` being those allowed.

        Shallow decoders have one hidden layer.
        """
        n_top = of_modalities("n_top_features", n_top_features, self._sources)
        chosen = of_modalities("likelihood", likelihood, self._sources)
        shapes = {}
        for kind in self._sources:
            preset = get_modality(kind)
            check_int("n_top_features", n_top[kind], optional=True)
            check_choice("likelihood", chosen[kind], (None, *likelihoods))
            allowed = self._allowed(kind)
            n = len(self._features[kind]) if allowed is None else int(allowed.sum())
            if n_top[kind] or not self._are_named(kind):
                n = min(n_top[kind] or preset.n_top_features, n)
            shapes[kind] = ModalityShape(
                n,
                chosen[kind] or preset.likelihood,
                preset.decoder_hidden[: 1 if is_shallow else None],
                n_components=min(n_components, n),
                n_scores=min(N_SCORES, n),
            )
        return shapes

    def _registered(self, adata: AnnData | MuData | None) -> AnnData | MuData:
        """The cells to read; registers new ones as the model's were."""
        self._check_if_trained(warn=False)
        if adata is None and self.adata is None:
            problem = "The model was loaded without cells:"
            raise InputValueError(problem, "pass some as adata.", "adata")
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        if adata is None or any(manager.adata is adata for manager in managers):
            known = self.adata if adata is None else adata
            check_unchanged(known, self._sources, self._features)
            check_embedding(known, self._use_rep, own_name(known), self._n_embedding)
        else:
            adata = self._aligned_cells(without_view_of_file(adata))
        with few_cells_allowed():
            adata = self._validate_anndata(adata)
        self.get_anndata_manager(adata, required=True)
        return adata

    def _aligned_cells(self, adata: AnnData | MuData) -> AnnData | MuData:
        """New cells with the features of the model, refused if they are not raw counts."""
        if self.is_query:
            return self._aligned_to_query(adata)
        sources = self._sources
        data: Any = with_features(adata, sources, self._features, self._use_rep)
        check_cells(data, sources, is_query=True, user=adata)
        check_embedding(data, self._use_rep, own_name(data), self._n_embedding)
        check_categories(readable(data), self._conditions)
        self._library_sizes(data)
        if self._paired_kinds:
            check_paired(data, [str(source.modality) for source in sources.values()])
        return data

    def _cells(self, data: AnnData | MuData) -> Cells:
        """What the model reads of registered cells."""
        labels = self._grouping_labels(data) if self._label_weight else None
        sizes = self._library_sizes(data)
        return read_cells(data, self._sources, self._conditions, self._use_rep, labels, sizes)

    def _library_sizes(self, data: Any, where: str | None = None) -> np.ndarray | None:
        """Library sizes by the size factors that cells bring, ``(n_cells, 1)``; None without."""
        if self._size_factor_key is None:
            return None
        factors = size_factors(data, self._size_factor_key, where)
        return (factors * self.size_scale_).astype(np.float32)

    def _scale_size_factors(self) -> None:
        """Bring size factors, of which only ratios matter, to the scale of library sizes."""
        cells = self._cells(self.adata)
        cells = cells.sample(spread(cells.n_cells, MAX_REFERENCE_CELLS))
        total = sum(of.everything.sum(dtype=np.float64) for of in cells.counts.values())
        self.size_scale_ = float(total / np.sum(np.asarray(cells.sizes), dtype=np.float64))

    def _chosen(self, adata: Any, *given: Any) -> Chosen:
        """Cells that a caller asks for by indices, batch size and loader."""
        return choose(self, adata, *given)

    def _in_blocks(self, function: Function, cells: Cells) -> dict[str, np.ndarray]:
        """Apply a function to the module and each block of cells, and join what it returns."""
        return in_blocks(self.module, function, cells)

    def _read_all(self, cells: Cells) -> dict[str, dict[str, np.ndarray]]:
        """Inputs of the module for all cells, by modality and name."""
        return nested(self._in_blocks(lambda _, block: flat(block.inputs), cells), cells.counts)

    def _latents(
        self, cells: Cells, change: Callable[[Any, Inputs], Inputs] = lambda _, inputs: inputs
    ) -> np.ndarray:
        """Latents of cells, ``(n_cells, n_latent)``, on request of changed inputs."""

        def encode(module: Any, block: Block) -> dict[str, torch.Tensor]:
            return {"z": module.inference(change(module, block.inputs), block.conditions)["z"]}

        return self._in_blocks(encode, cells)["z"]

    def _selected(self, kind: str) -> np.ndarray:
        """Indices of the features that are read and reconstructed."""
        return self.module.parts[kind].feature_scaling.features.cpu().numpy()

    @whole_or_as_before
    @draws_by_seed
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        train_size: float | None = None,
        batch_size: int | None = None,
        early_stopping: bool = False,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Epochs, passes over the cells to train on; by default as many as the model needs.
        accelerator, devices
            As in scvi-tools: ``"auto"``, ``"cpu"``, ``"gpu"``, ...
        train_size
            Share of the cells of the training sample to train on; by default all of them, or 0.9
            where held-out cells are looked at: with ``early_stopping``, ``enable_checkpointing``
            or ``check_val_every_n_epoch``.
        batch_size
            Cells per step.
        early_stopping
            Stop when the loss of held-out cells no longer improves.
        plan_kwargs
            Arguments of the training plan.
        **kwargs
            Further arguments of :meth:`scvi.model.base.UnsupervisedTrainingMixin.train`, among
            them those of the Lightning trainer.
        """
        if kwargs.pop("datamodule", None) is not None:
            refuse_datamodule()
        check_plan_kwargs(self._training_plan_cls, self.module.loss, plan_kwargs)
        if self.adata is None:
            raise InputValueError("The model was loaded without cells: there are none to train on.")
        check_int("max_epochs", max_epochs, most=MOST_EPOCHS, optional=True)
        check_batch_size(batch_size, self.module)
        check_others(kwargs)
        check_precision(kwargs.get("precision"))
        check_train_size(train_size, early_stopping=early_stopping)
        if self.is_query:
            self._check_query_training(train_size, early_stopping)
        device = device_of(accelerator, devices)
        check_strategy(accelerator, devices, kwargs.get("strategy"))
        check_unchanged(self.adata, self._sources, self._features)
        started = time.perf_counter()
        self.to_device(device)
        if self._size_factor_key is not None and not self.is_trained_:
            self._scale_size_factors()
        prepared = self._prepare()
        if prepared is None:
            return
        batch_size = batch_size or prepared.batch_size
        callbacks = list(kwargs.pop("callbacks", None) or [])
        holds_out = early_stopping or looks_at_held_out(callbacks, kwargs)
        # more than the steps of an epoch would give a warning
        share = train_size or (0.9 if holds_out else 1.0)
        n_batches = int(share * len(prepared.cells)) // batch_size
        if max_epochs is None and (n_each := prepared.n_steps_each(batch_size)):
            kwargs.setdefault("limit_train_batches", n_each)
            n_batches = min(n_batches, n_each)
        kwargs.setdefault("log_every_n_steps", max(1, min(10, n_batches)))
        if early_stopping and prepared.monitor:
            kwargs.setdefault("early_stopping_monitor", prepared.monitor)
        splitter = prepared.splitter(batch_size, kwargs.pop("datasplitter_kwargs", None) or {})
        fit = partial(
            super().train,
            max_epochs or prepared.n_epochs(batch_size),
            accelerator,
            devices,
            train_size=share,
            batch_size=batch_size,
            early_stopping=early_stopping,
            plan_kwargs={**prepared.plan, **(plan_kwargs or {})},
            datasplitter_kwargs=splitter,
            callbacks=[*callbacks, *prepared.callbacks],
            **kwargs,
        )
        with only_warnings("lightning.pytorch"):
            trained = stage(self, "training", lambda: fit_network(self, fit, prepared.cells))
        if not self.is_trained:  # a stage that was stored
            become_trained(self, trained, accelerator, devices)
        check_losses(self)

        def finish() -> dict[str, Any]:
            subject = self._finish(prepared)
            n_cells = f"{len(prepared.cells):,} cells x {self._n_features_read} features"
            seconds = time.perf_counter() - started
            if hasattr(self, "trainer"):
                say_trained(self.trainer, what=f"{subject} {n_cells}", seconds=seconds)
            return {}

        stage(self, "prototypes", finish)

    def _prepare(self) -> Preparation | None:
        """Fit what the network needs before its first step; None if no network is to be trained."""
        raise NotImplementedError

    def _finish(self, prepared: Preparation) -> str:
        """Fit what depends on the trained network; return the subject of the closing message."""
        raise NotImplementedError


if TYPE_CHECKING:
    Mixin = CountModel
else:
    Mixin = object
"""Base of flat capabilities, which tells type checkers what they are mixed into."""
