from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scvi import settings

from scmetaq._errors import InputValueError, check_choice, check_int, check_share
from scmetaq._progress import working
from scmetaq.data._modality import check_weights
from scmetaq.data._reference import MAX_REFERENCE_CELLS
from scmetaq.data._training_set import spread
from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit, Distance, Likelihood
from scmetaq.nn._inputs import CONDITIONS, PRESENT, flat
from scmetaq.nn._regions import MOST_AT_ONCE
from scmetaq.train import (
    CodebookStart,
    MetaQTrainingPlan,
    StopRule,
    check_distinct,
    fit_codes,
    latents,
    size_bounds,
)

from ._base import CountModel
from ._blocks import half_latents
from ._conditions import ConditionsMixin
from ._labels import LabelsMixin
from ._mapping import MappingMixin
from ._metacells import MetacellsMixin
from ._number import bound_sizes_of, n_metacells_of
from ._query import QueryMixin
from ._recipe import RecipeName, check_latent, get_recipe
from ._reference_fit import fit_statistics, linear_inputs, selected_inputs, start_decoders
from ._reports import ReportsMixin
from ._seed import seeded
from ._soft import get_representative_cells, get_soft_assignments
from ._stages import stage
from ._training import Preparation, default_batch_size

_CELLS_PER_CODE = 64
"""Cells per code in the sample that codes are fitted to, where it would otherwise be smaller."""
_CELLS_SEARCHED = 32
"""Those of them, per code, whose latents are in memory while many codes are searched for."""
_CELLS_AT_ONCE = 2**18
"""Cells at once of the others, of whose latents only the means of codes are taken."""


class MetaQModel(
    QueryMixin, MappingMixin, ConditionsMixin, MetacellsMixin, ReportsMixin, LabelsMixin, CountModel
):
    """Metacells by quantization :cite:p:`Li25`.

    An encoder brings each cell to a latent, a codebook of ``n_metacells`` codes quantizes the
    latents, and each code must reconstruct the counts of its cells: it is a metacell. Of several
    modalities each has an encoder and decoders of its own, and codes stand for all of them.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata` or MuData with :meth:`setup_mudata`.
    n_metacells
        Number of metacells, at least 2 and below the number of cells. One per 50 cells is a
        good start.
    cells_per_metacell, counts_per_metacell
        In place of ``n_metacells``: how many cells, or raw counts (UMIs), a metacell has on
        average. Counts are those of RNA, or of the only modality.
    registry
        Registry of a saved model, in place of ``adata``; for internal use.
    recipe
        ``"default"``, or ``"published"`` for the method as the paper's authors run it.
    n_latent
        Dimension of the learnt cell state, in each modality. The default recipe compares cells
        with codes in principal components too: see :meth:`get_latent_representation`.
    n_top_features
        Most features that an encoder reads; by default 3,000 (RNA, ADT) or 30,000 (ATAC). One
        number, or a dict of them by modality: ``"rna"``, ``"adt"``, ``"atac"``.
    likelihood
        Count distribution, or a dict by modality; by default ``"nb"`` (RNA, ADT), Poisson (ATAC).
    modality_weights
        Share of each modality in the distances between cells and codes, a dict; only ratios matter.
        By default the number of reliable dimensions of each, as training estimates; see
        :attr:`modality_weights`.
    distance
        By which cells are assigned to codes, ``"euclidean"`` or ``"cosine"``; by default the
        recipe's: Euclidean in the default recipe, cosine in the published one.
    codebook_init
        How codes are initialised; by default the recipe's.
    evenness
        Weight of even sizes of metacells, from 0 to 1: that of a nat of the entropy of code usage,
        in mean quantization errors of a cell. Less keeps very rare types apart more often, 0 makes
        sizes follow from the error alone. The published recipe does without.
    label_weight
        Weight of labels (of several keys the first) in the grouping; 0: they have no part in it.
        Cells of different labels are farther apart, in squared distance, by this many times what
        two cells of one label are: 1 keeps types apart. Cells without a label have
        probabilities of them: see :doc:`/user_guide/label_transfer`.

    Examples
    --------
    >>> adata = scmetaq.data.demo()
    >>> scmetaq.MetaQModel.setup_anndata(adata)
    >>> model = scmetaq.MetaQModel(adata, n_metacells=40)
    >>> model.train()
    >>> metacells = model.get_metacells()
    """

    _module_cls = MetaQModule
    _sizes: tuple[int | None, int | None] = (None, None)
    _takes_embeddings = True
    _training_plan_cls = MetaQTrainingPlan
    get_soft_assignments = get_soft_assignments
    get_representative_cells = get_representative_cells

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        n_metacells: int | None = None,
        registry: dict | None = None,
        *,
        cells_per_metacell: float | None = None,
        counts_per_metacell: float | None = None,
        recipe: RecipeName = "default",
        n_latent: int = 32,
        n_top_features: int | dict[str, int] | None = None,
        likelihood: Likelihood | dict[str, Likelihood] | None = None,
        modality_weights: dict[str, float] | None = None,
        distance: Distance | None = None,
        codebook_init: CodebookInit | None = None,
        evenness: float = 0.2,
        label_weight: float = 0.0,
    ):
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())
        size = {
            "cells_per_metacell": cells_per_metacell,
            "counts_per_metacell": counts_per_metacell,
        }
        self.n_metacells = n_metacells_of(self, n_metacells, **size)
        # a loaded model has as many, whatever cells come with it
        self.init_params_["non_kwargs"] |= {"n_metacells": self.n_metacells, **dict.fromkeys(size)}
        check_choice("distance", distance, (None, *get_args(Distance)))
        check_choice("codebook_init", codebook_init, (None, *get_args(CodebookInit)))
        check_int("n_latent", n_latent, most=10_000)
        check_share("evenness", evenness)
        self._recipe, self._evenness = get_recipe(recipe), evenness
        check_latent(self, recipe, distance, modality_weights, label_weight)
        self._label_weight = float(label_weight)
        self._codebook_init = codebook_init or self._recipe.codebook_init
        check_weights(modality_weights, self._sources)
        with seeded(self):
            self.module = self._module_cls(
                self._shapes(
                    n_top_features,
                    likelihood,
                    n_components=0 if self._use_rep else self._recipe.n_components,
                    is_shallow=self._recipe.refine,
                ),
                self.n_metacells,
                conditions={found.key: len(found.categories) for found in self._conditions},
                n_latent=n_latent,
                n_embedding=self._n_embedding,
                weights=modality_weights,
                norm=self._recipe.norm,
                distance=distance or self._recipe.distance,
                n_labels=len(self._grouping_names),
            )
        self._add_prototypes(self.module.codebook.codes.shape[1] - len(self._grouping_names))

    @property
    def modality_weights(self) -> dict[str, float]:
        """Share of each modality in the squared distances between cells; they sum to one."""
        return self.module.weights

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        min_size: int | None = None,
        max_size: int | None = None,
        train_size: float | None = None,
        batch_size: int | None = None,
        early_stopping: bool = False,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the model: encoder first, then the codebook and its decoders.

        In the default recipe the encoder and the codes are fitted in closed form or by search; the
        gradient steps are for the decoders, and change no metacell.

        In the model of a query (:meth:`load_query_data`) the effects of new conditions are
        estimated, and nothing else; without new conditions there is nothing to do. No network is
        trained: arguments are checked and have no effect.

        Parameters
        ----------
        max_epochs
            Epochs, passes over the reference sample (published recipe: all cells); by default
            as many steps as the recipe needs, in the default recipe 24.
        accelerator, devices
            As in scvi-tools.
        min_size, max_size
            Fewest and most cells of the model in a metacell; by default one, and no limit. Other
            cells are assigned as ever, each for itself. See :doc:`/user_guide/granularity`.
        train_size
            Share of the reference sample to train on; by default all, or 0.9 where held-out cells
            are looked at, e.g. with ``early_stopping``. All cells get a metacell either way.
        batch_size
            Cells per step; by default the recipe's.
        early_stopping
            Stop when the reconstruction of held-out cells no longer improves.
        plan_kwargs
            Arguments of :class:`~scmetaq.train.MetaQTrainingPlan`.
        **kwargs
            Arguments of scvi-tools' ``train`` and of the Lightning trainer.
        """
        if self.is_query and (min_size, max_size) != (None, None):
            problem = "Expected no min_size or max_size, found some: the metacells of a query are"
            fix = "Bound the sizes when you train the reference."
            raise InputValueError(f"{problem} those of its reference.", fix, "min_size")
        self._sizes = min_size, max_size
        kwargs |= {"train_size": train_size, "batch_size": batch_size, "plan_kwargs": plan_kwargs}
        super().train(max_epochs, accelerator, devices, early_stopping=early_stopping, **kwargs)

    def _prepare(self) -> Preparation | None:
        if self.is_query:
            self._fit_new_conditions()
            return None
        n_cells = self.adata.n_obs
        self._bounds = size_bounds(*self._sizes, n_cells=n_cells, n_metacells=self.n_metacells)
        seed, recipe = settings.seed or 0, self._recipe
        of_codebook = self._codebook_cells(seed)
        inputs = stage(self, "statistics", lambda: self._fit_statistics(of_codebook, seed))
        cells, callbacks = inputs.pop("cells"), []
        if recipe.refine:
            stage(self, "codes", lambda: self._fit_codes(inputs, cells, of_codebook, seed))
            self.module.learn_decoders()
        else:
            # a warm-up where codes come from latents
            warmup = 0.2 * (self._codebook_init != "random")
            part = inputs
            if len(of_codebook) < len(cells):
                part = {k: rows[of_codebook] for k, rows in inputs.items()}
            check_distinct(latents(self.module, part), self.n_metacells)
            callbacks = [CodebookStart(self.module, part, warmup, self._codebook_init, seed)]
        batch_size = recipe.batch_size
        if recipe.max_steps:  # as published it does not depend on the number of cells
            batch_size = default_batch_size(batch_size, len(cells))
        return Preparation(
            cells,
            inputs,
            batch_size=batch_size,
            n_steps=recipe.max_steps,
            most_epochs=100 if recipe.max_steps else 300,
            plan={k: getattr(recipe, k) for k in ("adjust_codes", "lr", "one_cycle")},
            callbacks=[*callbacks, *([StopRule()] if recipe.adjust_codes else [])],
            # as published: batch normalisation cannot take a last batch of one cell
            drops_last=recipe.norm == "batch",
            monitor="reconstruction_loss_validation",
        )

    def _fit_statistics(self, of_codebook: np.ndarray, seed: int) -> dict[str, Any]:
        """Fit all that does not need a network; return the cells to train on and their inputs."""
        recipe, module = self._recipe, self.module
        everything = self._cells(self.adata)
        cells = of_codebook[spread(len(of_codebook), MAX_REFERENCE_CELLS)]
        reference = everything.sample(cells)
        if is_first := not module.codebook.is_fitted:
            with working("Fitting statistics"):
                for kind, of_kind in reference.counts.items():
                    part, counts = module.parts[kind], of_kind.measured
                    options: Any = {"allowed": self._allowed(kind), "sizes": reference.sizes}
                    options["seed"] = seed
                    fit_statistics(part, kind, counts, starts_at_mean=False, **options)
        if reference.embedding is not None:
            if is_first:
                variance = reference.embedding.var(0, dtype=np.float64).sum()
                module.embedding_scale.fill_(max(float(variance), 1e-30) ** -0.5)
            prepared = selected_inputs(module, reference)
        elif recipe.n_components:
            read = self._read_all(reference)
            with working("Averaging over neighbours"):
                prepared = linear_inputs(
                    module,
                    read,
                    reference,
                    is_first=is_first,
                    has_weights=self.init_params_["non_kwargs"]["modality_weights"] is not None,
                    seed=seed,
                )
        else:  # as published: all cells
            cells, prepared = np.arange(self.adata.n_obs), selected_inputs(module, everything)
        conditions = everything.conditions[cells].astype(np.float32)
        needed = flat(prepared).items()  # without which cells have a modality that all have
        inputs = {k: v for k, v in needed if not (k.endswith(f"_{PRESENT}") and v.all())}
        return {"cells": cells, **inputs, CONDITIONS: conditions}

    def _codebook_cells(self, seed: int) -> np.ndarray:
        """Sorted indices of the cells that codes are fitted to, which do not grow with the data."""
        n_cells = self.adata.n_obs
        n_sampled = min(n_cells, max(MAX_REFERENCE_CELLS, _CELLS_PER_CODE * self.n_metacells))
        return np.sort(np.random.default_rng(seed).permutation(n_cells)[:n_sampled])

    def _fit_codes(
        self, inputs: dict[str, Any], cells: np.ndarray, of_codebook: np.ndarray, seed: int
    ) -> dict[str, Any]:
        """Fit the codes and start the decoders, which an earlier training has trained already.

        Latents of many cells are in memory all at once only where codes are few.
        """
        module, is_first = self.module, not self.module.codebook.is_fitted
        if self._label_weight:
            self._fit_grouping(None if self._use_rep else cells)
        more: Iterable[torch.Tensor] = ()
        if len(of_codebook) > len(cells):
            everything, searched = self._cells(self.adata), np.arange(len(of_codebook))
            if self.n_metacells > MOST_AT_ONCE:
                n = max(MAX_REFERENCE_CELLS, _CELLS_SEARCHED * self.n_metacells)
                searched = spread(len(of_codebook), n)
            others = np.delete(of_codebook, searched)
            parts = np.split(others, range(_CELLS_AT_ONCE, len(others), _CELLS_AT_ONCE))
            z = half_latents(module, everything.only(of_codebook[searched]))
            more = (half_latents(module, everything.only(part)) for part in parts)
        else:
            z = latents(module, inputs)
        options: Any = {"init": self._codebook_init, "evenness": self._evenness, "seed": seed}
        fit_codes(module, z, others=more, n_all=len(of_codebook), **options)
        if self._bounds is not None:
            bound_sizes_of(self, self._bounds)
        if is_first:
            start_decoders(module, inputs)
        return {}

    def _finish(self, prepared: Preparation) -> str:
        if not self._recipe.refine:
            prepared.callbacks[0].finish()
            if self._bounds is not None:
                bound_sizes_of(self, self._bounds)
        if not self._label_weight:
            is_fitted_to_some = self._recipe.n_components and not self._use_rep
            self._fit_prototypes(prepared.cells if is_fitted_to_some else None)
        return f"{self.n_metacells:,} metacells on"
