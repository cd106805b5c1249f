"""Correlations between blocks of cells, on JAX's default device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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

    def block(rows: np.ndarray, i: int) -> tuple[jax.Array, jax.Array]:
        """Unit rows and codes, padded so that every block has the same shape."""
        at = rows[i * block_size : (i + 1) * block_size]
        units = unit_rows(X[at]).astype(np.float32)  # B x F
        padding = (0, block_size - len(at))
        padded = np.pad(units, (padding, (0, 0))), np.pad(codes[at], padding, constant_values=-1)
        return jnp.asarray(padded[0]), jnp.asarray(padded[1])

    best = np.full((-(-len(asking) // block_size), block_size), -np.inf, dtype=np.float32)
    few, many = (asking, asking) if among is None else sorted((asking, among), key=len)
    held = [] if among is None else [block(few, i) for i in range(-(-len(few) // block_size))]
    n_many = -(-len(many) // block_size)
    for j in with_progress(range(n_many), "Separation", n_many):
        there = block(many, j)
        for i in range(len(held) or j + 1):
            here = held[i] if held else there if i == j else block(many, i)
            # the block of correlations serves its rows and, if all ask, its columns
            of_here, of_there = best_of_block(*here, *there)
            if few is asking:
                np.maximum(best[i], of_here, out=best[i])
            if many is asking:
                np.maximum(best[j], of_there, out=best[j])
    return best.ravel()[: len(asking)].astype(np.float64)
