import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from scvi import settings

from scmetaq.data._validation import check_positive
from scmetaq.nn import N_QUANTILES, distances_without, exchange, initial_codes, squared_distances

from ._assignment import AssignmentMixin
from ._reference_mapping import ReferenceMappingMixin


class NewMetacellsMixin(ReferenceMappingMixin, AssignmentMixin):
    """Metacells for states of a query that its reference has none for."""

    def add_metacells(self, *, quantile: float = 0.99, min_cells: int = 10) -> list[str]:
        """Add metacells for cells of the query that are far from those of the reference.

        Cells farther from their code than the given quantile of the reference's own cells are
        grouped anew, as densely as the reference is. A group becomes a metacell if it has
        ``min_cells`` and most of its cells are then as near to it as cells of the reference are to
        theirs: single odd cells do not make one. Codes of the reference stay as they are, to the
        last bit; names of the new metacells follow theirs. Call it after :meth:`train`, and once.

        Parameters
        ----------
        quantile
            Share of the reference's cells that are nearer to their code than a cell must be far.
        min_cells
            Fewest cells of a new metacell.

        Returns
        -------
        Names of the new metacells; none where the reference has metacells for all cells.

        Raises
        ------
        ValueError
            The model is not that of a query, or has no cells.
        """
        check_positive("min_cells", min_cells)
        if not 0 < quantile < 1:
            raise ValueError(f"Expected quantile between 0 and 1, found {quantile}.")
        if not self.is_query or self.adata is None:
            raise ValueError(
                "Expected the model of a query, with its cells: make one with load_query_data."
            )
        z = torch.from_numpy(self._latents(self._cells(self.adata_manager)))
        codes, sizes = self._codes_of_far_cells(z.to(self.module.device), quantile, min_cells)
        if len(codes):
            self.module.codebook.add_codes(codes, sizes)
            self.n_metacells += len(codes)
            self.init_params_["non_kwargs"]["n_metacells"] = self.n_metacells
        rank_zero_info(f"Added {len(codes)} metacells to {self.n_metacells - len(codes)}.")
        return self.metacell_names[self.n_metacells - len(codes) :]

    @property
    def new_metacells(self) -> list[str]:
        """Names of the metacells that :meth:`add_metacells` has added to those of the reference."""
        if self.reference_ is None:
            return []
        return self.metacell_names[self.reference_["n_metacells"] :]

    @torch.no_grad()
    def _codes_of_far_cells(
        self, z: torch.Tensor, quantile: float, min_cells: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes for cells that are far from all there are, and how many cells each has."""
        codebook, seed = self.module.codebook, settings.seed or 0
        limit = codebook.reach[round(quantile * (N_QUANTILES - 1))]
        held = codebook.embed(codebook(z).assignment)
        far = z[(z - held).square().sum(1) > limit]
        if len(far) < max(2, min_cells):
            return codebook.codes[:0], codebook.usage[:0]
        density = float(codebook.n_cells) / codebook.n_codes
        n = int(np.clip(round(len(far) / density), 1, len(far) // 2))
        if n == 1:
            codes = far.mean(0, keepdim=True)
        else:
            start = torch.as_tensor(initial_codes(far.cpu().numpy(), n, seed=seed)).to(far)
            generator = torch.Generator(far.device).manual_seed(seed)
            codes = exchange(far, start, generator=generator)
        assignment = squared_distances(far, codes).argmin(1)
        distances = distances_without(far, codes, assignment)
        sizes = torch.bincount(assignment, minlength=n)
        typical = torch.stack([distances[assignment == k].median() for k in range(n)])
        kept = (sizes >= min_cells) & (typical <= limit)
        return codes[kept], sizes[kept]
