from importlib.metadata import version
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.tl._aggregate import aggregate_cells, aggregate_modalities

from ._reading import ReadingMixin


def metacell_names(n_metacells: int) -> list[str]:
    """Names of metacells by number: mc0000, mc0001, ..."""
    width = max(4, len(str(n_metacells - 1)))
    return [f"mc{i:0{width}d}" for i in range(n_metacells)]


def _without(metacells: AnnData, missing: pd.Index) -> AnnData:
    if not len(missing):
        return metacells
    measured = metacells[:, ~metacells.var_names.isin(missing)].copy()
    measured.var = pd.DataFrame(measured.var).infer_objects()
    return measured


class AggregationMixin(ReadingMixin):
    """From the metacell of each cell to an AnnData or a MuData of metacells."""

    def _aggregated(
        self, adata: AnnData | MuData, assignment: pd.Series, names: list[str], **settings: Any
    ) -> AnnData | MuData:
        """Metacells of cells.

        Parameters
        ----------
        adata
            The cells.
        assignment
            Metacell of each, in their order.
        names
            Names of all metacells in the order wanted.
        **settings
            What decided the assignment beside the settings of the model.
        """
        sources = self._sources
        named = [found.key for found in self._conditions] + getattr(self, "_label_keys", [])
        options: dict[str, Any] = {"categories": names, "categorical": named}
        assignment = assignment.rename(_keys.METACELL)  # a column of this name is not carried along
        metacells: AnnData | MuData
        if isinstance(adata, MuData):
            there = {name for name, part in adata.mod.items() if part.n_obs}
            layers = {str(s.modality): s.layer for s in sources.values() if s.modality in there}
            metacells = aggregate_modalities(adata, assignment, layers=layers, **options)
        else:
            ((_, source),) = sources.items()
            metacells = aggregate_cells(adata, assignment, layer=source.layer, **options)
        metacells = self._of_measured(metacells)
        metacells.uns[_keys.UNS] = self._provenance(assignment, settings)
        return metacells

    def _of_measured(self, metacells: AnnData | MuData) -> AnnData | MuData:
        """Metacells of a query without the features, and modalities, that it lacks."""
        missing = self._missing_features
        if self.reference_ is None:
            return metacells
        if isinstance(metacells, AnnData):
            return _without(metacells, next(iter(missing.values())))
        parts = {
            source.modality: _without(metacells.mod[source.modality], missing[kind])
            for kind, source in self._sources.items()
            if source.modality in metacells.mod
        }
        measured = MuData(parts)
        measured.obs = metacells.obs.loc[measured.obs_names]
        return measured

    def _provenance(self, assignment: pd.Series, more: dict[str, Any]) -> dict[str, object]:
        settings = {**self.init_params_["non_kwargs"], **more}
        layers = {kind: source.layer or "X" for kind, source in self._sources.items()}
        return {
            "function": f"scmetaq.{type(self).__name__}.get_metacells",
            "settings": {k: v for k, v in settings.items() if v is not None},
            "modality": " + ".join(layers),
            "layer": layers if self._reads_mudata else next(iter(layers.values())),
            "n_cells": int(assignment.notna().sum()),
            "n_metacells": int(assignment.nunique()),
            "scmetaq_version": version("scmetaq"),
        }
