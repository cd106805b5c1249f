"""Codes of many cells, found region by region: time grows with the cells, not with their square."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from ._clustering import (
    Clustering,
    Merge,
    Split,
    best_splits,
    exchange,
    fill_empty,
    lloyd,
    move_codes,
    nearest_codes,
    set_groups_apart,
    split_and_merge,
)
from ._code_index import FEWEST_CODES, CodeIndex, code_regions, region_means
from ._distances import distances_to

MOST_AT_ONCE: Final = 512
"""Codes up to which all are searched for together."""
_CODES_PER_REGION: Final = 80
_CELLS_PER_REGION: Final = 50
"""Cells per region to which the regions of cells are fitted."""
_FEWEST_FOR_REGIONS: Final = 20_000
_N_FEW: Final = 10
"""Codes of a region whose error says how many it should have."""
_MAX_MOVES: Final = 6
"""Rounds in which codes move between regions."""
_LEAST_GAIN: Final = 0.001
"""Share by which the error falls in a round that is followed by another."""
_N_SEARCHED: Final = 4
"""Regions of codes that a cell is compared with while codes still move."""
_ROWS: Final = 2**16
"""Cells that are read in single precision at once."""

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""From parts and what is done with them to the same parts, one by one, while a bar is shown."""


@torch.no_grad()
def cluster_by_region(
    z: Tensor,
    n_codes: int,
    *,
    states: Tensor,
    start: Tensor | None = None,
    evenness: float = 0.0,
    seed: int = 0,
    progress: Progress = lambda parts, _: parts,
) -> Clustering:
    r"""Find codes as :func:`cluster` does, with work that grows with ``n_cells`` only.

    1. *Regions of cells*: k-means of the ``states`` of a sample, about 80 codes per region. Each
       region gets codes in proportion to its squared error with ten, by k-means++ and
       split-and-merge.
    2. *Between regions*: codes whose cells are merged with those of another code at little cost
       move to the codes whose split gains most, wherever they are, with k-means over all cells and
       codes (:class:`CodeIndex`), until the error hardly falls.
    3. *Regions of codes*, whose borders lie elsewhere: Hartigan-Wong exchange with even sizes,
       k-means, and codes for groups that are clearly apart. Then k-means over all cells.

    Parameters
    ----------
    z
        Latents, ``(n_cells, n_latent)``, in half or single precision.
    n_codes
        Number of codes, at most ``n_cells``.
    states
        Dimensions of the latent that are cell states, by which cells are put into regions.
    start
        Codes to start from, ``(n_codes, n_latent)``, in place of the first step.
    evenness
        Weight of even sizes, as in :func:`cluster`.
    seed
        Seed of all that is drawn.
    progress
        What shows how far the search is.
    """
    n_regions = max(1, round(n_codes / _CODES_PER_REGION))
    if start is None:
        region = _regions_of_cells(z[:, states], n_regions, seed)
        start = _codes_of_regions(z, region, n_codes, seed, progress)
    found = _means_of_nearest(z, start, n_passes=1)
    for _ in progress(range(_MAX_MOVES), "Moving codes"):
        moved = _moved_between_regions(z, found, code_regions(found.codes, n_regions, seed=seed))
        if moved is None:
            break
        before = found
        found = _means_of_nearest(z, _means(z, moved, n_codes), n_passes=2)
        if found.error > (1 - _LEAST_GAIN) * before.error:
            break
    generator = torch.Generator(z.device).manual_seed(seed)
    codes, of_code = found.codes.clone(), code_regions(found.codes, n_regions, seed=seed + 1)
    regions = progress(range(int(of_code.max()) + 1), "Evening sizes")
    for _, part in zip(regions, _parts(found.assignment, of_code), strict=True):
        cells, chosen, local = part
        rows, n = z[cells].float(), len(chosen)
        settled = lloyd(rows, local, n, max_passes=1)
        assignment = exchange(rows, local, n, generator=generator, weight=evenness * settled.error)
        codes[chosen] = set_groups_apart(rows, lloyd(rows, assignment, n, max_passes=100)).codes
    return _means_of_nearest(z, codes, n_passes=2)


def _regions_of_cells(states: Tensor, n_regions: int, seed: int) -> Tensor:
    """Region of each cell, ``(n_cells,)``."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(states), generator=generator)
    sample = order[: max(_FEWEST_FOR_REGIONS, _CELLS_PER_REGION * n_regions)].sort().values
    some = states[sample.to(states.device)].float()
    centres = region_means(some, code_regions(some, n_regions, seed=seed))
    found = [nearest_codes(rows.float(), centres) for rows in states.split(_ROWS)]
    return torch.cat(found).unique(return_inverse=True)[1]


def _codes_of_regions(
    z: Tensor, region: Tensor, n_codes: int, seed: int, progress: Progress
) -> Tensor:
    """Codes of all regions, more where there are more cells or these differ more."""
    size = region.bincount().cpu().numpy()
    cells = region.argsort(stable=True).split(size.tolist())
    errors = [_error_of_few(z[of].float(), seed) for of in cells]
    numbers = _shares(np.array(errors), n_codes, most=size)
    codes = []
    for i in progress(range(len(cells)), "Finding codes"):
        rows, n = z[cells[i]].float(), int(numbers[i])
        start = _start(rows, n, seed)
        nearest = fill_empty(rows, start, nearest_codes(rows, start))
        codes.append(split_and_merge(rows, nearest, n).codes)
    return torch.cat(codes)


def _start(rows: Tensor, n_codes: int, seed: int) -> Tensor:
    """Cells of k-means++, ``(n_codes, n_latent)``."""
    options: dict[str, int] = {"n_local_trials": 1, "random_state": seed}
    _, chosen = kmeans_plusplus(rows.cpu().numpy(), n_codes, **options)
    return rows[torch.from_numpy(chosen).to(rows.device)]


def _error_of_few(rows: Tensor, seed: int) -> float:
    """Squared error of cells with a few codes, one for each of the states that there may be."""
    start = _start(rows, min(_N_FEW, len(rows)), seed)
    return lloyd(rows, nearest_codes(rows, start), len(start), max_passes=2).error * len(rows)


def _shares(weights: np.ndarray, total: int, *, most: np.ndarray) -> np.ndarray:
    """Whole numbers from one to ``most``, in proportion to weights, that add up to ``total``."""
    weights = weights + 1e-12  # cells that are all the same have no error
    wanted = weights * total / weights.sum()
    found = np.clip(np.floor(wanted), 1, most).astype(int)
    while (missing := total - found.sum()) != 0:
        order = np.argsort(np.sign(missing) * (found - wanted), kind="stable")
        can = order[(found < most)[order] if missing > 0 else (found > 1)[order]]
        found[can[: abs(missing)]] += np.sign(missing)
    return found


def _moved_between_regions(z: Tensor, found: Clustering, of_code: Tensor) -> Tensor | None:
    """Assignment after codes moved from cheap merges to splits that gain more."""
    gain, leaves = torch.zeros_like(found.codes[:, 0]), torch.zeros_like(found.assignment).bool()
    for cells, chosen, local in _parts(found.assignment, of_code):
        of_part = Clustering(found.codes[chosen], local, 0.0)
        split = best_splits(z[cells].float(), of_part)
        gain[chosen], leaves[cells] = split.gain, split.leaves
    size = found.assignment.bincount(minlength=len(found.codes)).to(found.codes)
    others = CodeIndex.of(found.codes, of_code).candidates(found.codes, 4)  # K x n
    own = torch.arange(len(others), device=others.device)[:, None]
    apart = torch.stack([distances_to(found.codes, found.codes, of) for of in others.T], 1)
    cost = apart * size[:, None] * size[others] / (size[:, None] + size[others])
    best = cost.masked_fill(others == own, torch.inf).min(1)
    partner = others.gather(1, best.indices[:, None])[:, 0]
    return move_codes(found.assignment, Split(gain, leaves), Merge(best.values, partner))


def _parts(assignment: Tensor, of_code: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """By region its cells, its codes, and which of these codes each of the cells has."""
    codes = of_code.argsort(stable=True).split(of_code.bincount().tolist())
    rank = torch.empty_like(of_code)
    for chosen in codes:
        rank[chosen] = torch.arange(len(chosen), device=rank.device)
    of_cell = of_code[assignment]
    sizes = of_cell.bincount(minlength=len(codes)).tolist()
    for cells, chosen in zip(of_cell.argsort(stable=True).split(sizes), codes, strict=True):
        yield cells, chosen, rank[assignment[cells]]


def _means_of_nearest(z: Tensor, codes: Tensor, *, n_passes: int) -> Clustering:
    """Nearest codes of all cells and their means, ``n_passes`` times."""
    for _ in range(n_passes):
        assignment = _nearest(z, codes)
        codes = _means(z, assignment, len(codes))
    return Clustering(codes, assignment, float(distances_to(z, codes, assignment).mean()))


def _nearest(z: Tensor, codes: Tensor) -> Tensor:
    """Nearest code of each cell, each code that of at least one."""
    if len(codes) < FEWEST_CODES:
        found = torch.cat([nearest_codes(rows.float(), codes) for rows in z.split(_ROWS)])
    else:
        index = CodeIndex.of(codes, code_regions(codes, round(len(codes) ** 0.5)))
        found = torch.cat([_nearest_of(rows.float(), codes, index) for rows in z.split(_ROWS)])
    return fill_empty(z, codes, found)


def _nearest_of(z: Tensor, codes: Tensor, index: CodeIndex) -> Tensor:
    candidates = index.candidates(z, 1, n_searched=_N_SEARCHED)  # B x n
    apart = torch.stack([distances_to(z, codes, of) for of in candidates.T], 1)
    return candidates.gather(1, apart.argmin(1)[:, None])[:, 0]


def _means(z: Tensor, assignment: Tensor, n_codes: int) -> Tensor:
    """Mean of the cells of each code, ``(n_codes, n_latent)``."""
    total = torch.zeros(n_codes, z.shape[1], device=z.device)
    for rows, of in zip(z.split(_ROWS), assignment.split(_ROWS), strict=True):
        total.index_add_(0, of, rows.float())
    return total / assignment.bincount(minlength=n_codes).clamp_min(1)[:, None]
