import warnings
from typing import Any, Final

import numpy as np
from anndata import AnnData
from mudata import MuData
from scvi import settings

from scmetaq._errors import InputValueError, check_int, check_share
from scmetaq.data._cells import Cells
from scmetaq.data._training_set import stratified_sample
from scmetaq.module import SCPoliModule
from scmetaq.nn import Likelihood
from scmetaq.nn._inputs import CONDITIONS, LABELS, flat
from scmetaq.train import FineTuning, QueryTrainingPlan, SCPoliTrainingPlan

from ._base import CountModel
from ._conditions import ConditionsMixin
from ._given import get_latent_representation
from ._labels import LabelsMixin
from ._mapping import MappingMixin
from ._reference_fit import fit_statistics, selected_inputs
from ._seed import seeded
from ._training import Preparation, default_batch_size

_LIKELIHOODS: Final = ("nb", "poisson")
_BATCH_SIZE = 128
_DECODED_SHARE = 0.5
"""Share of each batch that is decoded in training."""
_MAX_STEPS = 600
"""Steps after which default training ends."""
_MAX_TRAINING_CELLS = 50_000
_CELLS_PER_CATEGORY = 50
"""Cells of every condition and label in the training sample, if there are as many and room for
them."""
_MAX_QUERY_STEPS = 60
_QUERY_BATCH_SIZE = 256
_QUERY_PLAN: Final[dict[str, Any]] = {
    "one_cycle": True,
    "lr": 2e-2,
    "weight_decay": 0.0,
    "n_epochs_kl_warmup": None,
}
_EXPECTED = r"(?s).*(Last batch will have a small size|module\(s\) in eval mode)"
_PLAN: Final = {"one_cycle": True, "lr": 2e-2, "max_kl_weight": 1.0}


class SCPoli(MappingMixin, ConditionsMixin, LabelsMixin, CountModel):
    """Integration of batches by condition embeddings, with prototypes :cite:p:`DeDonno23`.

    A conditional variational autoencoder gives each cell a latent without its conditions. Cells of
    a label are drawn to its prototype, their mean, so that the latent keeps labels apart.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata` or MuData with :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of ``adata``; for internal use.
    n_latent
        Dimension of the latent.
    n_top_features
        Most features that are read and reconstructed; by default 3,000 (RNA, ADT) or 30,000 (ATAC).
        One number, or a dict of them by modality: ``"rna"``, ``"adt"``, ``"atac"``.
    likelihood
        ``"nb"`` or ``"poisson"``, or a dict of them by modality; by default negative binomial
        (RNA, ADT) and Poisson (ATAC).
    n_embedding
        Dimension of the embedding of each condition.
    n_hidden, n_layers
        Width and number of the hidden layers of encoders and decoders; by default one, of the
        square root of the number of features that are read.
    dropout
        Share of hidden units that are silenced at each step of training.

    Examples
    --------
    >>> adata = scmetaq.data.demo_batches()
    >>> scmetaq.SCPoli.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    >>> model = scmetaq.SCPoli(adata)
    >>> model.train()
    >>> adata.obsm["X_scpoli"] = model.get_latent_representation()
    """

    _module_cls = SCPoliModule
    _training_plan_cls = SCPoliTrainingPlan
    module: SCPoliModule

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict | None = None,
        *,
        n_latent: int = 10,
        n_top_features: int | dict[str, int] | None = None,
        likelihood: Likelihood | dict[str, Likelihood] | None = None,
        n_embedding: int = 10,
        n_hidden: int | None = None,
        n_layers: int = 1,
        dropout: float = 0.05,
    ):
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())
        sizes = {"n_latent": n_latent, "n_embedding": n_embedding, "n_layers": n_layers}
        for name, size in sizes.items():
            check_int(name, size, most=10_000)
        check_int("n_hidden", n_hidden, most=100_000, optional=True)
        check_share("dropout", dropout, excluded=(1,))
        with seeded(self):
            self.module = self._module_cls(
                self._shapes(n_top_features, likelihood, likelihoods=_LIKELIHOODS),
                conditions={found.key: len(found.categories) for found in self._conditions},
                **sizes,
                n_hidden=n_hidden,
                dropout=dropout,
                decoded_share=_DECODED_SHARE,
            )
        self._add_prototypes(n_latent)

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        eta: float = 10.0,
        pretraining_fraction: float = 0.9,
        train_size: float | None = None,
        batch_size: int | None = None,
        early_stopping: bool = False,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the model: pre-training, then fine-tuning with the prototypes of the labels.

        The model of a query (:meth:`load_query_data`) learns embeddings of its new conditions, and
        nothing else; without new conditions there is nothing to learn. Cells of the query with a
        label that the reference knows are drawn to its prototype there.

        Parameters
        ----------
        max_epochs
            Epochs, passes over the training sample; by default as many as make 600 steps.
        accelerator, devices
            As in scvi-tools: ``"auto"``, ``"cpu"``, ``"gpu"``, ...
        eta
            Weight of the prototype loss in fine-tuning, where there are labels.
        pretraining_fraction
            Share of the training before the fine-tuning; that of a query has none.
        train_size
            Share of the cells of the training sample to train on; by default all of them, or
            0.9 where held-out cells are looked at, as for ``early_stopping``. All are embedded.
        batch_size
            Cells per step; by default 128.
        early_stopping
            Stop when the evidence lower bound of held-out cells no longer improves. A training
            that is stopped before its fine-tuning has none.
        plan_kwargs
            Arguments of :class:`~scmetaq.train.SCPoliTrainingPlan`.
        **kwargs
            Further arguments of :meth:`scvi.model.base.UnsupervisedTrainingMixin.train`, among
            them those of the Lightning trainer.
        """
        if eta < 0:
            raise InputValueError(f"Expected eta >= 0, found {eta}.", argument="eta")
        check_share("pretraining_fraction", pretraining_fraction)
        self._eta, self._pretraining_fraction = eta, pretraining_fraction
        kwargs |= {"train_size": train_size, "batch_size": batch_size, "plan_kwargs": plan_kwargs}
        with warnings.catch_warnings():
            if self.is_query:  # most of the network is frozen, and batches may be small
                self._training_plan_cls = QueryTrainingPlan
                warnings.filterwarnings("ignore", _EXPECTED, UserWarning)
            super().train(max_epochs, accelerator, devices, early_stopping=early_stopping, **kwargs)

    def _prepare(self) -> Preparation | None:
        if self.is_query:
            return self._prepare_query()
        everything, labels = self._cells(self.adata), self._labels()
        cells = stratified_sample(
            np.hstack([everything.conditions, labels]),
            _MAX_TRAINING_CELLS,
            n_each=_CELLS_PER_CATEGORY,
            seed=settings.seed or 0,
        )
        sample = everything.sample(cells)
        if not self.is_trained_:
            for kind, of_kind in sample.counts.items():
                part, allowed = self.module.parts[kind], self._allowed(kind)
                options: Any = {"allowed": allowed, "sizes": sample.sizes}
                fit_statistics(part, kind, of_kind.measured, **options)
        inputs = self._inputs(sample) | {LABELS: labels[cells].astype(np.float32)}
        callbacks = []
        if self._label_keys and self._eta > 0:
            fraction = self._pretraining_fraction
            callbacks.append(FineTuning(inputs, pretraining_fraction=fraction))
        return Preparation(
            cells,
            inputs,
            batch_size=default_batch_size(_BATCH_SIZE, len(cells)),
            n_steps=_MAX_STEPS,
            most_epochs=200,
            plan={**_PLAN, "eta": self._eta},
            callbacks=callbacks,
        )

    def _labels(self) -> np.ndarray:
        """Labels (of a query: known ones) of cells, -1 for none, ``(n_cells, n_levels)``."""
        levels = []
        for key, prototypes in self._prototypes.items():
            found = self._labels_of(self.adata, key)
            levels.append(found.among(prototypes.labels) if self.is_query else found.codes)
        return np.stack(levels, 1) if levels else np.empty((self.adata.n_obs, 0), np.int64)

    def _inputs(self, cells: Cells) -> dict[str, Any]:
        """What training reads of cells."""
        conditions = cells.conditions.astype(np.float32)
        return flat(selected_inputs(self.module, cells)) | {CONDITIONS: conditions}

    def _prepare_query(self) -> Preparation | None:
        """What embeddings of new conditions are learnt from; None without any."""
        cells = self._cells_of_new_conditions()
        if not len(cells):
            return None
        inputs, plan = self._inputs(self._cells(self.adata).sample(cells)), _QUERY_PLAN
        labels = self._labels()[cells]
        if self._eta > 0 and (labels >= 0).any():
            inputs[LABELS] = labels.astype(np.float32)
            found = [of.means.to(self.module.device) for of in self._prototypes.values()]
            plan = {**plan, "eta": self._eta, "prototypes": found}
        return Preparation(
            cells,
            inputs,
            batch_size=default_batch_size(_QUERY_BATCH_SIZE, len(cells)),
            n_steps=_MAX_QUERY_STEPS,
            most_epochs=10_000,
            plan=plan,
        )

    def _finish(self, prepared: Preparation) -> str:
        if self.is_query:
            if not self.history_:  # scvi-tools continues the history of an earlier training
                self.history_ = getattr(self.trainer.logger, "history", {})  # none without a logger
            return "embeddings of new conditions on"
        self._fit_prototypes()
        return "an embedding of"

    get_latent_representation = get_latent_representation
