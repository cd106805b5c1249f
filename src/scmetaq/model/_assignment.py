import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.data._modality_counts import ModalityCounts
from scmetaq.nn import Inputs

from ._aggregation import metacell_names
from ._parts import MetaQParts
from ._reading import ReadingMixin


class AssignmentMixin(ReadingMixin, MetaQParts):
    """Reading a trained model: latents, assignments, codes. Nothing here changes the model."""

    def get_assignments(self, adata: AnnData | MuData | None = None) -> pd.DataFrame:
        """Metacell of each cell, also of cells that the model has never seen.

        Parameters
        ----------
        adata
            Cells to assign, with the features of the model; by default those of the model.

        Returns
        -------
        Indexed by barcode: ``metacell``, its name, and ``margin``, the similarity to the code
        minus that to the second best one. A low margin marks a cell between metacells.
        """
        manager = self._registered(adata)
        found = self._encode(self._counts(manager), lookup=True)
        names = self.metacell_names
        return pd.DataFrame(
            {
                _keys.METACELL: pd.Categorical.from_codes(found["assignment"], names).astype(str),
                _keys.MARGIN: found["margin"],
            },
            index=manager.adata.obs_names,
        )

    def get_latent_representation(self, adata: AnnData | MuData | None = None) -> np.ndarray:
        """Latents of cells, ``(n_cells, n_latent)``: the space in which codes are compared."""
        return self._latents(self._counts(self._registered(adata)))

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

    def _latents(self, counts: dict[str, ModalityCounts]) -> np.ndarray:
        return self._encode(counts)["z"]

    def _encode(
        self, counts: dict[str, ModalityCounts], *, lookup: bool = False
    ) -> dict[str, np.ndarray]:
        """Pass raw counts through the encoder, and on to the codebook if ``lookup``."""

        def encode(inputs: Inputs, _: object) -> dict[str, torch.Tensor]:
            z = self.module.inference(inputs)["z"]
            return self.module.codebook(z)._asdict() if lookup else {"z": z}

        return self._in_blocks(encode, counts)
