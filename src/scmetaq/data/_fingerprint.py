import numpy as np
import scipy.sparse as sp

from ._cells import BLOCK, Cells


def fingerprints(counts: dict[str, sp.csr_matrix]) -> np.ndarray:
    """A number per cell that tells its counts from others', whatever its barcode.

    Each count is multiplied by a random number of its feature; the products are added up modulo
    two to the power of 64. Two cells with different counts have the same number with a probability
    of 5e-20.

    Parameters
    ----------
    counts
        Raw counts of all features by modality, ``(n_cells, n_features)`` each; empty rows for cells
        without it.

    Returns
    -------
    ``(n_cells,)`` int64.
    """
    found = []
    for seed, (_, of_kind) in enumerate(sorted(counts.items())):
        integers = sp.csr_matrix(
            (of_kind.data.astype(np.int64).view(np.uint64), of_kind.indices, of_kind.indptr),
            of_kind.shape,
        )
        of_feature = np.random.default_rng(seed).integers(
            np.iinfo(np.uint64).max, size=of_kind.shape[1], dtype=np.uint64, endpoint=True
        )
        found.append(integers @ of_feature)
    return np.sum(found, axis=0, dtype=np.uint64).view(np.int64)


def fingerprints_of(cells: Cells) -> np.ndarray:
    """Fingerprints of all cells, ``(n_cells,)`` int64."""
    starts = range(0, cells.n_cells, BLOCK)
    blocks = [slice(start, min(start + BLOCK, cells.n_cells)) for start in starts]
    return np.concatenate(
        [fingerprints({k: of.of(rows) for k, of in cells.counts.items()}) for rows in blocks]
    )
