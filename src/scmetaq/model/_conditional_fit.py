import numpy as np
import scipy.sparse as sp
import torch
from scvi import settings

from scmetaq.data._reference import fit_scaling, select_features, size_factor
from scmetaq.data._training_set import stratified_sample
from scmetaq.module import SCPoliModule
from scmetaq.nn import CONDITIONS, COUNTS, LABELS, PRESENT, Scaling, flat

from ._cells import Cells
from ._labels import LabelsMixin
from ._query_training import QueryTrainingMixin
from ._reference_mapping import ReferenceMappingMixin

_MAX_TRAINING_CELLS = 50_000
_CELLS_PER_CATEGORY = 50
"""Cells of every condition and label that are in the training sample, where there are so many."""


class ConditionalFitMixin(QueryTrainingMixin, ReferenceMappingMixin, LabelsMixin):
    """What training of :class:`SCPoli` needs of a sample of the cells."""

    module: SCPoliModule

    def _training_sample(self) -> tuple[np.ndarray, np.ndarray, Cells]:
        """Indices of the cells to train on, their labels, and what is read of them."""
        everything, labels = self._cells(self.adata_manager), self._labels()
        cells = stratified_sample(
            np.hstack([everything.conditions, labels]),
            _MAX_TRAINING_CELLS,
            n_each=_CELLS_PER_CATEGORY,
            seed=settings.seed or 0,
        )
        return cells, labels[cells], everything.sample(cells)

    def _labels(self) -> np.ndarray:
        """Labels of the model's cells at each level, -1 for none, ``(n_cells, n_levels)``."""
        manager = self.adata_manager
        levels = [self._labels_of(manager, key).codes for key in self._label_keys]
        return np.stack(levels, 1) if levels else np.empty((manager.adata.n_obs, 0), np.int64)

    def _prepare_training(self, sample: Cells, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Fit the statistics unless they are there; what training reads."""
        if not self.is_trained_:
            for kind, of_kind in sample.counts.items():
                self._fit_features(kind, of_kind.of(np.flatnonzero(of_kind.is_present)))
        return self._inputs(sample) | {LABELS: labels.astype(np.float32)}

    def _inputs(self, cells: Cells) -> dict[str, np.ndarray]:
        inputs = {}
        for kind, of_kind in cells.counts.items():
            everything = of_kind.of(slice(None))
            part = self.module.parts[kind]
            share = 1.0 if part.missing is None else float(part.coverage.share)
            inputs[kind] = {
                COUNTS: everything[:, self._selected(kind)],
                "size_factor": size_factor(everything) / share,
                PRESENT: of_kind.is_present.astype(np.float32)[:, None],
            }
        return flat(inputs) | {CONDITIONS: cells.conditions.astype(np.float32)}

    def _fit_features(self, kind: str, counts: sp.csr_matrix) -> None:
        """Choose features of a modality, and fit their scaling and the average profile."""
        part = self.module.parts[kind]
        n_selected = len(part.feature_scaling.features)
        features = select_features(counts, n_selected, by_variance=kind != "atac")
        scaling = fit_scaling(counts, features)
        known = (features, scaling.mean, scaling.scale)
        part.feature_scaling.set_state(Scaling(*map(torch.as_tensor, known)))
        part.coverage.set_rate(torch.as_tensor(scaling.rate))
        part.decoder.start_at(torch.as_tensor(scaling.rate[features]))
