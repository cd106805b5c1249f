import numpy as np
import torch
from scvi import settings

from scmetaq.nn import PrototypeFit, nearest_prototype

from ._prototype_fit import PrototypeFitMixin, folds
from ._reference_fit import Preparation, ReferenceFitMixin

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
    cells, which are then compared with the prototypes of the others.
    """

    def _prepare_training(self) -> Preparation:
        is_first = not self.module.codebook.is_fitted
        prepared = super()._prepare_training()
        if is_first and self._label_keys and self._recipe.n_components:
            seen = self._cells(self.adata_manager).sample(prepared.cells)
            self.module.seen_cells.set_cells(torch.from_numpy(seen.fingerprints()))
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
        z = self._latents_without(reference, is_out)
        return [_mean_distance_of(z, codes, is_out) for codes in of_reference]

    def _latents_without(self, reference: np.ndarray, is_out: np.ndarray) -> torch.Tensor:
        """Latents of reference cells, if their axes had been fitted without some of them."""
        cells = self._cells(self.adata_manager)
        with torch.random.fork_rng():
            other = type(self)(registry=self.registry, **self._init_arguments)
        other.module.to(self.module.device)
        fitted_to, seed = cells.sample(reference[~is_out]), settings.seed or 0
        other._linear_inputs(fitted_to, other._fit_all_statistics(fitted_to, seed), seed)
        return torch.from_numpy(other._latents(cells.sample(reference)))


def _kept_out(is_labelled: np.ndarray) -> np.ndarray:
    """Which cells to keep out: some of the labelled ones, evenly spread."""
    labelled = np.flatnonzero(is_labelled)
    n = max(len(labelled) // _SHARE, min(_FEWEST, len(labelled) // _AT_MOST))
    is_out = np.zeros(len(is_labelled), bool)
    is_out[labelled[np.linspace(0, len(labelled) - 1, n).astype(int)]] = n > 0
    return is_out


def _mean_distance_of(z: torch.Tensor, codes: np.ndarray, is_out: np.ndarray) -> float:
    """Mean distance of cells that were kept out over that of the others."""
    known, kept_out = (np.flatnonzero((codes >= 0) & where) for where in (~is_out, is_out))
    n_cells = torch.from_numpy(np.bincount(codes[known], minlength=codes.max() + 1))
    if not len(kept_out) or n_cells.max() < 2:
        return 1.0
    label, fold = (torch.from_numpy(values[known]) for values in (codes, folds(codes)))
    fit = PrototypeFit(n_cells, z.shape[1])
    fit.add(z[known], label, fold)
    state = fit.finish(z[known], label, fold)
    if state.quantiles.mean() <= 0:
        return 1.0
    nearest, distance = nearest_prototype(z[kept_out], state)
    ratio = (distance / state.typical[nearest]).mean() / state.quantiles.mean()
    return float(ratio.clamp(_NEAREST, 1))
