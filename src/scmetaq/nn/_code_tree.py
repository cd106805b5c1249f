import numpy as np
import torch
from torch import Tensor


def merge_codes(codes: Tensor, n_cells: Tensor) -> Tensor:
    r"""Tree of codes: which two groups are merged at each step, least loss first.

    The loss of a merger is Ward's: what the squared distances of cells to their code grow by,
    :math:`\frac{n_a n_b}{n_a + n_b} \|c_a - c_b\|^2`. It never falls on the way up, so that cuts
    at any number of groups are nested.

    Parameters
    ----------
    codes
        ``(n_codes, n_latent)``.
    n_cells
        Cells of each code, or shares of them, ``(n_codes,)``; codes without cells merge first.

    Returns
    -------
    ``(n_codes - 1, 2)`` int64: the groups merged at each step, those made by earlier steps being
    numbered on from ``n_codes``.

    Notes
    -----
    Groups that are each other's nearest are merged in whatever order they are met, which makes the
    same tree as always merging the nearest two, in time and memory that grow with the square of
    the number of codes (nearest-neighbour chain, Murtagh 1983, doi:10.1093/comjnl/26.4.354).
    """
    weight = n_cells.detach().cpu().double().numpy().clip(1e-12)
    pairs, heights = _chain(_ward_losses(codes.detach().cpu().double(), weight), weight)
    return torch.from_numpy(_numbered(pairs[np.argsort(heights, kind="stable")]))


def _ward_losses(centres: Tensor, weight: np.ndarray) -> np.ndarray:
    """Loss of merging any two codes, ``(n_codes, n_codes)``, infinite on the diagonal."""
    loss: np.ndarray = torch.cdist(centres, centres).square_().cpu().numpy()
    for row, own in zip(loss, weight, strict=True):
        row *= weight * own / (weight + own)
    np.fill_diagonal(loss, np.inf)
    return loss


def _chain(loss: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the groups merged, one of each, and the losses of the mergers, in any order."""
    n = len(loss)
    height = np.zeros(n)  # of the group in each row
    is_left = np.ones(n, dtype=bool)
    pairs, heights = np.empty((n - 1, 2), dtype=np.int64), np.empty(n - 1)
    chain: list[int] = []
    for step in range(n - 1):
        if not chain:
            chain.append(int(is_left.argmax()))
        a, b = _nearest_pair(loss, chain)
        # rounding must not put a merger before those that it is made of
        height[a] = heights[step] = max(loss[a, b], height[a], height[b])
        pairs[step] = a, b
        row = _losses_of_merged(loss, weight, a, b)
        weight[a] += weight[b]
        is_left[b] = False
        loss[b], loss[:, b] = np.inf, np.inf
        loss[a], loss[:, a] = row, row
    return pairs, heights


def _nearest_pair(loss: np.ndarray, chain: list[int]) -> tuple[int, int]:
    """Follow nearest groups until two are each other's, and take these off the chain."""
    while True:
        last = chain[-1]
        nearest = int(loss[last].argmin())
        if len(chain) > 1 and loss[last, chain[-2]] <= loss[last, nearest]:
            return chain.pop(), chain.pop()
        chain.append(nearest)


def _losses_of_merged(loss: np.ndarray, weight: np.ndarray, a: int, b: int) -> np.ndarray:
    """Losses of merging any group with the union of two, by Lance and Williams, ``(n_codes,)``."""
    row: np.ndarray = (weight + weight[a]) * loss[a] + (weight + weight[b]) * loss[b]
    row = (row - weight * loss[a, b]) / (weight + weight[a] + weight[b])
    row[[a, b]] = np.inf
    return row


def _numbered(pairs: np.ndarray) -> np.ndarray:
    """Groups merged at each step by their numbers, from one code of each."""
    n = len(pairs) + 1
    parent, number = list(range(n)), list(range(n))
    numbered = np.empty_like(pairs)
    for step, pair in enumerate(pairs.tolist()):
        roots = [_root(parent, code) for code in pair]
        numbered[step] = [number[root] for root in roots]
        parent[roots[1]] = roots[0]
        number[roots[0]] = n + step
    return numbered


def _root(parent: list[int], code: int) -> int:
    while parent[code] != code:
        parent[code] = parent[parent[code]]
        code = parent[code]
    return code


def cut_tree(merges: Tensor, n_groups: int) -> Tensor:
    """Group of each code when so many are left, ``(n_codes,)``, numbered by their first codes.

    Parameters
    ----------
    merges
        Output of :func:`merge_codes`.
    n_groups
        Number of groups, from one to the number of codes.
    """
    n = len(merges) + 1
    members = [[code] for code in range(n)]
    gone = set()
    for a, b in merges[: n - n_groups].tolist():
        members.append(members[a] + members[b])
        gone |= {a, b}
    kept = [codes for number, codes in enumerate(members) if number not in gone]
    group = torch.empty(n, dtype=torch.long)
    for number, codes in enumerate(sorted(kept, key=min)):
        group[codes] = number
    return group
