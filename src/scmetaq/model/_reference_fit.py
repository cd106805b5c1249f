from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager

from scmetaq.data._blocks import by_rows, canonical
from scmetaq.data._reference import (
    MAX_REFERENCE_CELLS,
    LinearMap,
    fit_reference,
    fit_state,
    select_features,
    size_factor,
)
from scmetaq.data._training_set import training_set
from scmetaq.nn import LinearPath, neighborhood_mean
from scmetaq.train import CodebookFit

from ._assignment import AssignmentMixin

_CELLS_PER_CODE = 32
"""Cells per code in the sample that codes are fitted to, where it would otherwise be smaller."""
_BLOCK = 4_096


class Preparation(NamedTuple):
    """What training needs beside the module."""

    cells: np.ndarray
    """Indices of the cells to train on."""
    training_set: AnnDataManager
    """What training reads of them."""
    codebook_fit: CodebookFit


class ReferenceFitMixin(AssignmentMixin):
    """What training needs of a reference sample of the cells: statistics and a codebook."""

    def _prepare_training(self) -> Preparation:
        """Fit the statistics unless they are there; gather what to train on and how."""
        seed = settings.seed or 0
        n_cells = self.adata.n_obs
        sample = self._codebook_cells(seed)
        counts = self._counts_of(sample)
        reference = _spread(len(sample), MAX_REFERENCE_CELLS)
        of_reference = counts if len(reference) == len(sample) else counts[reference]
        is_new = not self.module.codebook.is_fitted
        if is_new:
            self._fit_statistics(of_reference, seed)
        features = self.module.feature_scaling.features.cpu().numpy()
        path = self.module.linear_path
        if path is None:  # as published: all cells
            cells = np.arange(n_cells)
            selected, inputs = self._selected_of_all(features)
        else:
            cells, selected = sample[reference], of_reference[:, features]
            inputs = self._linear_inputs(path, of_reference, fit=is_new)
        codebook_fit = CodebookFit(
            self.module,
            lambda: torch.from_numpy(self._latents(counts)).to(self.module.device),
            warmup_fraction=self._warmup_fraction,
            init=self._codebook_init,
            refine=self._recipe.refine,
            seed=seed,
        )
        return Preparation(cells, training_set(selected, inputs), codebook_fit)

    @property
    def _warmup_fraction(self) -> float:
        """The published recipe trains an autoencoder first where codes come from latents."""
        if self._recipe.warmup_fraction == 0 and self._codebook_init != "random":
            return 0.2
        return self._recipe.warmup_fraction

    def _codebook_cells(self, seed: int) -> np.ndarray:
        """Sorted indices of all cells, or of a random sample that does not grow with the data.

        The codes are fitted to these cells; the reference sample is all or some of them.
        """
        n_cells = self.adata.n_obs
        size = min(n_cells, max(MAX_REFERENCE_CELLS, _CELLS_PER_CODE * self.n_metacells))
        return np.sort(np.random.default_rng(seed).permutation(n_cells)[:size])

    def _counts_of(self, cells: np.ndarray) -> sp.csr_matrix:
        """Raw counts of cells by their sorted indices."""
        counts = self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        rows = counts[cells] if len(cells) < counts.shape[0] else counts[:]
        return canonical(rows)

    def _selected_of_all(self, features: np.ndarray) -> tuple[sp.csr_matrix, dict[str, np.ndarray]]:
        """Selected features and size factors of all cells; the others are never held at once."""
        counts = by_rows(self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY))
        selected, factors = [], []
        for start in range(0, counts.shape[0], _BLOCK):
            block = canonical(counts[start : start + _BLOCK])
            selected.append(block[:, features])
            factors.append(size_factor(block))
        inputs = {"size_factor": np.concatenate(factors)}
        return sp.vstack(selected, format="csr"), inputs

    def _fit_statistics(self, counts: sp.csr_matrix, seed: int) -> None:
        scaling, path = self.module.feature_scaling, self.module.linear_path
        features = select_features(
            counts, len(scaling.features), by_variance=self._modality.name != "atac"
        )
        n_components = path.profile.axes.shape[1] if path else 1
        reference = fit_reference(counts, features, n_components=n_components, seed=seed)
        scaling.set_scaling(*map(torch.as_tensor, (features, reference.mean, reference.scale)))
        self.module.decoder.start_at(torch.as_tensor(reference.mean_rate))
        if path is not None:
            read = (reference.log.features, reference.sqrt.features)
            path.set_features(*map(torch.as_tensor, read))
            for name in ("profile", "log", "sqrt"):
                fitted = getattr(reference, name)
                getattr(path, name).set_map(*map(torch.as_tensor, (fitted.axes, fitted.offset)))

    @torch.no_grad()
    def _linear_inputs(
        self, path: LinearPath, counts: sp.csr_matrix, *, fit: bool
    ) -> dict[str, np.ndarray]:
        """Inputs of the network and the denoised states that it learns to tell from them."""
        inputs = self._in_blocks(self.module.read, counts)
        scores = torch.from_numpy(inputs["scores"])
        smooth = neighborhood_mean(scores, scores)
        if fit:
            maps = fit_state(scores.numpy(), smooth.numpy(), path.to_state.out_features)
            for layer, fitted in zip((path.smooth_to_state, path.to_state), maps, strict=True):
                _set_linear(layer, fitted)
        state = path.smooth_to_state(smooth.to(self.module.device))
        return {**inputs, "denoised_state": state.cpu().numpy()}


def _spread(n: int, at_most: int) -> np.ndarray:
    """Positions among ``n``, evenly spread, at most so many."""
    return np.linspace(0, n - 1, min(n, at_most)).astype(np.int64)


@torch.no_grad()
def _set_linear(layer: torch.nn.Linear, fitted: LinearMap) -> None:
    layer.weight.copy_(torch.as_tensor(fitted.axes.T))
    layer.bias.copy_(torch.as_tensor(-fitted.offset))
