from collections.abc import Sequence

from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.tl._split_metacells import metacell_of_piece, split_metacells, with_metacell

from ._aggregation import AggregationMixin
from ._assignment import AssignmentMixin
from ._within import checked_covariates


class MetacellMixin(AggregationMixin, AssignmentMixin):
    """From assignments to an AnnData or a MuData of metacells."""

    def get_metacells(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_metacells: int | None = None,
        within: str | Sequence[str] | None = None,
        min_cells: int = 5,
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
            Covariates that metacells must not mix, and how large pieces are, as in
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
        manager = self._registered(adata)
        adata = manager.adata
        covariates = checked_covariates(adata, within, min_cells)
        whole, _ = self._assigned(manager, n_metacells, covariates, min_cells)
        if covariates is None:
            return self._aggregated(adata, whole.astype(object), sorted(whole.unique()))
        pieces = split_metacells(whole, covariates)
        names, columns = list(pieces.cat.categories), list(covariates.columns)
        metacells = self._aggregated(adata, pieces, names, within=columns, min_cells=min_cells)
        with_metacell(metacells, metacell_of_piece(whole, pieces), _keys.METACELL)
        metacells.uns[_keys.UNS]["n_cells_left_out"] = int(pieces.isna().sum())
        return metacells
