from collections.abc import Sequence
from importlib.metadata import version

import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.tl._aggregate import aggregate_cells, aggregate_modalities
from scmetaq.tl._split_metacells import metacell_of_piece, split_metacells, with_metacell

from ._assignment import AssignmentMixin
from ._within import checked_covariates


class MetacellMixin(AssignmentMixin):
    """From assignments to an AnnData or a MuData of metacells."""

    def get_metacells(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_metacells: int | None = None,
        within: str | Sequence[str] | None = None,
        min_cells: int = 1,
    ) -> AnnData | MuData:
        r"""Metacells: mean and summed raw counts of the cells that share a code.

        .. math:: \hat x_k = \frac{1}{|M_k|} \sum_{i \in M_k} x_i

        Parameters
        ----------
        adata
            Cells to aggregate; by default those of the model, where each of the ``n_metacells``
            codes has at least one cell. Among other cells a code may go without, and then has
            no row.
        n_metacells
            A smaller number of metacells, as in :meth:`get_assignments`.
        within, min_cells
            Covariates that metacells must not mix, and the smallest size, as in
            :meth:`get_assignments`. ``obs["metacell"]`` then tells which of the ``n_metacells``
            metacells a piece is a part of: pieces of one hold cells in the same state under
            other covariates. Cells without a metacell are left out.

        Returns
        -------
        One observation per metacell, indexed by its name; of several modalities a MuData with the
        same metacells in each, made of the cells that have it.

        - ``X``: mean raw counts (paper Eq. 17) of **all** features, CSR;
        - ``layers["counts"]``: summed raw counts, CSR;
        - ``obs``: ``n_cells``; per categorical column the majority value and
          ``<column>_fraction``; means of numeric columns;
        - ``var`` and ``varm`` of the cells;
        - ``uns["metaq"]``: how the metacells were made.
        """
        adata = self._registered(adata).adata
        covariates = checked_covariates(adata, within, min_cells)
        whole = self.get_assignments(adata, n_metacells=n_metacells)[_keys.METACELL]
        if covariates is None:
            return self._aggregated(adata, whole, sorted(whole.unique()))
        pieces = split_metacells(whole, covariates, min_cells=min_cells)
        metacells = self._aggregated(adata, pieces, list(pieces.cat.categories))
        with_metacell(metacells, metacell_of_piece(whole, pieces), _keys.METACELL)
        metacells.uns[_keys.UNS] |= {
            "within": list(covariates.columns),
            "min_cells": min_cells,
            "n_cells_left_out": int(pieces.isna().sum()),
        }
        return metacells

    def _aggregated(
        self, adata: AnnData | MuData, assignment: pd.Series, names: list[str]
    ) -> AnnData | MuData:
        """Metacells of cells by their assignment."""
        sources = self._sources
        if self._reads_mudata:
            layers = {s.modality: s.layer for s in sources.values() if s.modality}
            metacells = aggregate_modalities(adata, assignment, layers=layers, categories=names)
        else:
            ((_, source),) = sources.items()
            metacells = aggregate_cells(adata, assignment, layer=source.layer, categories=names)
        metacells.uns[_keys.UNS] = self._provenance(assignment)
        return metacells

    def _provenance(self, assignment: pd.Series) -> dict[str, object]:
        settings = {k: v for k, v in self.init_params_["non_kwargs"].items() if v is not None}
        layers = {kind: source.layer or "X" for kind, source in self._sources.items()}
        return {
            "function": "scmetaq.MetaQModel.get_metacells",
            "settings": settings,
            "modality": " + ".join(layers),
            "layer": layers if self._reads_mudata else next(iter(layers.values())),
            "n_cells": int(assignment.notna().sum()),
            "n_metacells": int(assignment.nunique()),
            "scmetaq_version": version("scmetaq"),
        }
