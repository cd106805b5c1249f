"""Log-normalised counts."""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scmetaq.metrics._counts import log_normalise


def log_counts(adata: AnnData, layer: str | None, *, otherwise: str = "a layer") -> sp.csr_matrix:
    """log1p counts per 10k, ``(n_cells, n_features)``, in double precision.

    Parameters
    ----------
    adata
        Cells with raw counts. Not changed.
    layer
        Layer with the raw counts; None: ``X``.
    otherwise
        What a user without raw counts in ``X`` can name, for messages.

    Warns
    -----
    UserWarning
        Values are no whole numbers; the warning is for the caller of the caller.
    """
    if layer is not None and layer not in adata.layers:
        there = sorted(filter(None, adata.layers.keys()))
        raise KeyError(f"Expected `layer` to name a layer, found no {layer!r}. Layers: {there}.")
    counts: Any = adata.X if layer is None else adata.layers[layer]
    where = "`X`" if layer is None else f"layer {layer!r}"
    if counts is None:
        raise ValueError(f"Expected raw counts in {where}, found nothing. Name {otherwise}.")
    counts = sp.csr_matrix(counts, dtype=np.float64)
    if not (np.isfinite(counts.data) & (counts.data >= 0)).all():
        raise ValueError(
            f"Expected raw counts in {where}, found negative or missing values. Name {otherwise} "
            "with raw counts."
        )
    if (counts.data != np.floor(counts.data)).any():
        warnings.warn(
            f"Expected raw counts in {where}, found fractions. If these are normalised values, "
            f"name {otherwise} with raw counts.",
            UserWarning,
            stacklevel=3,
        )
    return log_normalise(counts, np.float64)
