from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq._progress import with_progress
from scmetaq.data._blocks import csr_tensor
from scmetaq.data._modality_counts import ModalityCounts
from scmetaq.data._mudata_validation import check_mudata, with_modality_features
from scmetaq.data._validation import check_anndata, with_features
from scmetaq.nn import Inputs

from ._parts import ModelParts

_BLOCK = 1_024
"""Cells per pass of the encoder. Fixed, and the last block padded, so that a cell's result
does not depend on how many cells come with it."""

_MANY_BLOCKS = 40
"""Blocks that take more than about two seconds."""


class ReadingMixin(ModelParts):
    """Passing cells through a trained model, block by block. Nothing here changes the model."""

    def _registered(self, adata: AnnData | MuData | None) -> Any:
        """Manager of the cells to read; registers new ones as the model's were."""
        self._check_if_trained(warn=False)
        if adata is None and self.adata is None:
            raise ValueError("The model was loaded without cells: pass some as adata.")
        if adata is not None and not self._is_registered(adata):
            adata = self._checked_query(adata)
        adata = self._validate_anndata(adata)
        return self.get_anndata_manager(adata, required=True)

    def _checked_query(self, adata: AnnData | MuData) -> AnnData | MuData:
        """New cells with the features of the model, refused if they are not raw counts."""
        sources = self._sources
        names = {kind: self._feature_names(kind) for kind in sources}
        if not self._reads_mudata:
            ((kind, source),) = sources.items()
            adata = with_features(adata, names[kind])
            check_anndata(adata, layer=source.layer, is_query=True)
            return adata
        modality_of = {kind: str(source.modality) for kind, source in sources.items()}
        by_name = {modality_of[kind]: of_kind for kind, of_kind in names.items()}
        mdata = with_modality_features(adata, by_name)
        layers = {kind: source.layer for kind, source in sources.items()}
        check_mudata(mdata, modality_of, layers, is_query=True)
        return mdata

    def _is_registered(self, adata: AnnData | MuData) -> bool:
        """Whether this very object was checked and registered before."""
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        return any(manager.adata is adata for manager in managers)

    @torch.inference_mode()
    def _in_blocks(
        self,
        function: Callable[[Inputs, dict[str, torch.Tensor]], dict[str, torch.Tensor]],
        counts: dict[str, ModalityCounts],
    ) -> dict[str, np.ndarray]:
        """Apply a function block by block, and join what it returns.

        Parameters
        ----------
        function
            Of what the module reads of a block of cells, and of their raw counts.
        counts
            Raw counts of the cells.
        """
        was_training = self.module.training
        self.module.eval()
        parts: dict[str, list[np.ndarray]] = {}
        n_cells = next(iter(counts.values())).n_cells
        starts = range(0, n_cells, _BLOCK)
        for start in with_progress(starts, "Encoding cells", at_least=_MANY_BLOCKS):
            cells = slice(start, min(start + _BLOCK, n_cells))
            for name, values in function(*self._read(counts, cells)).items():
                kept = values[: cells.stop - start].cpu().numpy()
                parts.setdefault(name, []).append(kept)
        self.module.train(was_training)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _read(
        self, counts: dict[str, ModalityCounts], cells: slice
    ) -> tuple[Inputs, dict[str, torch.Tensor]]:
        """What the module reads of at most a block of cells, padded to a block; their counts."""
        blocks, present = {}, {}
        for kind, of_kind in counts.items():
            block = csr_tensor(of_kind.of(cells), _BLOCK)
            # MPS knows no sparse matrices
            blocks[kind] = block.to_dense() if self.module.device.type == "mps" else block
            is_present = torch.zeros(_BLOCK, 1)
            is_present[: cells.stop - cells.start, 0] = torch.from_numpy(
                of_kind.is_present[cells].astype(np.float32)
            )
            present[kind] = is_present
        return self.module.read(blocks, present), blocks
