from anndata import AnnData
from mudata import MuData

from scmetaq import _keys

from ._aggregation import AggregationMixin
from ._assignment import AssignmentMixin


class MetacellMixin(AggregationMixin, AssignmentMixin):
    """From assignments to an AnnData or a MuData of metacells."""

    def get_metacells(
        self, adata: AnnData | MuData | None = None, *, n_metacells: int | None = None
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
        assignment = self.get_assignments(adata, n_metacells=n_metacells)[_keys.METACELL]
        return self._aggregated(adata, assignment, sorted(assignment.unique()))
