"""Statistics, linear maps and denoised states, fitted to a reference sample before training."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from scmetaq.data._cells import Cells
from scmetaq.data._reference import (
    fit_bridge,
    fit_reference,
    fit_scaling,
    fit_state,
    select_features,
    size_factor,
)
from scmetaq.data._training_set import spread
from scmetaq.module import MetaQModule
from scmetaq.nn import Scaling, fit_mixture, initial_codes, neighborhood_mean
from scmetaq.nn._distances import squared_distances
from scmetaq.nn._inputs import CONDITIONS, COUNTS, DENOISED_STATE, PRESENT, flat, nested
from scmetaq.train import encode

_CELLS_FOR_WEIGHTS = 4_000
"""Cells from which the weights of modalities are estimated."""
_NEIGHBORS_FOR_WEIGHTS = 15

Arrays = dict[str, dict[str, Any]]
"""Inputs of a module by modality and name, each with one row per cell."""


def fit_statistics(
    part: Any, kind: str, counts: sp.csr_matrix, *, starts_at_mean: bool = True, seed: int = 0
) -> float:
    """Choose features, fit their scaling and principal axes; return the reliability of the axes.

    Where ``starts_at_mean``, the decoder starts at the average profile.
    """
    scaling, path, reliability = part.feature_scaling, part.linear_path, 1.0
    features = select_features(counts, len(scaling.features), by_variance=kind != "atac")
    if path is None:
        fitted = fit_scaling(counts, features)
    else:
        n_components = path.profile.axes.shape[1]
        reference = fit_reference(counts, features, n_components=n_components, seed=seed)
        fitted, reliability = reference.scaling, reference.reliability
        for name in ("profile", "log", "sqrt", "log_factors", "sqrt_factors"):
            getattr(path, name).set_state(getattr(reference, name))
        path.kept.copy_(torch.as_tensor(reference.kept))
    scaling.set_state(Scaling(*map(torch.as_tensor, (features, fitted.mean, fitted.scale))))
    part.coverage.set_rate(torch.as_tensor(fitted.rate))
    if starts_at_mean:
        part.decoder.start_at(torch.as_tensor(fitted.rate[features]))
    return reliability


def selected_inputs(module: Any, cells: Cells) -> Arrays:
    """Counts of the selected features; those of the others are never held at once."""
    inputs: Arrays = {}
    for kind, of_kind in cells.counts.items():
        part = module.parts[kind]
        features = part.feature_scaling.features.cpu().numpy()
        share = 1.0 if part.missing is None else float(part.coverage.share)
        pairs = [(block[:, features], size_factor(block) / share) for block in of_kind.blocks()]
        chosen, factors = zip(*pairs, strict=True)
        inputs[kind] = {
            COUNTS: sp.vstack(chosen, format="csr"),
            "size_factor": np.concatenate(factors),
            PRESENT: of_kind.is_present.astype(np.float32)[:, None],
        }
    return inputs


def linear_inputs(
    module: MetaQModule,
    inputs: Arrays,
    cells: Cells,
    *,
    reliability: dict[str, float],
    has_weights: bool,
    seed: int,
) -> Arrays:
    """Add the denoised states that the network of MetaQ learns, and counts, to its inputs.

    If the statistics have just been fitted, of the ``reliability`` given, so are the linear maps.
    """
    if reliability and len(inputs) > 1:
        _fit_imputation(module, inputs)
        if not has_weights:
            present = {k: part["scores"][part[PRESENT][:, 0] > 0] for k, part in inputs.items()}
            module.set_weights(
                {k: shared_dimensions(scores, seed) for k, scores in present.items()}
            )
        if not all(part[PRESENT].all() for part in inputs.values()):
            inputs = _completed(module, inputs, cells.conditions)
    if reliability and module.correction is not None:
        _fit_correction(module, inputs, cells.conditions, seed)
        inputs = _completed(module, inputs, cells.conditions)
    for kind, smooth in _smooth_scores(module, inputs).items():
        path, of_kind = module.parts[kind].linear_path, cells.counts[kind]
        assert path is not None
        if reliability:
            maps = fit_state(inputs[kind]["scores"], smooth.numpy(), path.to_state.out_features)
            for layer, (_, axes, offset) in zip(
                (path.smooth_to_state, path.to_state), maps, strict=True
            ):
                weight, bias = torch.as_tensor(axes.T), torch.as_tensor(-offset)
                layer.load_state_dict({"weight": weight, "bias": bias})
        with torch.no_grad():
            state = path.smooth_to_state(smooth.to(module.device)).cpu().numpy()
        features = module.parts[kind].feature_scaling.features.cpu().numpy()
        inputs[kind] |= {DENOISED_STATE: state, COUNTS: of_kind.everything[:, features]}
    return inputs


def _completed(module: MetaQModule, inputs: Arrays, conditions: np.ndarray) -> Arrays:
    """Inputs with missing modalities imputed and effects of conditions subtracted."""
    names = [(kind, name) for kind in inputs for name in ("scores", "profile")]
    found = encode(
        module,
        flat(inputs) | {CONDITIONS: conditions},
        lambda read: [read[kind][name] for kind, name in names],
        apply=lambda rows: module.complete(nested(rows, module.parts), rows[CONDITIONS]),
    )
    completed = {kind: dict(part) for kind, part in inputs.items()}
    for (kind, name), values in zip(names, found, strict=True):
        completed[kind][name] = values.numpy()
    return completed


def _fit_imputation(module: MetaQModule, inputs: Arrays) -> None:
    """Fit the prediction of each modality from each other to cells that have both."""
    for source, known in inputs.items():
        for target, wanted in inputs.items():
            both = (known[PRESENT] * wanted[PRESENT])[:, 0] > 0
            if source != target and both.any():
                values = np.hstack([wanted["scores"], wanted["profile"]])[both]
                fitted = fit_bridge(known["scores"][both], values)
                module.imputation.maps[f"{source}_to_{target}"].set_state(fitted)


@torch.no_grad()
def _fit_correction(module: MetaQModule, inputs: Arrays, conditions: np.ndarray, seed: int) -> None:
    """Estimate the effects of conditions on the scores and profiles of cells."""
    correction, device = module.correction, module.device
    assert correction is not None
    tensors = {
        kind: {k: torch.from_numpy(part[k]).to(device) for k in ("scores", "profile")}
        for kind, part in inputs.items()
    }
    values = module.linear_values(tensors)
    unit = torch.nn.functional.normalize(values, dim=1)
    mixture = fit_mixture(
        values,
        torch.from_numpy(conditions).to(device),
        correction.n_categories,
        start=initial_codes(unit, len(correction.centroids), seed=seed),
        generator=torch.Generator().manual_seed(seed),
    )
    correction.set_state(mixture)


@torch.no_grad()
def _smooth_scores(module: MetaQModule, inputs: Arrays) -> dict[str, torch.Tensor]:
    """Scores of each modality averaged over neighbours, which are those in all of them."""
    scores = {kind: torch.from_numpy(part["scores"]) for kind, part in inputs.items()}
    joint = torch.cat([module.parts[kind].scale * s for kind, s in scores.items()], 1)
    smooth = neighborhood_mean(joint, joint, torch.cat(list(scores.values()), 1))
    widths = [s.shape[1] for s in scores.values()]
    return dict(zip(scores, smooth.split(widths, 1), strict=True))


def shared_dimensions(scores: np.ndarray, seed: int) -> float:
    r"""Number of dimensions in which cells agree with their neighbours beyond chance.

    With :math:`R_d` the share of the variance of axis :math:`d` that the mean over the nearest
    other cells predicts, and :math:`R^0_d` the same after each axis has been permuted over cells,
    :math:`\sum_d \sqrt{(R_d - R^0_d)_+}`, and at least one. Neighbours are those in both views;
    the axes are those of log counts, since square roots of rare counts are depth in all axes.
    """
    some = scores[spread(len(scores), _CELLS_FOR_WEIGHTS)]
    permuted = np.random.default_rng(seed).permuted(some, axis=0)
    excess = _predicted_share(some) - _predicted_share(permuted)
    return max(float(np.sqrt(excess.clip(0)[: scores.shape[1] // 2]).sum()), 1.0)


def _predicted_share(scores: np.ndarray) -> np.ndarray:
    """Share of the variance of each axis that the mean over the nearest other cells predicts."""
    values = torch.from_numpy(scores - scores.mean(0))
    n_neighbors = min(_NEIGHBORS_FOR_WEIGHTS, len(values) - 1)
    blocks = []
    for cells in torch.arange(len(values)).split(500):
        distance = squared_distances(values[cells], values)
        distance[torch.arange(len(cells)), cells] = torch.inf
        nearest = distance.topk(n_neighbors, largest=False, sorted=False).indices
        blocks.append(values[nearest].mean(1))
    variance = values.square().sum(0).clamp_min(1e-12)
    return ((torch.cat(blocks) * values).sum(0) / variance).clamp(0, 1).numpy()
