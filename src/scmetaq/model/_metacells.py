from importlib.metadata import version

import pandas as pd
from anndata import AnnData

from scmetaq import _keys
from scmetaq.tl._aggregate import aggregate_cells

from ._assignment import AssignmentMixin


class MetacellMixin(AssignmentMixin):
    """From assignments to an AnnData of metacells."""

    def get_metacells(self, adata: AnnData | None = None) -> AnnData:
        r"""Metacells: mean and summed raw counts of the cells that share a code.

        .. math:: \hat x_k = \frac{1}{|M_k|} \sum_{i \in M_k} x_i

        Parameters
        ----------
        adata
            Cells to aggregate; by default those of the model, where each of the ``n_metacells``
            codes has at least one cell. Among other cells a code may go without, and then has
            no row.

        Returns
        -------
        One observation per metacell, indexed by its name.

        - ``X``: mean raw counts (paper Eq. 17) of **all** features, CSR;
        - ``layers["counts"]``: summed raw counts, CSR;
        - ``obs``: ``n_cells``; per categorical column the majority value and
          ``<column>_fraction``; means of numeric columns;
        - ``var`` and ``varm`` of the cells;
        - ``uns["metaq"]``: how the metacells were made.
        """
        adata = self._registered(adata).adata
        assignment = self.get_assignments(adata)[_keys.METACELL]
        layer = self.registry["setup_args"]["layer"]
        metacells = aggregate_cells(adata, assignment, layer=layer, categories=self.metacell_names)
        metacells.uns[_keys.UNS] = self._provenance(assignment, layer)
        return metacells

    def _provenance(self, assignment: pd.Series, layer: str | None) -> dict[str, object]:
        settings = {k: v for k, v in self.init_params_["non_kwargs"].items() if v is not None}
        return {
            "function": "scmetaq.MetaQModel.get_metacells",
            "settings": settings,
            "modality": self._modality.name,
            "layer": layer or "X",
            "n_cells": len(assignment),
            "n_metacells": int(assignment.nunique()),
            "scmetaq_version": version("scmetaq"),
        }
