"""Correlations between blocks of cells, on JAX's default device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scmetaq._parallel import in_parts
from scmetaq._progress import with_progress

from ._groups import unit_rows


@jax.jit
def best_of_block(
    here: jax.Array, codes_here: jax.Array, there: jax.Array, codes_there: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Best correlation between two blocks, per row and per column, same metacell left out."""
    # full float32: accelerators would otherwise round the products to about 3 digits
    correlation = jnp.matmul(here, there.T, precision=jax.lax.Precision.HIGHEST)  # B x B
    padded = (codes_here < 0)[:, None] | (codes_there < 0)[None, :]
    same = codes_here[:, None] == codes_there[None, :]
    correlation = jnp.where(same | padded, -jnp.inf, correlation)
    return correlation.max(axis=1), correlation.max(axis=0)


def nearest_outside(
    X: Any, codes: np.ndarray, block_size: int, asking: np.ndarray, among: np.ndarray | None = None
) -> np.ndarray:
    """Largest correlation of asking rows with one of another metacell, among some or themselves.

    The smaller of two sets is held dense in memory; blocks of the other are read one by one.
    """
    few, many = (asking, asking) if among is None else sorted((asking, among), key=len)

    def block(rows: np.ndarray, i: int) -> tuple[Any, np.ndarray]:
        at = rows[i * block_size : (i + 1) * block_size]
        return X[at], codes[at]

    n_few, n_many = (-(-len(of) // block_size) for of in (few, many))
    best = np.full((-(-len(asking) // block_size), block_size), -np.inf, dtype=np.float32)
    if among is None:
        for j in with_progress(range(n_many), "Separation", n_many):
            there = _units(block_size, *block(many, j))
            for i in range(j + 1):  # a block of correlations serves its rows and its columns
                here = there if i == j else _units(block_size, *block(few, i))
                for k, found in zip((i, j), best_of_block(*here, *there), strict=True):
                    np.maximum(best[k], found, out=best[k])
        return best.ravel()[: len(asking)].astype(np.float64)
    held = [_units(block_size, *block(few, i)) for i in range(n_few)]
    parts = (block(many, j) for j in range(n_many))
    options: dict[str, Any] = {"n_parts": n_many, "shown_as": "Separation"}
    options["is_local"] = jax.default_backend() != "cpu"
    results = in_parts(_best_of_part, (block_size, held), parts, **options)
    for j, (of_few, of_many) in enumerate(results):
        if few is asking:
            np.maximum(best, of_few, out=best)
        else:
            best[j] = of_many
    return best.ravel()[: len(asking)].astype(np.float64)


def _best_of_part(
    shared: tuple[int, list[tuple[jax.Array, jax.Array]]], part: tuple[Any, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Best correlation of each row that is held with a part, and of its rows with those held."""
    block_size, held = shared
    there = _units(block_size, *part)
    found = [best_of_block(*here, *there) for here in held]
    return np.stack([of[0] for of in found]), np.max([of[1] for of in found], axis=0)


def _units(block_size: int, rows: Any, codes: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Unit rows and codes, padded so that every block has the same shape."""
    padding = (0, block_size - len(codes))
    units = np.pad(unit_rows(rows).astype(np.float32), (padding, (0, 0)))  # B x F
    return jnp.asarray(units), jnp.asarray(np.pad(codes, padding, constant_values=-1))
