import numpy as np
import torch
from torch import Tensor

_SWEEPS = 60
"""Most rounds in which all prices are moved at once."""


def bounded_sizes(similarity: Tensor, offsets: Tensor, least: int, most: int) -> Tensor:
    r"""Offsets of codes under which each is the best one of an allowed number of cells.

    A cell takes the code of largest :math:`s_{ik} + b_k`. Among all assignments with the same
    sizes this one has the largest total similarity, whatever :math:`b`, and every assignment that
    is best for its sizes has such offsets: they are the prices of a transport problem. Prices are
    first moved towards the bounds all at once; then single cells are passed on along shortest
    paths between codes, which keeps the assignment best for its sizes; in the end each price is
    put in the middle of the range in which no cell changes its mind.

    Parameters
    ----------
    similarity
        Similarity of cells and codes, ``(n_cells, n_codes)``.
    offsets
        Where to start, ``(n_codes,)``, for example zeros.
    least, most
        Fewest and most cells of a code, with ``n_codes * least <= n_cells <= n_codes * most``.

    Returns
    -------
    Offsets, ``(n_codes,)`` in double precision, of mean zero. Sizes are within the bounds unless
    cells that are equally similar to all codes, such as identical ones, stand in the way.

    References
    ----------
    Bradley, Bennett and Demiriz, Constrained k-means clustering, MSR-TR-2000-65 (2000).
    Bertsekas, Linear Network Optimization (MIT Press, 1991), shortest augmenting paths.
    """
    s = similarity.detach().double().cpu().numpy()  # N x K
    prices = _approached(s, offsets.detach().double().cpu().numpy(), least, most)
    state = _Flow(s, prices)
    state.balance(least, most)
    prices = state.centred()
    return torch.from_numpy(prices - prices.mean())


def _approached(s: np.ndarray, prices: np.ndarray, least: int, most: int) -> np.ndarray:
    """Prices under which few sizes are out of bounds."""
    best, fewest = prices, np.inf
    for sweep in range(_SWEEPS):
        values = s + prices  # N x K
        first = values.argmax(1)
        sizes = np.bincount(first, minlength=len(prices))
        excess = np.maximum(sizes - most, 0).sum() + np.maximum(least - sizes, 0).sum()
        if excess < fewest:
            best, fewest = prices.copy(), excess
        if excess == 0:
            break
        rows = np.arange(len(s))
        top = values[rows, first]
        values[rows, first] = -np.inf
        second = values.max(1)
        values[rows, first] = top
        step = 1 / (1 + sweep / 10)
        prices = prices.copy()
        for code in np.flatnonzero((sizes > most) | (sizes < least)):
            rival = np.where(first == code, second, top)
            gap = np.sort(values[:, code] - rival)[::-1]  # positive: its cells
            wanted = most if sizes[code] > most else least
            prices[code] -= step * (gap[wanted - 1] + gap[min(wanted, len(gap) - 1)]) / 2
    return best


class _Flow:
    """An assignment that is best for its sizes, and what it costs to pass cells between codes."""

    def __init__(self, s: np.ndarray, prices: np.ndarray):
        self.s = s
        self.prices = prices
        self.assignment = (s + prices).argmax(1)
        self.sizes = np.bincount(self.assignment, minlength=len(prices))
        self.cost = np.full((len(prices), len(prices)), np.inf)  # K x K
        self.cheapest = np.zeros((len(prices), len(prices)), dtype=np.int64)
        for code in range(len(prices)):
            self._update(code)

    def _update(self, code: int) -> None:
        """Cheapest cell of a code to give to each other code, and its loss of similarity."""
        cells = np.flatnonzero(self.assignment == code)
        self.cost[code] = np.inf
        if len(cells):
            loss = self.s[cells, code][:, None] - self.s[cells]
            least = loss.argmin(0)
            self.cheapest[code] = cells[least]
            self.cost[code] = loss[least, np.arange(loss.shape[1])]
            self.cost[code, code] = np.inf

    def balance(self, least: int, most: int) -> None:
        """Pass cells on until all sizes are within the bounds."""
        for code in np.flatnonzero(self.sizes > most):
            while self.sizes[code] > most:
                self._pass_on(self._shortest(code, self.sizes < most, self.cost, 1))
        for code in np.flatnonzero(self.sizes < least):
            while self.sizes[code] < least:
                path = self._shortest(code, self.sizes > least, self.cost.T, -1)
                self._pass_on(path[::-1])

    def _shortest(self, start: int, is_goal: np.ndarray, cost: np.ndarray, sign: int) -> list[int]:
        """Codes on the shortest path from one to the nearest goal (Dijkstra); prices follow."""
        n = len(self.prices)
        distance, before = np.full(n, np.inf), np.full(n, -1)
        is_done = np.zeros(n, dtype=bool)
        distance[start] = 0
        while True:
            code = int(np.where(is_done, np.inf, distance).argmin())
            if is_goal[code]:
                break
            is_done[code] = True
            reduced = cost[code] + sign * (self.prices[code] - self.prices)
            reached = distance[code] + np.maximum(reduced, 0)
            nearer = (reached < distance) & ~is_done
            distance[nearer], before[nearer] = reached[nearer], code
        self.prices = self.prices + sign * np.minimum(distance, distance[code])
        path = [code]
        while path[-1] != start:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def _pass_on(self, path: list[int]) -> None:
        """Move a cell along each step of a path of codes."""
        moves = [(self.cheapest[a, b], b) for a, b in zip(path[:-1], path[1:], strict=True)]
        for cell, code in moves:
            self.assignment[cell] = code
        self.sizes[path[0]] -= 1
        self.sizes[path[-1]] += 1
        for code in path:
            self._update(code)

    def centred(self, n_sweeps: int = 30) -> np.ndarray:
        """Prices in the middle of the range that leaves every cell its code."""
        prices = self.prices.copy()
        for _ in range(n_sweeps):
            for code in range(len(prices)):
                highest = (self.cost[:, code] + prices).min()
                lowest = (prices - self.cost[code]).max()
                if np.isfinite(highest - lowest):
                    prices[code] = (highest + lowest) / 2
        return prices
