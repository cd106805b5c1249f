from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.cluster import KMeans
from torch import Tensor, nn

from scmetaq._sketch import geometric_sketch

from ._code_index import FEWEST_CODES, CodeIndex, code_regions, region_means
from ._distances import (
    distances_to,
    distances_without,
    n_distinct,
    squared_distances,
    typical_distances,
)
from ._fitted import Fitted

CodebookInit = Literal["kmeans", "random", "geometric"]
Distance = Literal["cosine", "euclidean"]
N_QUANTILES = 1_001
"""Quantiles that are kept: at 0, 0.001, ..., 1."""

_MOST_ENTRIES = 2**26  # similarities of cells and codes that are held at once: 256 MB
_BLOCK: Final = 2**12
"""Cells that are looked up at once where there are many codes."""
_FEWEST_FOR_QUANTILES = 5
"""Cells of a code from which on their distances count in the quantiles."""


class Lookup(NamedTuple):
    """Nearest codes of a batch of cells."""

    assignment: Tensor
    """Index of the most similar code, ``(n_cells,)`` int64."""
    margin: Tensor
    """Best minus second-best similarity, ``(n_cells,)``."""


class CodebookState(NamedTuple):
    """What is known of the cells that codes were fitted to."""

    usage: Tensor
    """Share of the cells that use each code, ``(n_codes,)``."""
    offsets: Tensor
    """Added to similarities to bound sizes, ``(n_codes,)``; ``(0,)`` without bounds."""
    distance_quantiles: Tensor
    """Of squared distances in the learnt states of cells to the mean of the other cells of their
    code, ``(n_quantiles,)``."""
    typical_distance: Tensor
    """Distance from each code at which its cells typically are, ``(n_codes,)``."""
    n_cells: Tensor
    """Number of the cells."""
    region: Tensor
    """Region of each code, by which the nearest are found, ``(n_codes,)``; ``(0,)`` of few."""


class Codebook(Fitted[CodebookState]):
    r"""Codes in latent space, each of which stands for one metacell.

    Parameters
    ----------
    n_codes
        Number of codes, ``K``.
    n_latent
        Dimension of the latent, ``D``.
    distance
        Similarity of a cell and a code: ``"euclidean"``, minus the squared distance, or
        ``"cosine"`` (paper Eq. 5), which depends on directions from the origin only.

    Notes
    -----
    Looking up never changes the codebook; codes change by the named methods that training calls.
    """

    def __init__(self, n_codes: int, n_latent: int, *, distance: Distance = "euclidean"):
        super().__init__(_no_cells(n_codes, torch.zeros(0, dtype=torch.int64)))
        self.distance = distance
        self._indexes: dict[tuple[bool, bool], tuple[Any, CodeIndex, Tensor]] = {}
        self.codes = nn.Parameter(torch.empty(n_codes, n_latent))  # K x D
        nn.init.uniform_(self.codes, -1 / n_codes, 1 / n_codes)

    @property
    def n_codes(self) -> int:
        """Number of codes, ``K``."""
        return self.codes.shape[0]

    @property
    def is_bounded(self) -> bool:
        """Whether there are offsets."""
        return len(self.offsets) > 0

    def similarity(self, z: Tensor, weight: Tensor | None = None) -> Tensor:
        """Similarity of cells to codes, higher is nearer: ``(n_cells, n_codes)``.

        The ``weight`` of each dimension, ``(n_cells, n_latent)``, is one by default.
        """
        codes = self.codes.double() if z.dtype == torch.double else self.codes
        if self.distance == "cosine":
            return F.normalize(z) @ F.normalize(codes).T  # B x K
        return -squared_distances(z, codes, weight)  # B x K

    def preference(
        self, z: Tensor, group: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Similarity plus the offsets that keep sizes within bounds, ``(n_cells, n_codes)``.

        With the ``group`` of each code, ``(n_codes,)``, that for the best code of each group,
        ``(n_cells, n_groups)``.
        """
        found = self.similarity(self._precise(z), weight)
        if self.is_bounded:
            found = found + self.offsets  # B x K
        if group is None:
            return found
        best = torch.full((len(z), int(group.max()) + 1), -torch.inf).to(found)
        return best.scatter_reduce(1, group.expand(len(z), -1), found, "amax")

    @torch.no_grad()
    def assign(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Preference for the best code of each cell, and which code that is.

        Unlike a call of the codebook this never holds all similarities of many cells at once.
        """
        n_rows = _BLOCK if len(self.region) else max(1, _MOST_ENTRIES // self.n_codes)
        best = []
        for rows in z.split(n_rows):
            rows = rows.float() if rows.dtype == torch.half else rows
            if len(self.region):
                best.append([of[:, 0] for of in self._near(rows, 1, self.region)])
            else:
                best.append([*self.preference(rows).max(1)])
        return torch.cat([of[0] for of in best]), torch.cat([of[1] for of in best])

    def forward(
        self, z: Tensor, group: Tensor | None = None, weight: Tensor | None = None
    ) -> Lookup:
        """Most similar code, or group of codes, of each cell, and margin to the second, Eq. 5."""
        if len(self.region) and not self.training:
            return self._nearest(z, group, weight)
        best = self.preference(z, group, weight).topk(2, dim=1)  # B x 2
        return Lookup(best.indices[:, 0], (best.values[:, 0] - best.values[:, 1]).to(z.dtype))

    def nearest(self, z: Tensor, n: int, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Preference for the ``n`` best codes of each cell, best first, and which they are."""
        if len(self.region):
            return self._near(z, n, self.region, weight)
        found = self.preference(z, weight=weight).topk(n, dim=1)  # B x n
        return found.values, found.indices

    def _nearest(self, z: Tensor, group: Tensor | None, weight: Tensor | None) -> Lookup:
        """The same for many codes: those of the nearest regions, or groups, are compared."""
        value, which = self._near(z, 2, self.region, weight)
        best, first = value[:, :1], which[:, :1]
        if group is not None:  # of the same code: cuts are nested
            value, which = self._near(z, 1, group, weight)
            which, first = group[which], group[first]
        others = value.masked_fill(which == first, -torch.inf).amax(1, keepdim=True)
        return Lookup(first[:, 0], (best - others).clamp_min(0)[:, 0].to(z.dtype))

    def _near(
        self, z: Tensor, n_best: int, region: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Preference for the best codes of the nearest regions, and which they are, best first.

        Each is computed from the cell and the code alone, whatever cells come with it.
        """
        rows, codes = self._precise(z), self._precise(self.codes.detach())
        is_cosine = self.distance == "cosine"
        if is_cosine:
            rows, codes = F.normalize(rows), F.normalize(codes)

        def compare(code: Tensor) -> Tensor:
            each = rows * code if is_cosine else -(rows - code).square()
            return (each if weight is None else each * weight).sum(1)

        chosen = self._index(region).candidates(rows.to(self.codes.dtype), n_best)  # B x n
        if weight is not None:
            read = torch.cat([weight * rows, weight], 1).to(self.codes.dtype)
            weighted = self._index(region, is_weighted=True).candidates(read, n_best)
            chosen = torch.where((weight == 1).all(1, keepdim=True), chosen, weighted)
        value = torch.stack([compare(codes[of]) for of in chosen.T], 1)
        if self.is_bounded:
            value = value + self.offsets[chosen]
        value, order = value.sort(dim=1, descending=True, stable=True)
        return value, chosen.gather(1, order)

    def _precise(self, values: Tensor) -> Tensor:
        """Double precision, where the device has it: bounded, cells stand near the borders."""
        return values.double() if self.is_bounded and values.device.type != "mps" else values

    def _index(self, region: Tensor, *, is_weighted: bool = False) -> CodeIndex:
        """Index of the codes as they are, made when one of them or their regions have changed."""
        parts = (self.codes, self.offsets, region)
        key = [(id(of), of.device, 0 if of.is_inference() else of._version) for of in parts]
        slot = region is self.region, is_weighted
        if slot not in self._indexes or self._indexes[slot][0] != key:
            settings = {"is_cosine": self.distance == "cosine", "is_weighted": is_weighted}
            offsets = self.offsets if self.is_bounded else None
            index = CodeIndex.of(self.codes.detach(), region, offsets, **settings)
            self._indexes[slot] = key, index, region
        return self._indexes[slot][1]

    def merged(self, group: Tensor, n_groups: int) -> Tensor:
        """Means of the codes of each group by usage, ``(n_groups, n_latent)``."""
        weight = self.usage.clamp_min(1e-12)  # K
        total = torch.zeros(n_groups, self.codes.shape[1]).to(self.codes)  # n_groups x D
        total.index_add_(0, group, self.codes.detach() * weight[:, None])
        return total / torch.zeros(n_groups).to(weight).index_add_(0, group, weight)[:, None]

    def embed(self, assignment: Tensor) -> Tensor:
        """Codes of assigned cells, ``(n_cells, n_latent)``."""
        return F.embedding(assignment, self.codes)  # B x D

    def distances(self, z: Tensor, assignment: Tensor, weight: Tensor | None = None) -> Tensor:
        """Euclidean distances of cells to their codes, ``(n_cells,)``."""
        squares = (z - self.embed(assignment)).square()
        return (squares if weight is None else squares * weight).sum(1).sqrt()

    def count_cells(self, assignment: Tensor) -> Tensor:
        """Cells of each code, ``(n_codes,)``; unlike ``bincount`` this never waits for a device."""
        ones = torch.ones_like(assignment, dtype=self.usage.dtype)
        return torch.zeros_like(self.usage).index_add_(0, assignment, ones)

    @torch.no_grad()
    def set_codes(self, codes: Tensor) -> None:
        """Replace all codes, ``(n_codes, n_latent)``, and forget the cells of the old ones."""
        self.codes.copy_(codes)
        region = code_regions(codes) if self.n_codes >= FEWEST_CODES else self.region[:0]
        self.set_state(_no_cells(self.n_codes, region))

    @torch.no_grad()
    def set_offsets(self, offsets: Tensor) -> None:
        """Set what is added to the similarities of each code, ``(n_codes,)``."""
        is_none = not bool(offsets.any())
        self.offsets = offsets[:0].to(self.usage) if is_none else offsets.to(self.usage, copy=True)

    @torch.no_grad()
    def describe_cells(
        self, z: Tensor, assignment: Tensor, dimensions: Tensor, *, share: float = 1.0
    ) -> None:
        """Store usage and distances of (a share of) the cells that the codes were fitted to.

        These are their latents, ``(n_cells, D)``, and their codes, ``(n_cells,)``. Quantiles are
        of distances in the given ``dimensions``, ``(n_dims,)``.
        """
        size = self.count_cells(assignment)
        wide = z[:, dimensions], self.codes[:, dimensions]
        apart = distances_without(*wide, assignment, size=size / share)
        is_enough = size >= min(_FEWEST_FOR_QUANTILES, int(size.max()))
        known = apart[is_enough[assignment]].cpu().double().sort().values
        place = torch.linspace(0, len(known) - 1, N_QUANTILES).round().long()
        distances = distances_to(z, self.codes, assignment).sqrt()
        self.set_state(
            CodebookState(
                usage=size / len(z),
                offsets=self.offsets,
                distance_quantiles=known[place],
                typical_distance=typical_distances(distances, assignment, self.n_codes),
                n_cells=torch.tensor(len(z)),
                region=self.region,
            )
        )

    @torch.no_grad()
    def add_codes(self, codes: Tensor, n_cells: Tensor) -> None:
        """Add codes, ``(n_new, D)``; those there are, and their usage, stay as they are.

        Their usage is the number of cells of each, ``(n_new,)``, over that of the others.
        """
        region = self._regions_with(codes.to(self.codes))
        grown = torch.cat([self.codes.detach(), codes.to(self.codes)])
        self.codes = nn.Parameter(grown, requires_grad=self.codes.requires_grad)
        usage = n_cells.to(self.usage) / self.n_cells.clamp_min(1)
        offsets = torch.zeros_like(usage) if self.is_bounded else usage[:0]
        typical = self.typical_distance
        grown_state = self.state._replace(
            usage=torch.cat([self.usage, usage]),
            offsets=torch.cat([self.offsets, offsets]),
            typical_distance=torch.cat([typical, typical.median().expand(len(usage))]),
            region=region,
        )
        self.set_state(grown_state)

    def _regions_with(self, codes: Tensor) -> Tensor:
        """Regions of the codes and of further ones, which are those of the nearest centres."""
        if not len(self.region):
            return self.region
        centres = region_means(self.codes.detach(), self.region)
        return torch.cat([self.region, squared_distances(codes, centres).argmin(1)])

    @torch.no_grad()
    def claim_cells(self, z: Tensor) -> Tensor:
        """Give every code at least one of the cells ``z``: what guarantees K metacells.

        A code that no cell is nearest to takes the place of the cell that is least similar to its
        own code, of those that have others, until no code is empty. Where there are fewer distinct
        cells than codes, some stay so. Returned is the code of each cell, ``(n_cells,)``.
        """
        n_missing = None
        for _ in range(self.n_codes):
            best, assignment = self.assign(z)
            size = torch.bincount(assignment, minlength=self.n_codes)
            empty = torch.nonzero(size == 0)[:, 0]
            if len(empty) and n_missing is None:
                n_missing = max(0, self.n_codes - n_distinct(z))
            if len(empty) <= (n_missing or 0):
                return assignment
            if self.is_bounded:
                best = best - self.offsets[assignment]
            taken = torch.where(size[assignment] > 1, best, torch.inf).argsort()[: len(empty)]
            self.codes[empty] = z[taken].to(self.codes)
            if len(self.region):  # else the cells would not find them
                self.region[empty] = self.region[assignment[taken]]
                _, region = self.region.unique(return_inverse=True)  # none is empty
                self.set_state(self.state._replace(region=region))
            if self.is_bounded:
                self.offsets[empty] = self.offsets[assignment[taken]]
        return self.assign(z)[1]


def _no_cells(n_codes: int, region: Tensor) -> CodebookState:
    return CodebookState(
        usage=torch.zeros(n_codes),
        offsets=torch.zeros(0),
        distance_quantiles=torch.zeros(N_QUANTILES),
        typical_distance=torch.zeros(n_codes),
        n_cells=torch.tensor(0),
        region=region,
    )


def initial_codes(
    z: Tensor, n_codes: int, init: CodebookInit = "kmeans", *, seed: int = 0
) -> Tensor:
    """Return codes to start from, ``(n_codes, n_latent)``, given latents ``(n_cells, n_latent)``.

    ``init`` is ``"kmeans"`` for centres of k-means, ``"random"`` for cells drawn at random, or
    ``"geometric"`` for cells that cover the latent space evenly (geometric sketching, Hie et al.,
    Cell Systems 8 (2019), doi:10.1016/j.cels.2019.05.003).
    """
    if init == "kmeans":
        kmeans = KMeans(n_codes, n_init=1, random_state=seed).fit(z.cpu().numpy())
        return torch.from_numpy(kmeans.cluster_centers_).to(z)
    if init == "random":
        return z[np.random.default_rng(seed).choice(len(z), n_codes, replace=False)]
    return z[geometric_sketch(z.cpu().numpy(), n_codes, seed)]
