"""Codes of many cells, found region by region: time grows with the cells, not with their square."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
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
    means_of,
    move_codes,
    nearest_codes,
    split_and_merge,
)
from ._code_index import FEWEST_CODES, CodeIndex, code_regions, region_means
from ._distances import distances_to
from ._small_groups import set_groups_apart

MOST_AT_ONCE: Final = 256
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
_ROWS: Final = 2**15
"""Cells that are read in single precision at once."""
_FEW_ROWS: Final = 2**12
"""Codes whose distances to all regions are held at once."""

Each = Callable[[Callable[..., Any], Iterable[tuple], int, str], Iterable[Any]]
"""From a function, the arguments of its calls, their number and what they do to the results."""


def one_by_one(
    function: Callable[..., Any], calls: Iterable[tuple], n_calls: int, description: str
) -> Iterator[Any]:
    """Call a function again and again, here and now."""
    return (function(*arguments) for arguments in calls)


@torch.no_grad()
def cluster_by_region(
    z: Tensor,
    n_codes: int,
    *,
    states: Tensor,
    start: Tensor | None = None,
    evenness: float = 0.0,
    seed: int = 0,
    each: Each = one_by_one,
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
    each
        How a function is called for each of the regions, or of many cells.
    """
    n_regions = max(1, round(n_codes / _CODES_PER_REGION))
    if start is None:
        region = _regions_of_cells(z[:, states], n_regions, seed)
        start = _codes_of_regions(z, region, n_codes, seed, each)
    found = _means_of_nearest(z, start, each, n_passes=1)
    for _ in range(_MAX_MOVES):
        of_code = code_regions(found.codes, n_regions, seed=seed)
        moved = _moved_between_regions(z, found, of_code, each)
        if moved is None:
            break
        before = found
        found = _means_of_nearest(z, means_of(z, moved, n_codes)[0], each, n_passes=2)
        if found.error > (1 - _LEAST_GAIN) * before.error:
            break
    codes, of_code = found.codes.clone(), code_regions(found.codes, n_regions, seed=seed + 1)
    parts = list(_parts(found.assignment, of_code))
    calls = (
        (z[cells], local, len(chosen), seed + i) for i, (cells, chosen, local) in enumerate(parts)
    )
    evened = each(partial(_evened, evenness), calls, len(parts), "Evening sizes")
    for (_, chosen, _), of_part in zip(parts, evened, strict=True):
        codes[chosen] = of_part
    return _means_of_nearest(z, codes, each, n_passes=2)


@torch.no_grad()
def _evened(evenness: float, rows: Tensor, assignment: Tensor, n_codes: int, seed: int) -> Tensor:
    """Codes of a region after the exchange of cells and k-means."""
    rows, generator = rows.float(), torch.Generator(rows.device).manual_seed(seed)
    weight = evenness * lloyd(rows, assignment, n_codes, max_passes=1).error
    assignment = exchange(rows, assignment, n_codes, generator=generator, weight=weight)
    return set_groups_apart(rows, lloyd(rows, assignment, n_codes, max_passes=100)).codes


def _regions_of_cells(states: Tensor, n_regions: int, seed: int) -> Tensor:
    """Region of each cell, ``(n_cells,)``."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(states), generator=generator)
    sample = order[: max(_FEWEST_FOR_REGIONS, _CELLS_PER_REGION * n_regions)].sort().values
    some = states[sample.to(states.device)].float()
    centres = region_means(some, code_regions(some, n_regions, seed=seed))
    found = [nearest_codes(rows.float(), centres) for rows in states.split(_ROWS)]
    return torch.cat(found).unique(return_inverse=True)[1]


def _codes_of_regions(z: Tensor, region: Tensor, n_codes: int, seed: int, each: Each) -> Tensor:
    """Codes of all regions, more where there are more cells or these differ more."""
    size = region.bincount().cpu().numpy()
    cells = region.argsort(stable=True).split(size.tolist())
    errors = each(_error_of_few, ((z[of], seed) for of in cells), len(cells), "Weighing regions")
    numbers = _shares(np.array(list(errors)), n_codes, most=size)
    calls = ((z[of], int(n), seed) for of, n in zip(cells, numbers, strict=True))
    return torch.cat(list(each(_codes_of_region, calls, len(cells), "Finding codes")))


@torch.no_grad()
def _codes_of_region(rows: Tensor, n_codes: int, seed: int) -> Tensor:
    rows = rows.float()
    start = _start(rows, n_codes, seed)
    nearest = fill_empty(rows, start, nearest_codes(rows, start))
    return split_and_merge(rows, nearest, n_codes).codes


def _start(rows: Tensor, n_codes: int, seed: int) -> Tensor:
    """Cells of k-means++, ``(n_codes, n_latent)``."""
    options: dict[str, int] = {"n_local_trials": 1, "random_state": seed}
    _, chosen = kmeans_plusplus(rows.cpu().numpy(), n_codes, **options)
    return rows[torch.from_numpy(chosen).to(rows.device)]


@torch.no_grad()
def _error_of_few(rows: Tensor, seed: int) -> float:
    """Squared error of cells with a few codes, one for each of the states that there may be."""
    rows = rows.float()
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


def _moved_between_regions(
    z: Tensor, found: Clustering, of_code: Tensor, each: Each
) -> Tensor | None:
    """Assignment after codes moved from cheap merges to splits that gain more."""
    gain, leaves = torch.zeros_like(found.codes[:, 0]), torch.zeros_like(found.assignment).bool()
    parts = list(_parts(found.assignment, of_code))
    calls = ((z[cells], found.codes[chosen], local) for cells, chosen, local in parts)
    splits = each(_splits, calls, len(parts), "Moving codes")
    for (cells, chosen, _), split in zip(parts, splits, strict=True):
        gain[chosen], leaves[cells] = split.gain, split.leaves
    size = found.assignment.bincount(minlength=len(found.codes)).to(found.codes)
    index = CodeIndex.of(found.codes, of_code)
    near = [index.candidates(of, 4, n_searched=8) for of in found.codes.split(_FEW_ROWS)]
    others = torch.cat(near)  # K x n
    own = torch.arange(len(others), device=others.device)[:, None]
    apart = torch.stack([distances_to(found.codes, found.codes, of) for of in others.T], 1)
    cost = apart * size[:, None] * size[others] / (size[:, None] + size[others])
    best = cost.masked_fill(others == own, torch.inf).min(1)
    partner = others.gather(1, best.indices[:, None])[:, 0]
    return move_codes(found.assignment, Split(gain, leaves), Merge(best.values, partner))


@torch.no_grad()
def _splits(rows: Tensor, codes: Tensor, assignment: Tensor) -> Split:
    return best_splits(rows.float(), Clustering(codes, assignment, 0.0))


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


def _means_of_nearest(z: Tensor, codes: Tensor, each: Each, *, n_passes: int) -> Clustering:
    """Nearest codes of all cells and their means, ``n_passes`` times."""
    for _ in range(n_passes):
        assignment = fill_empty(z, codes, _nearest(z, codes, _index(codes), each))
        codes = means_of(z, assignment, len(codes))[0]
    return Clustering(codes, assignment, float(distances_to(z, codes, assignment).mean()))


@torch.no_grad()
def means_of_more(codes: Tensor, latents: Iterable[Tensor], each: Each = one_by_one) -> Tensor:
    """Means of the cells nearest to each code, whose latents come some at a time."""
    index, total, size = _index(codes), torch.zeros_like(codes), torch.zeros_like(codes[:, 0])
    for z in latents:
        means, n = means_of(z, _nearest(z, codes, index, each), len(codes))
        total += means * n[:, None]
        size += n
    return torch.where(size[:, None] > 0, total / size.clamp_min(1)[:, None], codes)


def _index(codes: Tensor) -> CodeIndex | None:
    """Index of many codes."""
    if len(codes) < FEWEST_CODES:
        return None
    return CodeIndex.of(codes, code_regions(codes, round(len(codes) ** 0.5)))


def _nearest(z: Tensor, codes: Tensor, index: CodeIndex | None, each: Each) -> Tensor:
    """Nearest code of each cell."""
    blocks = z.split(_ROWS)
    calls = ((rows.clone(),) for rows in blocks)  # a view would go along with all that it is of
    found = each(partial(_nearest_of, codes, index), calls, len(blocks), "Assigning cells")
    return torch.cat(list(found))


@torch.no_grad()
def _nearest_of(codes: Tensor, index: CodeIndex | None, z: Tensor) -> Tensor:
    z = z.float()
    if index is None:
        return nearest_codes(z, codes)
    candidates = index.candidates(z, 1, n_searched=_N_SEARCHED)  # B x n
    apart = torch.stack([distances_to(z, codes, of) for of in candidates.T], 1)
    return candidates.gather(1, apart.argmin(1)[:, None])[:, 0]
