from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scvi import settings

from scmetaq._errors import InputValueError, check_int, check_share
from scmetaq.module import MetaQModule
from scmetaq.nn import distances_without, fit_query_offsets, initial_codes, squared_distances
from scmetaq.nn._codebook import N_QUANTILES
from scmetaq.nn._inputs import PRESENT, SIZES
from scmetaq.train import say

from ._base import Mixin
from ._blocks import Block


class QueryMixin(Mixin):
    """What a MetaQ model of a query fits: effects of new conditions, and new metacells."""

    module: MetaQModule
    n_metacells: int
    metacell_names: list[str]
    _cells_of_new_conditions: Callable[[], np.ndarray]

    @torch.no_grad()
    def _fit_new_conditions(self) -> None:
        """Estimate the effects of new conditions; their embeddings stay the mean of known ones."""
        module, chosen = self.module, self._cells_of_new_conditions()
        if not len(chosen):
            return
        if module.correction is not None:
            cells = self._cells(self.adata).sample(chosen)

            def uncorrected(module: Any, block: Block) -> dict[str, torch.Tensor]:
                present = {kind: of_kind[PRESENT] for kind, of_kind in block.inputs.items()}
                sizes = next(iter(block.inputs.values())).get(SIZES)
                read = module.imputation(module.read_parts(block.counts, present, sizes))
                return {"values": module.linear_values(read)}

            values = torch.from_numpy(self._in_blocks(uncorrected, cells)["values"])
            n_known = self.reference_["n_categories"]
            new = [range(n_known[of.key], len(of.categories)) for of in self._conditions]
            fit_query_offsets(
                module.correction,
                values.to(module.device),
                torch.from_numpy(cells.conditions).to(module.device),
                new=module.correction.columns(new),
            )
        say(f"Fitted the new conditions to {len(chosen):,} cells; all else is as in the reference.")

    def add_metacells(self, *, quantile: float = 0.9, min_cells: int = 10) -> list[str]:
        """Add metacells for cells of the query that are far from those of the reference.

        Cells whose learnt state is farther from all codes than the given quantile of the
        reference's own cells are clustered. A cluster becomes a metacell if it has ``min_cells``
        and half of them are as near to each other as that quantile: outliers that have nothing in
        common do not make one. Codes of the reference stay as they are, to the last bit; names of
        the new metacells follow theirs. Call it after :meth:`train`, and once.

        A state that differs from the reference's in features which do not vary there cannot be
        seen in its latent, and is missed.

        Parameters
        ----------
        quantile
            Share of the reference's cells that must be nearer to their code.
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
        check_int("min_cells", min_cells)
        check_share("quantile", quantile, excluded=(0, 1))
        if not self.is_query or self.adata is None:
            problem = "Expected the model of a query, with its cells:"
            raise InputValueError(problem, "make one with load_query_data.")
        z = torch.from_numpy(self._latents(self._cells(self.adata)))
        codes, sizes = self._codes_of_far_cells(z.to(self.module.device), quantile, min_cells)
        if len(codes):
            self.module.codebook.add_codes(codes, sizes)
            self.n_metacells += len(codes)
            self.init_params_["non_kwargs"]["n_metacells"] = self.n_metacells
        say(f"Added {len(codes)} metacells to {self.n_metacells - len(codes)}.")
        return self.metacell_names[self.n_metacells - len(codes) :]

    @property
    def new_metacells(self) -> list[str]:
        """Names of the metacells that :meth:`add_metacells` has added to those of the reference."""
        return self.metacell_names[self.reference_["n_metacells"] :] if self.is_query else []

    @torch.no_grad()
    def _codes_of_far_cells(
        self, z: torch.Tensor, quantile: float, min_cells: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes for cells that are far from all codes, and the number of cells of each."""
        codebook, states = self.module.codebook, self.module.state_dimensions
        limit = codebook.distance_quantiles[round(quantile * (N_QUANTILES - 1))]
        nearest = squared_distances(z[:, states], codebook.codes[:, states]).amin(1)
        z = z[nearest > limit]
        n = len(z) // (2 * min_cells)
        if n == 0:
            return codebook.codes[:0], codebook.usage[:0]
        far = z[:, states]
        start = far.mean(0, keepdim=True)
        if n > 1:
            start = initial_codes(far, n, seed=settings.seed or 0)
        assignment = squared_distances(far, start).argmin(1)
        sizes = torch.bincount(assignment, minlength=n)
        means = torch.zeros(n, z.shape[1]).to(z).index_add_(0, assignment, z)
        means /= sizes.clamp_min(1)[:, None]
        distances = distances_without(far, means[:, states], assignment)
        kept = [
            k
            for k in range(n)
            if sizes[k] >= min_cells and distances[assignment == k].median() <= limit
        ]
        return means[kept], sizes[kept]
