import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq._progress import with_progress
from scmetaq.data._blocks import csr_tensor
from scmetaq.data._conditions import check_categories
from scmetaq.data._mudata_validation import check_mudata, with_modality_features
from scmetaq.data._unchanged import check_unchanged
from scmetaq.data._validation import check_anndata, with_features
from scmetaq.nn import Inputs

from ._cells import Cells
from ._parts import ModelParts

_BLOCK = 1_024
"""Cells per pass of the encoder. Fixed, and the last block padded, so that a cell's result
does not depend on how many cells come with it."""

_MANY_BLOCKS = 40
"""Blocks that take more than about two seconds."""


@contextmanager
def few_cells_allowed() -> Iterator[None]:
    """Keep scvi-tools from warning of categories with few cells where no network is trained."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Category .* has fewer than 3 cells", UserWarning)
        yield


class Block(NamedTuple):
    """A block of cells as the module takes them."""

    inputs: Inputs
    """What it reads of them."""
    counts: dict[str, torch.Tensor]
    """Their raw counts by kind."""
    conditions: torch.Tensor


class ReadingMixin(ModelParts):
    """Passing cells through a trained model, block by block. Nothing here changes the model."""

    def _registered(self, adata: AnnData | MuData | None) -> Any:
        """Manager of the cells to read; registers new ones as the model's were."""
        self._check_if_trained(warn=False)
        if adata is None and self.adata is None:
            raise ValueError("The model was loaded without cells: pass some as adata.")
        if adata is not None and not self._is_registered(adata):
            adata = self._checked_query(adata)
        else:
            self._check_unchanged(self.adata if adata is None else adata)
        with few_cells_allowed():
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
            check_categories(adata, self._conditions)
            return adata
        modality_of = {kind: str(source.modality) for kind, source in sources.items()}
        by_name = {modality_of[kind]: of_kind for kind, of_kind in names.items()}
        layers = {kind: source.layer for kind, source in sources.items()}
        by_modality = {modality_of[kind]: layer for kind, layer in layers.items()}
        mdata = with_modality_features(adata, by_name, by_modality)
        check_mudata(mdata, modality_of, layers, is_query=True)
        check_categories(mdata, self._conditions)
        return mdata

    def _check_unchanged(self, adata: AnnData | MuData) -> None:
        """Refuse cells that were changed in place after they had been checked."""
        for kind, source in self._sources.items():
            part, where = adata, "adata"
            if not isinstance(adata, AnnData):
                part, where = adata.mod[str(source.modality)], f"mdata[{source.modality!r}]"
            check_unchanged(part, self._feature_names(kind), layer=source.layer, where=where)

    def _is_registered(self, adata: AnnData | MuData) -> bool:
        """Whether this very object was checked and registered before."""
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        return any(manager.adata is adata for manager in managers)

    @torch.inference_mode()
    def _in_blocks(
        self, function: Callable[[Block], dict[str, torch.Tensor]], cells: Cells
    ) -> dict[str, np.ndarray]:
        """Apply a function block by block, and join what it returns."""
        was_training = self.module.training
        self.module.eval()
        parts: dict[str, list[np.ndarray]] = {}
        starts = range(0, cells.n_cells, _BLOCK)
        for start in with_progress(starts, "Encoding cells", at_least=_MANY_BLOCKS):
            chosen = slice(start, min(start + _BLOCK, cells.n_cells))
            for name, values in function(self._read(cells, chosen)).items():
                kept = values[: chosen.stop - start].cpu().numpy()
                parts.setdefault(name, []).append(kept)
        self.module.train(was_training)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _read(self, cells: Cells, chosen: slice) -> Block:
        """At most a block of cells, padded to a block."""
        counts, present, device = {}, {}, self.module.device
        for kind, of_kind in cells.counts.items():
            rows = csr_tensor(of_kind.of(chosen), _BLOCK)
            # MPS knows no sparse matrices
            counts[kind] = (rows.to_dense() if device.type == "mps" else rows).to(device)
            is_present = of_kind.is_present[chosen].astype(np.float32)[:, None]
            present[kind] = _padded(is_present).to(device)
        conditions = _padded(cells.conditions[chosen]).to(device)
        return Block(self.module.read(counts, present, conditions), counts, conditions)


def _padded(rows: np.ndarray) -> torch.Tensor:
    """Rows of a block, and rows of zeros up to its size."""
    return torch.from_numpy(np.pad(rows, ((0, _BLOCK - len(rows)), (0, 0))))
