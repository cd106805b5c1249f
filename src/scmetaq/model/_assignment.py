from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._progress import with_progress
from scmetaq.data._blocks import csr_tensor
from scmetaq.data._conditions import check_categories
from scmetaq.data._mudata_validation import check_mudata, with_modality_features
from scmetaq.data._validation import check_anndata, check_cut, with_features
from scmetaq.nn import Inputs, cut_tree, merge_codes
from scmetaq.tl._split_metacells import split_metacells

from ._cells import Cells
from ._parts import ModelParts
from ._within import checked_covariates

_BLOCK = 1_024
"""Cells per pass of the encoder. Fixed, and the last block padded, so that a cell's result
does not depend on how many cells come with it."""

_MANY_BLOCKS = 40
"""Blocks that take more than about two seconds."""


class Block(NamedTuple):
    """A block of cells as the module takes them."""

    inputs: Inputs
    """What it reads of them."""
    counts: dict[str, torch.Tensor]
    """Their raw counts by kind."""
    conditions: torch.Tensor


class AssignmentMixin(ModelParts):
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
        minus that to the second best one. A low margin marks a cell between metacells. With
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
        names = pd.Categorical.from_codes(found["assignment"], _names(n))
        assignment = pd.Series(names, manager.adata.obs_names)
        if covariates is not None:
            assignment = split_metacells(assignment, covariates, min_cells=min_cells)
        return pd.DataFrame(
            {_keys.METACELL: assignment.astype(str), _keys.MARGIN: found["margin"]},
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
        return _names(self.n_metacells)

    def _checked_cut(self, n_metacells: int) -> int:
        """A number of metacells that codes can be merged to."""
        check_cut(n_metacells, self.n_metacells)
        return int(n_metacells)

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
            check_categories(adata, self._conditions)
            return adata
        modality_of = {kind: str(source.modality) for kind, source in sources.items()}
        by_name = {modality_of[kind]: of_kind for kind, of_kind in names.items()}
        mdata = with_modality_features(adata, by_name)
        layers = {kind: source.layer for kind, source in sources.items()}
        check_mudata(mdata, modality_of, layers, is_query=True)
        check_categories(mdata, self._conditions)
        return mdata

    def _is_registered(self, adata: AnnData | MuData) -> bool:
        """Whether this very object was checked and registered before."""
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        return any(manager.adata is adata for manager in managers)

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


def _names(n: int) -> list[str]:
    """Names of so many metacells."""
    width = max(4, len(str(n - 1)))
    return [f"mc{i:0{width}d}" for i in range(n)]


def _padded(rows: np.ndarray) -> torch.Tensor:
    """Rows of a block, and rows of zeros up to its size."""
    return torch.from_numpy(np.pad(rows, ((0, _BLOCK - len(rows)), (0, 0))))
