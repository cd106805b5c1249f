from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager

from scmetaq import _keys
from scmetaq.data._checks import check_cut
from scmetaq.nn import cut_tree, merge_codes
from scmetaq.tl._split_metacells import combinations, split_metacells

from ._aggregation import metacell_names
from ._cells import Cells
from ._parts import MetaQParts
from ._reading import Block, ReadingMixin
from ._within import checked_covariates, in_small_pieces, join_small_pieces


class AssignmentMixin(ReadingMixin, MetaQParts):
    """Reading a trained model: latents, assignments, codes. Nothing here changes the model."""

    def get_assignments(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_metacells: int | None = None,
        within: str | Sequence[str] | None = None,
        min_cells: int = 5,
    ) -> pd.DataFrame:
        """Metacell of each cell, also of cells that the model has never seen.

        Parameters
        ----------
        adata
            Cells to assign, with the features of the model; by default those of the model.
        n_metacells
            A smaller number of metacells, without another training: those that are most alike are
            merged. Cuts are nested, a metacell of more lies within one of fewer. By default all.
        within
            Covariates that metacells must not mix: a column of ``obs`` or a list of them, also
            such as the model was not told of. Each of the ``n_metacells`` metacells is split by
            their combinations, and a piece has the name ``"<metacell>:<category>:..."``.
        min_cells
            Pieces of fewer cells are dissolved, the smallest first: each of their cells goes to
            the most similar piece with the same covariates. Smaller ones remain only where a
            combination of covariates has no more cells. With 1 every piece stays as it is.

        Returns
        -------
        Indexed by barcode: ``metacell``, its name, and ``margin``, the similarity to the code
        minus that to the second best one. A low margin marks a cell between metacells, as many
        are in a large state; see :meth:`get_outlier_scores` for cells that fit nowhere. With
        ``within``, cells without a value are in no metacell, and their name is missing.

        Raises
        ------
        KeyError, TypeError, ValueError
            ``within`` does not name columns with categories, or ``min_cells`` is below 1.
        """
        manager = self._registered(adata)
        covariates = checked_covariates(manager.adata, within, min_cells)
        assignment, margin = self._assigned(manager, n_metacells, covariates, min_cells)
        if covariates is not None:
            assignment = split_metacells(assignment, covariates)
        return pd.DataFrame(
            {
                _keys.METACELL: assignment.astype(object).infer_objects(),
                _keys.MARGIN: margin,
            },
            index=manager.adata.obs_names,
        )

    def get_latent_representation(self, adata: AnnData | MuData | None = None) -> np.ndarray:
        """Latents of cells: the space in which cells and codes are compared.

        Returns
        -------
        ``(n_cells, d)``, as wide as the codes of :meth:`get_codebook`. With ``recipe="published"``
        these are the ``n_latent`` dimensions of the learnt state. The default recipe has, of
        each modality, that state and beside it up to 200 principal components of the profile.
        """
        return self._latents(self._cells(self._registered(adata)))

    def get_codebook(self) -> pd.DataFrame:
        """Codes, indexed by metacell name, and the share of training cells that use each.

        Returns
        -------
        One column per dimension of :meth:`get_latent_representation` and ``usage``, which sums
        to one. The cells of metacells that a query added count as training cells.
        """
        self._check_if_trained(warn=False)
        codebook = self.module.codebook
        codes = codebook.codes.detach().cpu().numpy()
        frame = pd.DataFrame(codes, index=pd.Index(self.metacell_names, name=_keys.METACELL))
        frame.columns = [f"z{i}" for i in range(codes.shape[1])]
        usage = codebook.usage.double().cpu().numpy()
        return frame.assign(usage=usage / usage.sum())

    @property
    def metacell_names(self) -> list[str]:
        """Names of the metacells in the order of the codebook."""
        return metacell_names(self.n_metacells)

    def _assigned(
        self,
        manager: AnnDataManager,
        n_metacells: int | None,
        covariates: pd.DataFrame | None,
        min_cells: int,
    ) -> tuple[pd.Series, np.ndarray]:
        """Metacell of each cell, to be split by covariates, and its margin."""
        n = self.n_metacells if n_metacells is None else self._checked_cut(n_metacells)
        cells, group = self._cells(manager), self._groups(n)
        found = self._encode(cells, group)
        code = found["assignment"]
        if covariates is not None and min_cells > 1:
            code = self._joined(cells, code, combinations(covariates), group, min_cells)
        names = pd.Categorical.from_codes(code, metacell_names(n))
        return pd.Series(names, manager.adata.obs_names), found["margin"]

    def _joined(
        self,
        cells: Cells,
        code: np.ndarray,
        combination: np.ndarray,
        group: torch.Tensor,
        min_cells: int,
    ) -> np.ndarray:
        """Groups of codes of cells, without pieces that are too small."""
        small = in_small_pieces(code, combination, min_cells)
        if len(small) == 0:
            return code
        z = torch.from_numpy(self._latents(cells.sample(small))).to(self.module.device)

        @torch.no_grad()
        def preference(chosen: np.ndarray) -> np.ndarray:
            rows = z[np.searchsorted(small, chosen)]
            found: np.ndarray = self.module.codebook.group_preference(rows, group).cpu().numpy()
            return found

        return join_small_pieces(code, combination, min_cells, preference)

    def _checked_cut(self, n_metacells: int) -> int:
        """A number of metacells that codes can be merged to."""
        check_cut(n_metacells, self.n_metacells)
        return int(n_metacells)

    def _groups(self, n_groups: int) -> torch.Tensor:
        """Group of each code in a cut to so many groups, ``(n_codes,)``."""
        codebook = self.module.codebook
        if n_groups == codebook.n_codes:
            return torch.arange(n_groups, device=self.module.device)
        merges = merge_codes(codebook.codes.cpu(), codebook.usage.cpu())
        return cut_tree(merges, n_groups).to(self.module.device)

    def _latents(self, cells: Cells) -> np.ndarray:
        return self._encode(cells)["z"]

    def _encode(self, cells: Cells, group: torch.Tensor | None = None) -> dict[str, np.ndarray]:
        """Pass raw counts through the encoder, and on to groups of codes if they are given."""
        codebook = self.module.codebook
        is_whole = group is not None and len(group.unique()) == codebook.n_codes

        def encode(block: Block) -> dict[str, torch.Tensor]:
            z = self.module.inference(block.inputs, block.conditions)["z"]
            if group is None:
                return {"z": z}
            found = codebook(z) if is_whole else codebook.lookup_groups(z, group)
            return found._asdict()

        return self._in_blocks(encode, cells)
