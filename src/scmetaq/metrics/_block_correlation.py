"""Correlations between blocks of cells, on JAX's default device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scmetaq.metrics._matrix import unit_rows


def padded_block(
    X: Any, rows: np.ndarray, codes: np.ndarray, start: int, block_size: int
) -> tuple[jax.Array, jax.Array]:
    """Unit rows and codes of one block, padded so that every block has the same shape."""
    stop = min(start + block_size, len(rows))
    padding = block_size - (stop - start)
    units = unit_rows(X[rows[start:stop]]).astype(np.float32)  # B x F
    units = np.pad(units, ((0, padding), (0, 0)))
    return jnp.asarray(units), jnp.asarray(
        np.pad(codes[start:stop], (0, padding), constant_values=-1)
    )


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
