"""Metacells with a least and a largest number of cells: constrained k-means."""

import warnings
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scmetaq._errors import InputValueError, check_int
from scmetaq.nn import Codebook

from ._callbacks import say

_MAX_ROUNDS = 5
"""Rounds in which codes follow their cells."""


class SizeBounds(NamedTuple):
    """Fewest and most cells of a metacell."""

    least: int
    most: int


def size_bounds(
    min_size: int | None, max_size: int | None, *, n_cells: int, n_metacells: int
) -> SizeBounds | None:
    """Return checked bounds, None without any."""
    if min_size is None and max_size is None:
        return None
    check_int("min_size", min_size, optional=True)
    check_int("max_size", max_size, optional=True)
    least, most = min_size or 1, min(max_size or n_cells, n_cells)
    mean = f"{n_metacells} metacells of {n_cells} cells have {n_cells / n_metacells:.4g} on average"
    if max_size is not None and least > max_size:
        problem = f"Expected min_size of at most max_size, found min_size={min_size} and"
        raise InputValueError(f"{problem} max_size={max_size}.", argument="min_size")
    if least * n_metacells > n_cells:
        problem = f"Expected min_size of at most {n_cells // n_metacells}, found {min_size}:"
        fix = f"Lower min_size, or ask for at most {n_cells // least} metacells."
        raise InputValueError(f"{problem} {mean}.", fix, "min_size")
    if most * n_metacells < n_cells:
        problem = f"Expected max_size of at least {-(-n_cells // n_metacells)}, found {max_size}:"
        fix = f"Raise max_size, or ask for at least {-(-n_cells // most)} metacells."
        raise InputValueError(f"{problem} {mean}.", fix, "max_size")
    if find_spec("ot") is None:
        problem = "Expected POT for min_size and max_size, found that it is not installed. Run:"
        raise ImportError(f"{problem} pip install 'scmetaq[bounds]'.")
    return SizeBounds(least, most)


@torch.no_grad()
def bound_sizes(
    codebook: Codebook, z: Tensor, bounds: SizeBounds, *, move_codes: bool = True
) -> Tensor:
    """Fit offsets, and codes unless they are held, under which sizes are within bounds.

    Codes move to the means of the cells that they then have, which changes the offsets, until no
    cell changes its code (Bradley, Bennett and Demiriz 2000). The code of each cell of ``z``.
    """
    say(
        f"Bounding the sizes of {codebook.n_codes:,} metacells of {len(z):,} cells; with many "
        "metacells and narrow bounds this takes minutes."
    )
    found = _with_offsets(codebook, z, bounds)
    for _ in range(_MAX_ROUNDS if move_codes else 0):
        total = torch.zeros_like(codebook.codes).index_add_(0, found, z)
        codebook.set_codes(total / codebook.count_cells(found).clamp_min(1)[:, None])
        before, found = found, _with_offsets(codebook, z, bounds)
        if torch.equal(found, before):
            break
    found = codebook.claim_cells(z)  # identical cells share a code where the bounds gave them two
    sizes = codebook.count_cells(found)
    smallest, largest = int(sizes.min()), int(sizes.max())
    if smallest < bounds.least or largest > bounds.most:
        warnings.warn(
            f"Expected metacells of {bounds.least} to {bounds.most} cells, made some of "
            f"{smallest} to {largest}: cells with the same counts always share a metacell. Remove "
            "duplicated cells, or widen the bounds.",
            stacklevel=2,
        )
    return found


def _with_offsets(codebook: Codebook, z: Tensor, bounds: SizeBounds) -> Tensor:
    """Fit the offsets; the codes of the cells under them."""
    exact = z if z.device.type == "mps" else z.double()
    codebook.set_offsets(offsets_within(codebook.similarity(exact), bounds))
    return codebook.assign(z)[1]


def offsets_within(similarity: Tensor, bounds: SizeBounds) -> Tensor:
    r"""Offsets of codes under which each is the best one of an allowed number of cells.

    The assignment of largest total similarity :math:`\sum_i s_{i,a_i}` with sizes within bounds is
    a transport problem: each code has ``least`` places that must be filled, and ``most - least``
    others. Its dual potentials are offsets :math:`b_k` with which a cell takes the code of largest
    :math:`s_{ik} + b_k`; each is put in the middle of the range in which no cell changes its code.
    Only identical cells can then exceed the bounds. The similarity is ``(n_cells, n_codes)``.
    """
    s = similarity.detach().cpu().double().numpy()  # N x K
    (n_cells, n_codes), (least, most) = s.shape, bounds
    sizes = np.bincount(s.argmax(1), minlength=n_codes)
    if sizes.min() >= least and sizes.max() <= most:
        return torch.zeros(n_codes, dtype=torch.double)
    import ot

    most = min(most, n_cells - (n_codes - 1) * least)
    cost = s.max() - s
    # the last row leaves places empty, those that must be filled at a cost that no cell has
    spare = np.repeat([2 * cost.max() + 1, 0.0], n_codes)
    supply, places = np.ones(n_cells + 1), np.repeat([least, most - least], n_codes)
    supply[-1] = places.sum() - n_cells
    rows = np.vstack([np.hstack([cost, cost]), spare])
    flow, log = ot.emd(supply, places.astype(float), rows, numItermax=10_000_000, log=True)
    assignment = (flow[:-1, :n_codes] + flow[:-1, n_codes:]).argmax(1)
    price = log["v"].reshape(2, n_codes)[: 1 + (most > least)].max(0)
    return torch.from_numpy(_centred(s, assignment, price))


def _centred(s: np.ndarray, assignment: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Prices in the middle of the range that leaves every cell its code."""
    n_codes = s.shape[1]
    gap = np.empty((n_codes, n_codes))  # least preference of the cells of a code to another code
    for code in range(n_codes):
        of_code = s[assignment == code]
        gap[code] = (of_code[:, [code]] - of_code).min(0, initial=np.inf)
        gap[code, code] = np.inf
    prices = prices - prices.mean()
    for _ in range(20):
        for code in range(n_codes):
            highest, lowest = (gap[:, code] + prices).min(), (prices - gap[code]).max()
            prices[code] = (highest + lowest) / 2
    return prices - prices.mean()
