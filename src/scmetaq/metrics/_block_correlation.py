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


def nearest_outside(X: Any, rows: np.ndarray, codes: np.ndarray, block_size: int) -> np.ndarray:
    """Largest correlation of each row with a row of another metacell, shape ``(len(rows),)``."""
    starts = range(0, len(rows), block_size)
    best = np.full(len(starts) * block_size, -np.inf, dtype=np.float32)
    for start in starts:
        here = padded_block(X, rows, codes, start, block_size)
        for other in range(start, len(rows), block_size):
            same = other == start
            there = here if same else padded_block(X, rows, codes, other, block_size)
            # the block of correlations serves its rows and its columns
            of_here, of_there = best_of_block(*here, *there)
            for at, found in ((start, of_here), (other, of_there)):
                window = best[at : at + block_size]
                np.maximum(window, found, out=window)
    return best[: len(rows)].astype(np.float64)


def nearest_of_sample(
    X: Any, rows: np.ndarray, codes: np.ndarray, sample: np.ndarray, block_size: int
) -> np.ndarray:
    """Largest correlation of each sampled row with any row of another metacell."""
    asking = [
        padded_block(X, rows[sample], codes[sample], start, block_size)
        for start in range(0, len(sample), block_size)
    ]
    best = np.full((len(asking), block_size), -np.inf, dtype=np.float32)
    for start in range(0, len(rows), block_size):
        there = padded_block(X, rows, codes, start, block_size)
        for window, here in zip(best, asking, strict=True):
            np.maximum(window, best_of_block(*here, *there)[0], out=window)
    return best.ravel()[: len(sample)].astype(np.float64)
