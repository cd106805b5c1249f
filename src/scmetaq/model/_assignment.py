from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scmetaq import _keys
from scmetaq._progress import with_progress
from scmetaq.data._blocks import by_rows, csr_tensor
from scmetaq.data._validation import check_anndata, with_features

from ._parts import ModelParts

_BLOCK = 1_024
"""Cells per pass of the encoder. Fixed, and the last block padded, so that a cell's result
does not depend on how many cells come with it."""

_MANY_BLOCKS = 40
"""Blocks that take more than about two seconds."""


class AssignmentMixin(ModelParts):
    """Reading a trained model: latents, assignments, codes. Nothing here changes the model."""

    def get_assignments(self, adata: AnnData | None = None) -> pd.DataFrame:
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
        found = self._encode(manager.get_from_registry(REGISTRY_KEYS.X_KEY), lookup=True)
        names = self.metacell_names
        return pd.DataFrame(
            {
                _keys.METACELL: pd.Categorical.from_codes(found["assignment"], names).astype(str),
                _keys.MARGIN: found["margin"],
            },
            index=manager.adata.obs_names,
        )

    def get_latent_representation(self, adata: AnnData | None = None) -> np.ndarray:
        """Latents of cells, ``(n_cells, n_latent)``: the space in which codes are compared."""
        manager = self._registered(adata)
        return self._latents(manager.get_from_registry(REGISTRY_KEYS.X_KEY))

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
        width = max(4, len(str(self.n_metacells - 1)))
        return [f"mc{i:0{width}d}" for i in range(self.n_metacells)]

    def _registered(self, adata: AnnData | None) -> Any:
        """Manager of the cells to read; registers new ones as the model's were."""
        self._check_if_trained(warn=False)
        if adata is None and self.adata is None:
            raise ValueError("The model was loaded without cells: pass some as adata.")
        if adata is not None and not self._is_registered(adata):
            adata = with_features(adata, self._feature_names())
            check_anndata(adata, layer=self.registry["setup_args"]["layer"], is_query=True)
        adata = self._validate_anndata(adata)
        return self.get_anndata_manager(adata, required=True)

    def _is_registered(self, adata: AnnData) -> bool:
        """Whether this very object was checked and registered before."""
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        return any(manager.adata is adata for manager in managers)

    def _feature_names(self) -> pd.Index:
        state = self.registry["field_registries"][REGISTRY_KEYS.X_KEY]["state_registry"]
        return pd.Index(state["column_names"])

    def _latents(self, counts: sp.csr_matrix) -> np.ndarray:
        return self._encode(counts)["z"]

    def _encode(self, counts: Any, *, lookup: bool = False) -> dict[str, np.ndarray]:
        """Pass raw counts through the encoder, and on to the codebook if ``lookup``."""

        def encode(block: torch.Tensor) -> dict[str, torch.Tensor]:
            out = self.module.inference(**self.module.read(block))
            return self.module.codebook(out["z"])._asdict() if lookup else out

        return self._in_blocks(encode, counts)

    @torch.inference_mode()
    def _in_blocks(
        self, function: Callable[[torch.Tensor], dict[str, torch.Tensor]], counts: Any
    ) -> dict[str, np.ndarray]:
        """Apply a function of raw counts block by block, and join what it returns."""
        was_training = self.module.training
        self.module.eval()
        counts = by_rows(counts)
        parts: dict[str, list[np.ndarray]] = {}
        starts = range(0, counts.shape[0], _BLOCK)
        for start in with_progress(starts, "Encoding cells", at_least=_MANY_BLOCKS):
            rows = counts[start : start + _BLOCK]
            block = csr_tensor(rows, _BLOCK)
            if self.module.device.type == "mps":  # knows no sparse matrices
                block = block.to_dense()
            for name, values in function(block).items():
                parts.setdefault(name, []).append(values[: rows.shape[0]].cpu().numpy())
        self.module.train(was_training)
        return {name: np.concatenate(values) for name, values in parts.items()}
