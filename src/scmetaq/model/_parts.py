from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from scmetaq.data._conditions import Condition
from scmetaq.data._modality import LAYER_ARGUMENTS, Modality
from scmetaq.data._modality_counts import modality_counts
from scmetaq.data._validation import check_positive
from scmetaq.module import CoemModule, MetaQModule, SCPoliModule
from scmetaq.nn import CodebookInit

from ._cells import Cells
from ._recipe import Recipe

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object


class Source(NamedTuple):
    """Where the counts of one kind are found."""

    modality: str | None
    """Name of the modality of a MuData; None in an AnnData, which is one."""
    registry_key: str
    layer: str | None


class ModelParts(_Base):
    """What the capabilities of any model, each a mixin, may count on."""

    module: MetaQModule | CoemModule | SCPoliModule
    _modalities: dict[str, Modality]
    reference_: dict[str, Any] | None = None
    """Of a query's model: ``n_categories`` of each condition key that its reference knows, and the
    features ``missing`` from the query by kind. None otherwise."""

    @property
    def _missing_features(self) -> dict[str, pd.Index]:
        """Features of the model that its cells were not measured in, by kind."""
        missing = (self.reference_ or {}).get("missing", {})
        return {kind: pd.Index(missing.get(kind, []), dtype=object) for kind in self._sources}

    @property
    def _reads_mudata(self) -> bool:
        return "modalities" in self.registry["setup_args"]

    @property
    def _sources(self) -> dict[str, Source]:
        """Where each kind of counts is found, by kind."""
        args = self.registry["setup_args"]
        if not self._reads_mudata:
            return {args["modality"]: Source(None, REGISTRY_KEYS.X_KEY, args["layer"])}
        named = args["modalities"]
        return {
            kind: Source(named[argument], kind, args[argument])
            for argument, kind in LAYER_ARGUMENTS.items()
            if argument in named
        }

    def _cells(self, manager: Any) -> Cells:
        """What the model reads of the cells of a manager."""
        counts = {
            kind: modality_counts(
                manager.adata, source.modality, manager.get_from_registry(source.registry_key)
            )
            for kind, source in self._sources.items()
        }
        columns = [
            np.asarray(manager.get_from_registry(key)).reshape(manager.adata.n_obs, -1)
            for key in (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.CAT_COVS_KEY)
            if key in self.registry["field_registries"]
        ]
        return Cells(counts, np.hstack([np.empty((manager.adata.n_obs, 0)), *columns]).astype(int))

    @property
    def _conditions(self) -> list[Condition]:
        """Conditions of the cells, in the order in which cells are read."""
        fields, args = self.registry["field_registries"], self.registry["setup_args"]
        where = args.get("modalities") or {}
        found = []
        if REGISTRY_KEYS.BATCH_KEY in fields:
            state = fields[REGISTRY_KEYS.BATCH_KEY]["state_registry"]
            categories = list(state["categorical_mapping"])
            found.append(Condition(args["batch_key"], categories, where.get("batch_key")))
        if REGISTRY_KEYS.CAT_COVS_KEY in fields:
            mappings = fields[REGISTRY_KEYS.CAT_COVS_KEY]["state_registry"]["mappings"]
            modality = where.get("categorical_covariate_keys")
            found += [Condition(key, list(names), modality) for key, names in mappings.items()]
        return found

    @property
    def _init_arguments(self) -> dict[str, Any]:
        """Arguments that the model was made with, but for cells and registry."""
        params = self.init_params_
        others = [v for of_kwargs in params["kwargs"].values() for v in of_kwargs.items()]
        return {**params["non_kwargs"], **dict(others)}

    def _n_selected(self, kind: str, n_top: int | None) -> int:
        """How many features of one kind are read: the most variable ones, or all."""
        check_positive("n_top_features", n_top)
        n_most = n_top or self._modalities[kind].n_top_features
        return min(n_most, len(self._feature_names(kind)))

    def _feature_names(self, kind: str) -> pd.Index:
        """Names of all features of one kind of counts."""
        field = self.registry["field_registries"][self._sources[kind].registry_key]
        return pd.Index(field["state_registry"]["column_names"])


class MetaQParts(ModelParts):
    """What the capabilities of MetaQ may count on besides."""

    module: MetaQModule
    n_metacells: int
    _recipe: Recipe
    _codebook_init: CodebookInit
