import numpy as np
import torch
from torch import Tensor


def bounded_sizes(similarity: Tensor, least: int, most: int) -> Tensor:
    r"""Offsets of codes under which each is the best one of an allowed number of cells.

    A cell takes the code of largest :math:`s_{ik} + b_k`. Wanted is the assignment of largest total
    similarity with sizes within the bounds; the offsets are the prices of that transport problem,
    positive only for codes with the fewest cells allowed, negative only for those with the most.
    Starting from the most similar codes, what is out of bounds is passed on cell by cell along
    shortest paths between codes, which ends at the optimum; then each price is put in the middle
    of the range in which no cell changes its code.

    Parameters
    ----------
    similarity
        Similarity of cells and codes, ``(n_cells, n_codes)``.
    least, most
        Fewest and most cells of a code, with ``n_codes * least <= n_cells <= n_codes * most``.

    Returns
    -------
    Offsets, ``(n_codes,)`` in double precision, zeros if none are needed. With them all sizes are
    within the bounds, unless cells that no offsets can tell apart, such as identical ones, stand
    in the way.

    References
    ----------
    Bradley, Bennett and Demiriz, Constrained k-means clustering, MSR-TR-2000-65 (2000).
    Ahuja, Magnanti and Orlin, Network flows (1993), successive shortest paths.
    """
    s = similarity.detach().cpu().double().numpy()  # N x K
    flow = _Flow(s, least, most)
    if not flow.excess.any():
        return torch.zeros(s.shape[1], dtype=torch.double)
    flow.balance()
    return torch.from_numpy(flow.centred_prices())


class _Flow:
    """Cells flow to codes, and from codes to a drain through pipes of bounded width.

    The drain is node ``K``. What a code has beyond the flow of its pipe is its excess.
    """

    def __init__(self, s: np.ndarray, least: int, most: int):
        self.s, self.least, self.most = s, least, most
        self.n_codes = n = s.shape[1]
        self.assignment = s.argmax(1)
        sizes = np.bincount(self.assignment, minlength=n)
        self.pipe = np.clip(sizes, least, most)
        self.excess = np.append(sizes - self.pipe, self.pipe.sum() - len(s))
        self.prices = np.zeros(n + 1)
        self.cost = np.full((n + 1, n + 1), np.inf)
        self.cheapest = np.zeros((n, n), dtype=np.int64)
        for code in range(n):
            self._update(code)

    def _update(self, code: int) -> None:
        """Cost of passing a cell of a code on to each other one, and which cell that is."""
        n = self.n_codes
        cells = np.flatnonzero(self.assignment == code)
        self.cost[code] = np.inf
        if len(cells):
            loss = self.s[cells, code][:, None] - self.s[cells]
            first = loss.argmin(0)
            self.cheapest[code] = cells[first]
            self.cost[code, :n] = loss[first, np.arange(n)]
            self.cost[code, code] = np.inf
        self.cost[code, n] = 0 if self.pipe[code] < self.most else np.inf
        self.cost[n, code] = 0 if self.pipe[code] > self.least else np.inf

    def balance(self) -> None:
        """Pass cells on until no node has too many or too few."""
        for node in np.flatnonzero(self.excess > 0):
            while self.excess[node] > 0:
                self._pass_on(self._shortest_path(int(node)))

    def _shortest_path(self, start: int) -> list[int]:
        """Nodes on the shortest path to one that has too few (Dijkstra); prices follow."""
        distance = np.full(self.n_codes + 1, np.inf)
        before = np.full(self.n_codes + 1, -1)
        is_open = np.ones(self.n_codes + 1, dtype=bool)
        distance[start] = 0
        while True:
            node = int(np.where(is_open, distance, np.inf).argmin())
            if self.excess[node] < 0:
                break
            is_open[node] = False
            reduced = np.maximum(self.cost[node] + self.prices[node] - self.prices, 0)
            nearer = is_open & (distance[node] + reduced < distance)
            distance[nearer] = distance[node] + reduced[nearer]
            before[nearer] = node
        self.prices += np.minimum(distance, distance[node])
        self.prices -= self.prices[-1]
        path = [node]
        while path[-1] != start:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def _pass_on(self, path: list[int]) -> None:
        """Move one cell along each step of a path, or widen or narrow the flow of a pipe."""
        drain = self.n_codes
        steps = list(zip(path[:-1], path[1:], strict=True))
        cells = [None if drain in step else self.cheapest[step] for step in steps]
        for (a, b), cell in zip(steps, cells, strict=True):
            if cell is not None:
                self.assignment[cell] = b
            elif b == drain:
                self.pipe[a] += 1
            else:
                self.pipe[b] -= 1
        self.excess[path[0]] -= 1
        self.excess[path[-1]] += 1
        for node in path:
            if node != drain:
                self._update(node)

    def centred_prices(self, n_sweeps: int = 20) -> np.ndarray:
        """Prices in the middle of the range that leaves every cell its code."""
        n = self.n_codes
        prices, cost = self.prices[:n].copy(), self.cost[:n, :n]
        for _ in range(n_sweeps):
            for code in range(n):
                highest = (cost[:, code] + prices).min()
                lowest = (prices - cost[code]).max()
                prices[code] = (highest + lowest) / 2
        return prices - prices.mean()
