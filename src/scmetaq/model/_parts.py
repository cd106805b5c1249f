from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from scvi import REGISTRY_KEYS

from scmetaq.data._modality import LAYER_ARGUMENTS, Modality
from scmetaq.data._modality_counts import ModalityCounts, modality_counts
from scmetaq.module import CoemModule, MetaQModule
from scmetaq.nn import CodebookInit

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

    module: MetaQModule | CoemModule
    _modalities: dict[str, Modality]

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

    def _counts(self, manager: Any) -> dict[str, ModalityCounts]:
        """Raw counts of the cells of a manager, by kind."""
        return {
            kind: modality_counts(
                manager.adata, source.modality, manager.get_from_registry(source.registry_key)
            )
            for kind, source in self._sources.items()
        }

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
