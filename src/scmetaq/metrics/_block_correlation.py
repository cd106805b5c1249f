"""Correlations between blocks of cells, on JAX's default device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
    X: Any,
    codes: np.ndarray,
    asking: np.ndarray,
    among: np.ndarray | None = None,
    *,
    block_size: int,
) -> np.ndarray:
    """Largest correlation of each asking row with one of another metacell, among some or these.

    The smaller set is held dense in memory, the other one is read a block at a time.
    """

    def block(rows: np.ndarray, i: int) -> tuple[jax.Array, jax.Array]:
        """Unit rows and codes, padded so that every block has the same shape."""
        at = rows[i * block_size : (i + 1) * block_size]
        units = unit_rows(X[at]).astype(np.float32)  # B x F
        padding = (0, block_size - len(at))
        padded = np.pad(units, (padding, (0, 0))), np.pad(codes[at], padding, constant_values=-1)
        return jnp.asarray(padded[0]), jnp.asarray(padded[1])

    def n_blocks(rows: np.ndarray) -> int:
        return -(-len(rows) // block_size)

    best = np.full((n_blocks(asking), block_size), -np.inf, dtype=np.float32)
    if among is None:  # a block of correlations serves its rows and its columns
        for j in range(len(best)):
            there = block(asking, j)
            for i in range(j + 1):
                of_here, of_there = best_of_block(*(there if i == j else block(asking, i)), *there)
                np.maximum(best[i], of_here, out=best[i])
                np.maximum(best[j], of_there, out=best[j])
    else:
        held, read = sorted((asking, among), key=len)
        blocks = [block(held, i) for i in range(n_blocks(held))]
        for j in range(n_blocks(read)):
            there = block(read, j)
            for i, here in enumerate(blocks):
                at, of_asking = (i, 0) if held is asking else (j, 1)
                np.maximum(best[at], best_of_block(*here, *there)[of_asking], out=best[at])
    return best.ravel()[: len(asking)].astype(np.float64)
