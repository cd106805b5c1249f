from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from scvi import settings

from scmetaq.data._reference import (
    MAX_REFERENCE_CELLS,
    LinearMap,
    fit_bridge,
    fit_state,
    size_factor,
)
from scmetaq.data._training_set import spread
from scmetaq.nn import (
    CONDITIONS,
    COUNTS,
    DENOISED_STATE,
    PRESENT,
    fit_mixture,
    flat,
    initial_codes,
    neighborhood_mean,
)
from scmetaq.train import CodebookFit

from ._cells import Cells
from ._statistics import StatisticsMixin

_CELLS_PER_CODE = 32
"""Cells per code in the sample that codes are fitted to, where it would otherwise be smaller."""
_CELLS_FOR_WEIGHTS = 4_000
"""Cells from which it is told how much a modality has to say."""
_BLOCK = 4_096


class Fit(NamedTuple):
    """What training needs beside the module."""

    cells: np.ndarray
    """Indices of the cells to train on."""
    inputs: dict[str, np.ndarray]
    """What training reads of them."""
    codebook_fit: CodebookFit


class ReferenceFitMixin(StatisticsMixin):
    """What training needs of a reference sample of the cells: statistics and a codebook."""

    def _prepare_training(self) -> Fit:
        """Fit the statistics unless they are there; gather what to train on and how."""
        seed = settings.seed or 0
        everything = self._cells(self.adata_manager)
        sample = self._codebook_cells(seed)
        sampled = everything.sample(sample)
        chosen = spread(len(sample), MAX_REFERENCE_CELLS)
        reference = sampled if len(chosen) == len(sample) else sampled.sample(chosen)
        is_new = not self.module.codebook.is_fitted
        reliability = self._fit_all_statistics(reference, seed) if is_new else {}
        if self._recipe.n_components:
            cells, inputs = sample[chosen], self._linear_inputs(reference, reliability, seed)
        else:  # as published: all cells
            cells, inputs = np.arange(self.adata.n_obs), self._selected_inputs(everything)
        codebook_fit = CodebookFit(
            self.module,
            self._codebook_inputs(inputs, sampled, sample),
            warmup_fraction=self._warmup_fraction,
            init=self._codebook_init,
            refine=self._recipe.refine,
            evenness=self._evenness,
            seed=seed,
        )
        return Fit(cells, inputs, codebook_fit)

    def _codebook_inputs(
        self, inputs: dict[str, np.ndarray], sampled: Cells, sample: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Inputs of the cells that codes are fitted to."""
        n_prepared = len(inputs[CONDITIONS])
        if len(sample) > n_prepared:
            return flat(self._read_all(sampled)) | {CONDITIONS: sampled.conditions}
        if len(sample) < n_prepared:
            return {name: rows[sample] for name, rows in inputs.items()}
        return inputs

    def _fit_all_statistics(self, reference: Cells, seed: int) -> dict[str, float]:
        """Fit the statistics of every modality; the reliability of each."""
        return {
            kind: self._fit_statistics(kind, of_kind.of(np.flatnonzero(of_kind.is_present)), seed)
            for kind, of_kind in reference.counts.items()
        }

    @property
    def _balances(self) -> bool:
        """Whether the weights of modalities are told from the data."""
        return self.init_params_["non_kwargs"]["modality_weights"] is None

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

    def _selected_inputs(self, cells: Cells) -> dict[str, np.ndarray]:
        """Counts of the selected features of all cells; the others are never held at once."""
        inputs = {}
        for kind, of_kind in cells.counts.items():
            features = self._selected(kind)
            blocks = [
                of_kind.of(slice(start, min(start + _BLOCK, of_kind.n_cells)))
                for start in range(0, of_kind.n_cells, _BLOCK)
            ]
            inputs[kind] = {
                COUNTS: sp.vstack([block[:, features] for block in blocks], format="csr"),
                "size_factor": np.concatenate([size_factor(block) for block in blocks])
                / self._measured_share(kind),
            }
            if not of_kind.is_present.all():
                inputs[kind][PRESENT] = of_kind.is_present.astype(np.float32)[:, None]
        return flat(inputs) | {CONDITIONS: cells.conditions.astype(np.float32)}

    def _measured_share(self, kind: str) -> float:
        """Share of the counts that fall on the features that cells were measured in."""
        lacks_any = len(self._missing_features[kind]) > 0
        return float(self.module.parts[kind].coverage.share) if lacks_any else 1.0

    def _linear_inputs(
        self, cells: Cells, reliability: dict[str, float], seed: int
    ) -> dict[str, np.ndarray]:
        """Inputs of the network and the denoised states that it learns to tell from them.

        Maps are fitted if the statistics have just been, which is when their reliability is known.
        """
        fit = bool(reliability)
        counts = cells.counts
        inputs = self._read_all(cells)
        if fit and len(counts) > 1:
            self._fit_imputation(inputs)
            if not all(of_kind.is_present.all() for of_kind in counts.values()):
                inputs = self._read_all(cells)  # with what is missing filled in
            if self._balances:
                self._balance(inputs, reliability)
        if fit and self.module.correction is not None:
            self._fit_correction(inputs, cells.conditions, seed)
            inputs = self._read_all(cells)  # without what conditions add
        for kind, smooth in self._smooth_scores(inputs).items():
            scores = inputs[kind]["scores"]
            inputs[kind][DENOISED_STATE] = self._denoised(kind, scores, smooth, fit=fit)
            everything = counts[kind].of(np.arange(counts[kind].n_cells))
            inputs[kind][COUNTS] = everything[:, self._selected(kind)]
            if counts[kind].is_present.all():
                del inputs[kind][PRESENT]
        return flat(inputs) | {CONDITIONS: cells.conditions.astype(np.float32)}

    def _fit_imputation(self, inputs: dict[str, dict[str, np.ndarray]]) -> None:
        """Learn from cells with two modalities to tell one from the other."""
        for source, known in inputs.items():
            for target, wanted in inputs.items():
                both = (known[PRESENT] * wanted[PRESENT])[:, 0] > 0
                if source != target and both.any():
                    values = np.hstack([wanted["scores"], wanted["profile"]])[both]
                    fitted = fit_bridge(known["scores"][both], values)
                    self.module.imputation.maps[f"{source}_to_{target}"].set_state(fitted)

    @torch.no_grad()
    def _fit_correction(
        self, inputs: dict[str, dict[str, np.ndarray]], conditions: np.ndarray, seed: int
    ) -> None:
        """Find out what conditions add to the scores and profiles of cells."""
        correction, device = self.module.correction, self.module.device
        assert correction is not None
        tensors = {
            kind: {name: torch.from_numpy(values).to(device) for name, values in part.items()}
            for kind, part in inputs.items()
        }
        values = self.module.linear_values(tensors)
        unit = torch.nn.functional.normalize(values, dim=1)
        mixture = fit_mixture(
            values,
            torch.from_numpy(conditions).to(device),
            correction.n_categories,
            start=initial_codes(unit, len(correction.centroids), seed=seed),
            generator=torch.Generator().manual_seed(seed),
        )
        correction.set_mixture(mixture)

    def _balance(
        self, inputs: dict[str, dict[str, np.ndarray]], reliability: dict[str, float]
    ) -> None:
        """Let each modality count by the dimensions in which it tells cells apart."""
        present = {k: part["scores"][part[PRESENT][:, 0] > 0] for k, part in inputs.items()}
        self.module.set_weights(
            {k: reliability[k] * _shared_dimensions(scores) for k, scores in present.items()}
        )

    @torch.no_grad()
    def _smooth_scores(self, inputs: dict[str, dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        """Scores of each modality averaged over neighbours, which are those in all of them."""
        scores = {kind: torch.from_numpy(part["scores"]) for kind, part in inputs.items()}
        joint = torch.cat([self.module.parts[kind].scale * s for kind, s in scores.items()], 1)
        smooth = neighborhood_mean(joint, joint, torch.cat(list(scores.values()), 1))
        return dict(
            zip(scores, smooth.split([s.shape[1] for s in scores.values()], 1), strict=True)
        )

    @torch.no_grad()
    def _denoised(
        self, kind: str, scores: np.ndarray, smooth: torch.Tensor, *, fit: bool
    ) -> np.ndarray:
        path = self.module.parts[kind].linear_path
        assert path is not None
        if fit:
            maps = fit_state(scores, smooth.numpy(), path.to_state.out_features)
            for layer, fitted in zip((path.smooth_to_state, path.to_state), maps, strict=True):
                _set_linear(layer, fitted)
        return path.smooth_to_state(smooth.to(self.module.device)).cpu().numpy()


def _shared_dimensions(scores: np.ndarray) -> float:
    r"""Effective number of dimensions in which cells and their neighbours agree.

    The share of the variance that averages over neighbours keep, times the participation ratio
    :math:`(\sum \lambda)^2 / \sum \lambda^2` of the variances :math:`\lambda` of the averages
    along their principal axes.
    """
    some = torch.from_numpy(scores[spread(len(scores), _CELLS_FOR_WEIGHTS)])
    smooth = neighborhood_mean(some, some)
    variances = torch.linalg.eigvalsh(torch.cov(smooth.T)).clamp_min(0)
    kept = variances.sum() / some.var(0).sum()
    return float(kept * variances.sum().square() / variances.square().sum())


@torch.no_grad()
def _set_linear(layer: torch.nn.Linear, fitted: LinearMap) -> None:
    layer.weight.copy_(torch.as_tensor(fitted.axes.T))
    layer.bias.copy_(torch.as_tensor(-fitted.offset))
