import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS, settings

from scmetaq.data._reference import (
    MAX_REFERENCE_CELLS,
    LinearMap,
    fit_reference,
    fit_state,
    select_features,
)
from scmetaq.nn import LinearPath, StateTeacher, neighborhood_mean
from scmetaq.train import CodebookFit

from ._assignment import AssignmentMixin

_CELLS_PER_CODE = 32
"""Reference cells per code, where the reference sample would otherwise be smaller."""


class ReferenceFitMixin(AssignmentMixin):
    """What training needs of a reference sample of the cells: statistics and a codebook."""

    def _prepare_training(self, max_epochs: int) -> CodebookFit:
        """Fit the statistics unless they are there, and say how to fit the codebook."""
        seed = settings.seed or 0
        counts = self._reference_counts(seed)
        some = counts[:: -(-counts.shape[0] // MAX_REFERENCE_CELLS)]
        if not self.module.codebook.fitted:
            self._fit_statistics(some, seed)
        self._set_teacher(some)
        return CodebookFit(
            self.module,
            lambda: torch.from_numpy(self._latents(counts)).to(self.module.device),
            n_warmup_epochs=int(max_epochs * self._warmup_fraction),
            init=self._codebook_init,
            refine=self._recipe.refine,
            seed=seed,
        )

    @property
    def _warmup_fraction(self) -> float:
        """The published recipe trains an autoencoder first where codes come from latents."""
        if self._recipe.warmup_fraction == 0 and self._codebook_init != "random":
            return 0.2
        return self._recipe.warmup_fraction

    def _reference_counts(self, seed: int) -> sp.csr_matrix:
        """Raw counts of all cells, or of a random sample that does not grow with the data."""
        counts = self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        n_cells = counts.shape[0]
        size = min(n_cells, max(MAX_REFERENCE_CELLS, _CELLS_PER_CODE * self.n_metacells))
        chosen = np.random.default_rng(seed).permutation(n_cells)[:size]
        rows = counts[np.sort(chosen)] if size < n_cells else counts[:]
        return sp.csr_matrix(rows, dtype=np.float32).sorted_indices()

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
            path.profile.set_map(*map(torch.as_tensor, reference.profile))
            path.log.set_map(*map(torch.as_tensor, reference.log))
            path.sqrt.set_map(*map(torch.as_tensor, reference.sqrt))
            self._fit_state(path, self._encode(counts)["scores"])

    def _fit_state(self, path: LinearPath, scores: np.ndarray) -> None:
        rows = torch.from_numpy(scores)
        smooth = neighborhood_mean(rows, rows).numpy()
        n_latent = self.module.encoder.head.out_features
        smooth_to_state, to_state = fit_state(scores, smooth, n_latent)
        _set_linear(path.smooth_to_state, smooth_to_state)
        _set_linear(path.to_state, to_state)

    def _set_teacher(self, counts: sp.csr_matrix) -> None:
        path = self.module.linear_path
        if path is not None:
            scores = torch.from_numpy(self._encode(counts)["scores"])
            self.module.teacher = StateTeacher(scores.to(self.module.device), path.smooth_to_state)


@torch.no_grad()
def _set_linear(layer: torch.nn.Linear, fitted: LinearMap) -> None:
    layer.weight.copy_(torch.as_tensor(fitted.axes.T))
    layer.bias.copy_(torch.as_tensor(-fitted.offset))
