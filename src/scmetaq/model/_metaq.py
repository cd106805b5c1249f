import time
from pathlib import Path
from typing import Any, get_args
from zipfile import is_zipfile

import numpy as np
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import LayerField
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from scmetaq.data._modality import ModalityName, get_modality
from scmetaq.data._reference import N_SCORES
from scmetaq.data._validation import (
    check_anndata,
    check_choice,
    check_columns,
    check_n_metacells,
    check_positive,
)
from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit, Distance, Likelihood
from scmetaq.train import MetaQTrainingPlan, StopRule, TrainingSetSplitter, say_trained

from ._metacells import MetacellMixin
from ._quantization import QuantizationMixin
from ._recipe import RecipeName, get_recipe
from ._reference_fit import ReferenceFitMixin


class MetaQModel(
    MetacellMixin,
    QuantizationMixin,
    ReferenceFitMixin,
    UnsupervisedTrainingMixin,
    BaseModelClass,
):
    """Metacells by quantization :cite:p:`Li25`.

    An encoder brings each cell to a latent, a codebook of ``n_metacells`` codes quantizes the
    latents, and each code must reconstruct the counts of its cells: it is a metacell.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`.
    n_metacells
        Number of metacells, at least 2 and below the number of cells. One per 50 cells is a
        good start.
    registry
        Registry of a saved model, in place of ``adata``; for internal use.
    recipe
        ``"default"``, or ``"published"`` for the method as the paper's authors run it.
    n_latent
        Dimension of the learnt cell state.
    n_top_features
        Most features that the encoder reads; by default 3,000 (RNA, ADT) or 30,000 (ATAC).
    likelihood
        Count distribution; by default negative binomial (RNA, ADT) or Poisson (ATAC).
    distance
        Similarity of cells and codes.
    codebook_init
        How codes are initialised; by default the recipe's.
    usage_momentum
        Momentum of the moving average of code usage (Eq. 11).

    Examples
    --------
    >>> adata = scmetaq.data.demo()
    >>> scmetaq.MetaQModel.setup_anndata(adata)
    >>> model = scmetaq.MetaQModel(adata, n_metacells=40)
    >>> model.train()
    >>> metacells = model.get_metacells()
    """

    _module_cls = MetaQModule
    _data_splitter_cls = TrainingSetSplitter
    _training_plan_cls = MetaQTrainingPlan

    def __init__(
        self,
        adata: AnnData | None = None,
        n_metacells: int | None = None,
        registry: dict | None = None,
        *,
        recipe: RecipeName = "default",
        n_latent: int = 32,
        n_top_features: int | None = None,
        likelihood: Likelihood | None = None,
        distance: Distance = "cosine",
        codebook_init: CodebookInit | None = None,
        usage_momentum: float = 0.9,
    ):
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())
        self.n_metacells = self._checked_n_metacells(n_metacells)
        check_choice("distance", distance, get_args(Distance))
        check_choice("codebook_init", codebook_init, (None, *get_args(CodebookInit)))
        check_choice("likelihood", likelihood, (None, *get_args(Likelihood)))
        check_positive("n_latent", n_latent)
        check_positive("n_top_features", n_top_features)
        self._recipe = get_recipe(recipe)
        self._modality = get_modality(self.registry["setup_args"]["modality"])
        self._codebook_init = codebook_init or self._recipe.codebook_init
        n_top = n_top_features or self._modality.n_top_features
        self.module = self._module_cls(
            min(n_top, self.summary_stats.n_vars),
            self.n_metacells,
            n_latent=n_latent,
            n_components=self._recipe.n_components,
            n_scores=N_SCORES,
            likelihood=likelihood or self._modality.likelihood,
            decoder_hidden=self._modality.decoder_hidden,
            norm=self._recipe.norm,
            distance=distance,
            momentum=usage_momentum,
            lift=self._recipe.lift,
            decoded_share=self._recipe.decoded_share,
        )
        self._model_summary_string = (
            f"MetaQModel: {n_metacells} metacells of {self._modality.name} counts, "
            f"recipe {recipe!r}, {distance} distance."
        )

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        modality: ModalityName = "rna",
        layer: str | None = None,
        batch_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        labels_key: str | list[str] | None = None,
        unlabeled_category: str = "Unknown",
        **kwargs: Any,
    ) -> None:
        """Register the raw counts of an AnnData with the model class.

        Parameters
        ----------
        adata
            Cells in rows. The counts are neither copied nor changed.
        modality
            ``"rna"``, ``"adt"`` or ``"atac"``.
        layer
            Layer with the raw counts; ``X`` by default.
        batch_key
            Not available yet: metacells by batch-aware quantization come with conditions.
        categorical_covariate_keys
            Not available yet, like ``batch_key``.
        labels_key
            Column, or columns, of ``obs`` with labels. Metacells report their majority.
        unlabeled_category
            Value of ``labels_key`` that means "no label".
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`.

        Raises
        ------
        TypeError, KeyError, ValueError
            The data are not raw counts of named cells, or a name is unknown; the message says
            what was expected, what was found and how to mend it.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        is_transfer = kwargs.get("source_registry") is not None
        get_modality(modality)
        if batch_key is not None or categorical_covariate_keys:
            raise ValueError(
                "Conditions (batch_key, categorical_covariate_keys) are not supported in this "
                "version: leave them out and metacells are inferred without regard to batches."
            )
        check_anndata(adata, layer=layer, is_query=is_transfer)
        if not is_transfer:
            labels = [labels_key] if isinstance(labels_key, str) else labels_key or []
            check_columns(adata, labels, missing_value=unlabeled_category)
        fields = [LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False)]
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def load(cls, dir_path: str | Path, adata: Any = None, **kwargs: Any) -> "MetaQModel":
        """Load a saved model, with or without cells.

        Parameters
        ----------
        dir_path
            Folder that :meth:`save` wrote.
        adata
            Cells for the model; None takes those saved with it, if any.
        **kwargs
            Further arguments of :meth:`scvi.model.base.BaseModelClass.load`.

        Raises
        ------
        ValueError
            There is no readable model in the folder, or it is of another class.
        """
        file = Path(dir_path) / f"{kwargs.get('prefix') or ''}model.pt"
        if file.exists() and not is_zipfile(file):
            raise ValueError(
                f"{file} cannot be read: it is cut short or no saved model. Save the model again, "
                "or copy the whole folder."
            )
        return super().load(str(dir_path), adata, **kwargs)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        batch_size: int | None = None,
        early_stopping: bool = False,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the model: encoder first, then the codebook and its decoder.

        Parameters
        ----------
        max_epochs
            Epochs, passes over the reference sample (published recipe: all cells); by default
            as many as the recipe needs.
        accelerator
            ``"auto"``, ``"cpu"``, ``"gpu"``, ... as in scvi-tools.
        devices
            Devices to use, as in scvi-tools.
        train_size
            Share of the cells of the reference sample to train on; by default all of them, or
            0.9 with ``early_stopping``. All cells get a metacell either way.
        batch_size
            Cells per step; by default the recipe's.
        early_stopping
            Stop when the reconstruction of held-out cells no longer improves.
        plan_kwargs
            Arguments of :class:`~scmetaq.train.MetaQTrainingPlan`.
        **kwargs
            Further arguments of :meth:`scvi.model.base.UnsupervisedTrainingMixin.train`, among
            them those of the Lightning trainer.
        """
        check_positive("max_epochs", max_epochs)
        check_positive("batch_size", batch_size)
        if early_stopping and train_size is not None and train_size >= 1:
            raise ValueError(
                f"Expected cells held out for early_stopping, found train_size={train_size}. Leave "
                "train_size out, or pass a share below one."
            )
        started = time.perf_counter()
        cells, training_set, codebook_fit = self._prepare_training()
        n_cells, recipe = len(cells), self._recipe
        batch_size = batch_size or min(recipe.batch_size, max(32, n_cells // 8))
        plan = {"adjust_codes": recipe.adjust_codes, "lr": recipe.lr, "one_cycle": recipe.one_cycle}
        plan |= plan_kwargs or {}
        if early_stopping:
            kwargs.setdefault("early_stopping_monitor", "reconstruction_loss_validation")
        splitter = {"training_set": training_set, **(kwargs.pop("datasplitter_kwargs", None) or {})}
        if splitter.get("external_indexing") is not None:
            splitter["external_indexing"] = [
                np.flatnonzero(np.isin(cells, chosen)) for chosen in splitter["external_indexing"]
            ]
        if recipe.norm == "batch" and n_cells > batch_size:
            # as published: batch normalisation cannot take a last batch of one cell
            splitter.setdefault("drop_last", True)
        stop_rule = StopRule()
        super().train(
            max_epochs=max_epochs or self._default_epochs(n_cells, batch_size),
            accelerator=accelerator,
            devices=devices,
            train_size=train_size or (0.9 if early_stopping else 1.0),
            batch_size=batch_size,
            early_stopping=early_stopping,
            plan_kwargs=plan,
            datasplitter_kwargs=splitter,
            callbacks=[*kwargs.pop("callbacks", []), codebook_fit, stop_rule],
            **kwargs,
        )
        codebook_fit.finish()
        for name in ("train_indices", "validation_indices", "test_indices"):
            chosen = getattr(self, name)
            setattr(self, name, None if chosen is None else cells[np.asarray(chosen, dtype=int)])
        n_features = len(self.module.feature_scaling.features)
        say_trained(
            self.trainer,
            stop_rule,
            what=f"{self.n_metacells:,} metacells on {n_cells:,} cells x {n_features:,} features",
            seconds=time.perf_counter() - started,
        )

    def _default_epochs(self, n_cells: int, batch_size: int) -> int:
        if self._recipe.max_steps is None:
            return 300
        steps_per_epoch = int(np.ceil(n_cells / batch_size))
        return int(np.clip(round(self._recipe.max_steps / steps_per_epoch), 1, 100))

    def _checked_n_metacells(self, n_metacells: int | None) -> int:
        """A model loaded for other cells may have more metacells than there are cells."""
        is_loading = self.adata is None or self.adata_manager._source_registry is not None
        n_cells = np.iinfo(np.int64).max if is_loading else self.summary_stats.n_cells
        if n_metacells is None:
            raise TypeError(
                "n_metacells is missing: how many metacells should there be? One per 50 cells "
                f"is a good start: n_metacells={max(2, round(self.summary_stats.n_cells / 50))}."
            )
        check_n_metacells(n_metacells, n_cells)
        return int(n_metacells)
