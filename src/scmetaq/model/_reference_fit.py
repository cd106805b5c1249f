"""Statistics, linear maps and denoised states, fitted to a reference sample before training."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from scmetaq.data._cells import Cells
from scmetaq.data._groups import condition_effects, group_counts
from scmetaq.data._reference import (
    denoised_states,
    fit_bridge,
    fit_reference,
    fit_scaling,
    fit_state_map,
    select_features,
    size_factor,
)
from scmetaq.data._training_set import spread
from scmetaq.module import MetaQModule
from scmetaq.module._metaq import read_scores
from scmetaq.nn import Scaling, fit_mixture, initial_codes, neighborhood_mean, with_condition
from scmetaq.nn._distances import squared_distances
from scmetaq.nn._inputs import CONDITIONS, COUNTS, PRESENT, flat, nested
from scmetaq.nn._linear_path import N_RANDOM
from scmetaq.train import encode

from ._blocks import given_of

_CELLS_FOR_WEIGHTS = 4_000
"""Cells from which the weights of modalities are estimated."""
_NEIGHBORS_FOR_WEIGHTS = 15

Arrays = dict[str, dict[str, Any]]
"""Inputs of a module by modality and name, each with one row per cell."""


def fit_statistics(
    part: Any,
    kind: str,
    counts: sp.csr_matrix,
    *,
    allowed: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
    starts_at_mean: bool = True,
    seed: int = 0,
) -> None:
    """Choose features among those allowed, and fit their scaling and principal axes.

    Library ``sizes``, ``(n_cells, 1)``, may be given. Where ``starts_at_mean``, the decoder starts
    at the average profile.
    """
    scaling, path = part.feature_scaling, part.linear_path
    options: Any = {"by_variance": kind != "atac", "allowed": allowed, "sizes": sizes}
    features = select_features(counts, len(scaling.features), **options)
    if path is None:
        fitted = fit_scaling(counts, features, sizes=sizes)
    else:
        n_components = path.profile.axes.shape[1]
        reference = fit_reference(
            counts, features, n_components=n_components, allowed=allowed, sizes=sizes, seed=seed
        )
        fitted = reference.scaling
        for name in ("profile", "log", "sqrt", "log_factors", "sqrt_factors"):
            getattr(path, name).set_state(getattr(reference, name))
        path.kept.copy_(torch.as_tensor(reference.kept))
    scaling.set_state(Scaling(*map(torch.as_tensor, (features, fitted.mean, fitted.scale))))
    part.coverage.set_rate(torch.as_tensor(fitted.rate))
    if starts_at_mean:
        part.decoder.start_at(torch.as_tensor(fitted.rate[features]))


def selected_inputs(module: Any, cells: Cells) -> Arrays:
    """Counts of the selected features; those of the others are never held at once."""
    inputs: Arrays = {}
    sizes = None if cells.sizes is None else size_factor(cells.sizes)
    for kind, of_kind in cells.counts.items():
        part = module.parts[kind]
        features = part.feature_scaling.features.cpu().numpy()
        share = 1.0 if part.missing is None else float(part.coverage.share)
        pairs = [(block[:, features], size_factor(block) / share) for block in of_kind.blocks()]
        chosen, factors = zip(*pairs, strict=True)
        inputs[kind] = {
            COUNTS: sp.vstack(chosen, format="csr"),
            "size_factor": np.concatenate(factors) if sizes is None else sizes,
            PRESENT: of_kind.is_present.astype(np.float32)[:, None],
            **given_of(cells),
        }
    return inputs


def linear_inputs(
    module: MetaQModule,
    inputs: Arrays,
    cells: Cells,
    *,
    is_first: bool,
    has_weights: bool,
    seed: int,
) -> Arrays:
    """Complete the inputs of MetaQ's encoder and add counts.

    In the first training the encoder is fitted: to scores averaged over neighbours.
    """
    if is_first and len(inputs) > 1:
        _fit_imputation(module, inputs)
        if not has_weights:
            present = {k: part["scores"][part[PRESENT][:, 0] > 0] for k, part in inputs.items()}
            module.set_weights(
                {k: shared_dimensions(scores, seed) for k, scores in present.items()}
            )
        if not all(part[PRESENT].all() for part in inputs.values()):
            inputs = _completed(module, inputs, cells.conditions)
    if is_first and module.correction is not None:
        _fit_correction(module, inputs, cells.conditions, seed)
        inputs = _completed(module, inputs, cells.conditions)
    if is_first:
        _fit_encoder(module, inputs, seed)
    for kind, of_kind in cells.counts.items():
        features = module.parts[kind].feature_scaling.features.cpu().numpy()
        inputs[kind][COUNTS] = of_kind.everything[:, features]
    return inputs


@torch.no_grad()
def _fit_encoder(module: MetaQModule, inputs: Arrays, seed: int) -> None:
    """Fit the maps from scores to denoised states."""
    scores = {kind: {"scores": torch.from_numpy(of["scores"])} for kind, of in inputs.items()}
    read = np.asarray(read_scores(scores))
    for kind, smooth in _smooth_scores(module, inputs).items():
        part: Any = module.parts[kind]
        states = denoised_states(smooth.numpy(), part.n_latent)
        part.encoder.set_state(fit_state_map(read, states, n_random=N_RANDOM, seed=seed))


@torch.no_grad()
def start_decoders(module: MetaQModule, inputs: dict[str, Any]) -> None:
    """Fit the decoders to the cells of each code, or region of codes, and condition.

    Inputs are those of a training set, :func:`flat`.
    """
    codebook = module.codebook
    (z,) = encode(module, inputs, lambda outputs: [outputs["z"]])
    code = codebook.assign(z.to(module.device))[1]
    place = (codebook.region[code] if len(codebook.region) else code).cpu().numpy()
    columns = np.column_stack([place, inputs[CONDITIONS].astype(np.int64)])
    groups, group = np.unique(columns, axis=0, return_inverse=True)
    of_group = sp.csr_array((np.ones(len(group), np.float32), (group, np.arange(len(group)))))
    mean = torch.from_numpy(of_group @ z.numpy() / of_group.sum(1)[:, None]).to(module.device)
    found = {}
    for kind in module.parts:
        size = inputs[f"{kind}_size_factor"] * inputs.get(f"{kind}_{PRESENT}", 1)
        found[kind] = group_counts(of_group, inputs[f"{kind}_{COUNTS}"], size[:, 0])
    module.condition_embedding.set_tables(condition_effects(groups, list(found.values())))
    condition = module.condition_embedding(torch.from_numpy(groups[:, 1:]).to(module.device))
    for kind, part in module.parts.items():
        part.decoder.start_from(with_condition(mean[:, part.columns], condition), found[kind])
        part.quantized_decoder.start_from(with_condition(mean, condition), found[kind])


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
    has_gaps = [not part[PRESENT].all() for part in inputs.values()]
    module.imputation.has_gaps = torch.tensor(has_gaps, device=module.device)
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
