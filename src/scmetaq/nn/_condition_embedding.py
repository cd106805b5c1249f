from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

EMBEDDING_DIM = 10
"""Dimension of each embedding by default, as in scPoli."""
_MAX_NORM = 1.0


def with_condition(values: Tensor, condition: Tensor) -> Tensor:
    """Values concatenated with the embedding of conditions, which has no columns without any."""
    return torch.cat([values, condition], 1) if condition.shape[1] else values


class ConditionEmbedding(nn.Module):
    """A vector for each category of each condition key, learnt or set.

    All start at zero: what distinguishes two categories has been estimated from their cells. After
    :meth:`freeze` the first categories of each key are in buffers, which no optimiser sees, and the
    parameters hold the other categories only.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """

    def __init__(self, n_categories: dict[str, int], n_each: int = EMBEDDING_DIM):
        super().__init__()
        self.keys, self.n_each = list(n_categories), n_each
        self.tables = nn.ParameterList(
            nn.Parameter(torch.zeros(n, n_each)) for n in n_categories.values()
        )
        self._has_frozen = False

    @property
    def n_dims(self) -> int:
        """Dimension of the concatenated vectors of all keys."""
        return self.n_each * len(self.keys)

    def table(self, key: str) -> Tensor:
        """Vectors of the categories of a key, of length one at most, ``(n_categories, n_each)``."""
        rows = self._rows(self.keys.index(key))
        return rows / rows.norm(dim=1, keepdim=True).clamp_min(_MAX_NORM)

    def _rows(self, i: int) -> Tensor:
        """Vectors of the categories of a key at full length, ``(n_categories, n_each)``."""
        new = self.tables[i]
        return torch.cat([getattr(self, f"frozen_{i}"), new]) if self._has_frozen else new

    @torch.no_grad()
    def set_tables(self, tables: list[Any]) -> None:
        """Set the first dimensions of each table, ``(n_categories, any)``; further ones are cut."""
        for own, given in zip(self.tables, tables, strict=True):
            values = torch.as_tensor(given, dtype=own.dtype, device=own.device)[:, : self.n_each]
            own.zero_()[:, : values.shape[1]] = values

    @torch.no_grad()
    def freeze(self, n_frozen: dict[str, int]) -> None:
        """Keep the first ``n_frozen`` categories of each key as they are."""
        rows = [self._rows(i).detach() for i in range(len(self.keys))]
        for i, key in enumerate(self.keys):
            self.register_buffer(f"frozen_{i}", rows[i][: n_frozen[key]].clone())
            self.tables[i] = nn.Parameter(rows[i][n_frozen[key] :].clone())
        self._has_frozen = True

    @torch.no_grad()
    def take_over(self, reference: "ConditionEmbedding") -> None:
        """Freeze the vectors of another, whose categories come first; others get their mean."""
        n_frozen = {}
        for i, key in enumerate(self.keys):
            known, n_all = reference._rows(i), len(self._rows(i))
            n_frozen[key] = len(known)
            further = known.mean(0).expand(n_all - len(known), -1)
            self.tables[i] = nn.Parameter(torch.cat([known, further]))
        self._has_frozen = False
        self.freeze(n_frozen)

    def forward(self, conditions: Tensor) -> Tensor:
        """Vectors of cells, ``(n_cells, n_dims)``, from their categories, ``(n_cells, n_keys)``."""
        found = [F.embedding(conditions[:, i], self.table(key)) for i, key in enumerate(self.keys)]
        return torch.cat(found, 1) if found else conditions.new_zeros(len(conditions), 0).float()
