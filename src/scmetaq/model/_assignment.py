import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.data._validation import check_cut
from scmetaq.nn import cut_tree, merge_codes

from ._aggregation import metacell_names
from ._cells import Cells
from ._parts import MetaQParts
from ._reading import Block, ReadingMixin


class AssignmentMixin(ReadingMixin, MetaQParts):
    """Reading a trained model: latents, assignments, codes. Nothing here changes the model."""

    def get_assignments(
        self, adata: AnnData | MuData | None = None, *, n_metacells: int | None = None
    ) -> pd.DataFrame:
        """Metacell of each cell, also of cells that the model has never seen.

        Parameters
        ----------
        adata
            Cells to assign, with the features of the model; by default those of the model.
        n_metacells
            A smaller number of metacells, without another training: those that are most alike are
            merged. Cuts are nested, a metacell of more lies within one of fewer. By default all.

        Returns
        -------
        Indexed by barcode: ``metacell``, its name, and ``margin``, the similarity to the code
        minus that to the second best one. A low margin marks a cell between metacells.
        """
        manager = self._registered(adata)
        n = self.n_metacells if n_metacells is None else self._checked_cut(n_metacells)
        found = self._encode(self._cells(manager), n_groups=n)
        names = metacell_names(n)
        return pd.DataFrame(
            {
                _keys.METACELL: pd.Categorical.from_codes(found["assignment"], names).astype(str),
                _keys.MARGIN: found["margin"],
            },
            index=manager.adata.obs_names,
        )

    def get_latent_representation(self, adata: AnnData | MuData | None = None) -> np.ndarray:
        """Latents of cells, ``(n_cells, n_latent)``: the space in which codes are compared."""
        return self._latents(self._cells(self._registered(adata)))

    def get_codebook(self) -> pd.DataFrame:
        """Codes, indexed by metacell name, and the share of training cells that use each.

        Returns
        -------
        One column per latent dimension and ``usage``, which sums to one.
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
