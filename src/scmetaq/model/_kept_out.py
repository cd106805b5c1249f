import numpy as np
import torch
from scvi import settings

from scmetaq.data._fingerprint import fingerprints_of
from scmetaq.nn import Inputs, nearest_prototype, state_distance

from ._cells import Cells
from ._prototype_fit import PrototypeFitMixin, folds
from ._reference_fit import Fit, ReferenceFitMixin

_SHARE = 10
"""One in so many labelled cells of the reference sample is kept out."""
_FEWEST, _AT_MOST = 50, 4
"""At least so many are, if they are no more than one in so many."""
_ENOUGH = 200
"""Labelled cells outside of the reference sample that make it needless to keep out some of it."""
_NEAREST = 0.1
"""Least ratio of distances."""


class KeptOutMixin(PrototypeFitMixin, ReferenceFitMixin):
    """How much nearer to prototypes cells are that the latent was not fitted to.

    Axes follow the noise of the cells that they are fitted to, in which these cells lie further
    from each other than others do. So the axes are fitted once more, without some of the labelled
    cells. Scores of these cells along them, turned to the model's own axes, are what the model
    would read of the cells if they were new: their distances to the prototypes of the others are
    compared with those of what it does read.
    """

    def _prepare_training(self) -> Fit:
        is_first = not self.module.codebook.is_fitted
        prepared = super()._prepare_training()
        if is_first and self._label_keys and self._recipe.n_components:
            seen = self._cells(self.adata_manager).sample(prepared.cells)
            self.module.seen_cells.set_cells(torch.from_numpy(fingerprints_of(seen)))
        return prepared

    def _new_cells(self, labels: list[np.ndarray], reference: np.ndarray | None) -> list[float]:
        if reference is None or not self._recipe.n_components:  # it has no axes
            return super()._new_cells(labels, reference)
        of_reference = [codes[reference] for codes in labels]
        pairs = zip(labels, of_reference, strict=True)
        if all(((whole >= 0).sum() - (part >= 0).sum()) >= _ENOUGH for whole, part in pairs):
            return super()._new_cells(labels, reference)  # told from cells outside of it
        is_out = _kept_out(np.any([codes >= 0 for codes in of_reference], axis=0))
        if not is_out.any():
            return super()._new_cells(labels, reference)
        z, as_new = self._latents_if_new(reference, is_out)
        return [self._nearer(z, as_new, codes, is_out) for codes in of_reference]

    def _latents_if_new(
        self, reference: np.ndarray, is_out: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of reference cells, and what those of some would be if they were new.

        Parameters
        ----------
        reference
            Sorted indices of the cells that the latent was fitted to, ``(n_reference,)``.
        is_out
            Which of them are to be kept out, ``(n_reference,)`` bool.

        Returns
        -------
        ``(n_reference, n_latent)`` and ``(n_out, n_latent)``.
        """
        cells = self._cells(self.adata_manager).sample(reference)
        fitted_to, seed = cells.sample(np.flatnonzero(~is_out)), settings.seed or 0
        with torch.random.fork_rng():
            other = type(self)(registry=self.registry, **self._init_arguments)
        other.module.to(self.module.device)
        other._linear_inputs(fitted_to, other._fit_all_statistics(fitted_to, seed), seed)
        inputs = self._read_all(cells)
        for kind, of_kind in other._read_all(cells).items():
            turn = np.linalg.lstsq(
                _with_ones(of_kind["scores"][~is_out]), inputs[kind]["scores"][~is_out]
            )[0]
            inputs[kind]["scores"] = _with_ones(of_kind["scores"]) @ turn
        return torch.from_numpy(self._latents(cells)), self._encoded(inputs, cells, is_out)

    @torch.inference_mode()
    def _encoded(
        self, inputs: dict[str, dict[str, np.ndarray]], cells: Cells, chosen: np.ndarray
    ) -> torch.Tensor:
        """Latents of some cells, from what is read of them."""
        device = self.module.device
        read: Inputs = {
            kind: {
                name: torch.from_numpy(values[chosen]).to(device) for name, values in part.items()
            }
            for kind, part in inputs.items()
        }
        conditions = torch.from_numpy(cells.conditions[chosen]).to(device)
        return self.module.inference(read, conditions)["z"].cpu()

    def _nearer(
        self, z: torch.Tensor, as_new: torch.Tensor, codes: np.ndarray, is_out: np.ndarray
    ) -> float:
        """Median distance of cells that were kept out, as if they were new, over what it is."""
        known, kept_out = (np.flatnonzero((codes >= 0) & where) for where in (~is_out, is_out))
        n_cells = torch.from_numpy(np.bincount(codes[known], minlength=codes.max() + 1))
        if not len(kept_out) or n_cells.max() < 2:
            return 1.0
        label, fold = (torch.from_numpy(values[known]) for values in (codes, folds(codes)))
        fit = self._empty_fit(n_cells)
        fit.add(z[known], label, fold)
        state = fit.finish(z[known], label, fold)
        nearest = nearest_prototype(z[kept_out], state)
        pair = z[kept_out], as_new[codes[is_out] >= 0]
        own, new = (state_distance(of, nearest, state).median() for of in pair)
        return float((new / own).clamp(_NEAREST, 1)) if own > 0 else 1.0


def _kept_out(is_labelled: np.ndarray) -> np.ndarray:
    """Which cells to keep out: some of the labelled ones, evenly spread."""
    labelled = np.flatnonzero(is_labelled)
    n = max(len(labelled) // _SHARE, min(_FEWEST, len(labelled) // _AT_MOST))
    is_out = np.zeros(len(is_labelled), bool)
    is_out[labelled[np.linspace(0, len(labelled) - 1, n).astype(int)]] = n > 0
    return is_out


def _with_ones(values: np.ndarray) -> np.ndarray:
    return np.hstack([values, np.ones((len(values), 1), values.dtype)])
