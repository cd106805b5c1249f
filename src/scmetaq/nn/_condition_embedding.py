import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

EMBEDDING_DIM = 10
"""Dimension of each embedding, as in scPoli."""
_MAX_NORM = 1.0


def beside(values: Tensor, condition: Tensor) -> Tensor:
    """Values with the embedding of conditions beside them, where there are any.

    Parameters
    ----------
    values
        ``(n_cells, n_values)``.
    condition
        ``(n_cells, n_dims)``, ``n_dims`` being zero without conditions.
    """
    return torch.cat([values, condition], 1) if condition.shape[1] else values


class ConditionEmbedding(nn.Module):
    """A learnable vector for each category of each condition key.

    All start at zero: what then tells two categories apart has been learnt from their cells.

    Parameters
    ----------
    n_categories
        Number of categories of each key, by its name.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """

    def __init__(self, n_categories: dict[str, int]):
        super().__init__()
        self.keys = list(n_categories)
        self.tables = nn.ParameterList(
            nn.Parameter(torch.zeros(n, EMBEDDING_DIM)) for n in n_categories.values()
        )

    @property
    def n_dims(self) -> int:
        """Dimension of the vectors of all keys side by side."""
        return EMBEDDING_DIM * len(self.keys)

    def table(self, key: str) -> Tensor:
        """Vectors of the categories of a key, of length one at most, ``(n_categories, 10)``."""
        rows = self.tables[self.keys.index(key)]
        return rows / rows.norm(dim=1, keepdim=True).clamp_min(_MAX_NORM)

    def forward(self, conditions: Tensor) -> Tensor:
        """Vectors of cells.

        Parameters
        ----------
        conditions
            Category of each key, ``(n_cells, n_keys)`` int64.

        Returns
        -------
        ``(n_cells, n_dims)``.
        """
        found = [F.embedding(conditions[:, i], self.table(key)) for i, key in enumerate(self.keys)]
        return torch.cat(found, 1) if found else conditions.new_zeros(len(conditions), 0).float()
