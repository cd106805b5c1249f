from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.data._validation import check_cut
from scmetaq.nn import cut_tree, merge_codes
from scmetaq.tl._split_metacells import split_metacells

from ._aggregation import metacell_names
from ._cells import Cells
from ._parts import MetaQParts
from ._reading import Block, ReadingMixin
from ._within import checked_covariates


class AssignmentMixin(ReadingMixin, MetaQParts):
    """Reading a trained model: latents, assignments, codes. Nothing here changes the model."""

    def get_assignments(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_metacells: int | None = None,
        within: str | Sequence[str] | None = None,
        min_cells: int = 1,
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
            Pieces of fewer cells are no metacells. By default every piece is one.

        Returns
        -------
        Indexed by barcode: ``metacell``, its name, and ``margin``, the similarity to the code
        minus that to the second best one. A low margin marks a cell between metacells, as many
        are in a large state; see :meth:`get_outlier_scores` for cells that fit nowhere. With
        ``within``, cells of too small pieces and those without a value are in no metacell, and
        their name is missing.

        Raises
        ------
        KeyError, TypeError, ValueError
            ``within`` does not name columns with categories, or no piece has ``min_cells``.
        """
        manager = self._registered(adata)
        covariates = checked_covariates(manager.adata, within, min_cells)
        n = self.n_metacells if n_metacells is None else self._checked_cut(n_metacells)
        found = self._encode(self._cells(manager), n_groups=n)
        names = pd.Categorical.from_codes(found["assignment"], metacell_names(n))
        assignment = pd.Series(names, manager.adata.obs_names)
        if covariates is not None:
            assignment = split_metacells(assignment, covariates, min_cells=min_cells)
        return pd.DataFrame(
            {
                _keys.METACELL: assignment.astype(object).infer_objects(),
                _keys.MARGIN: found["margin"],
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
        to one.
        """
        self._check_if_trained(warn=False)
        codebook = self.module.codebook
        codes = codebook.codes.detach().cpu().numpy()
        frame = pd.DataFrame(codes, index=pd.Index(self.metacell_names, name=_keys.METACELL))
        frame.columns = [f"z{i}" for i in range(codes.shape[1])]
        return frame.assign(usage=codebook.usage.cpu().numpy())

    @property
    def metacell_names(self) -> list[str]:
        """Names of the metacells in the order of the codebook."""
        return metacell_names(self.n_metacells)

    def _checked_cut(self, n_metacells: int) -> int:
        """A number of metacells that codes can be merged to."""
        check_cut(n_metacells, self.n_metacells)
        return int(n_metacells)

    def _latents(self, cells: Cells) -> np.ndarray:
        return self._encode(cells)["z"]

    def _encode(self, cells: Cells, *, n_groups: int | None = None) -> dict[str, np.ndarray]:
        """Pass raw counts through the encoder, and on to so many groups of codes if asked to."""
        codebook = self.module.codebook
        group = None
        if n_groups is not None and n_groups < codebook.n_codes:
            merges = merge_codes(codebook.codes.cpu(), codebook.usage.cpu())
            group = cut_tree(merges, n_groups).to(self.module.device)

        def encode(block: Block) -> dict[str, torch.Tensor]:
            z = self.module.inference(block.inputs, block.conditions)["z"]
            if n_groups is None:
                return {"z": z}
            found = codebook(z) if group is None else codebook.lookup_groups(z, group)
            return found._asdict()

        return self._in_blocks(encode, cells)
