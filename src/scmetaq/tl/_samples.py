"""What is read of samples: coordinates and columns about them."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

COMPONENTS = "X_pca"
"""Entry of ``obsm`` with the principal components of samples."""


def coordinates(samples: Any, use_rep: str | None) -> np.ndarray:
    """An embedding of samples, ``(n_samples, n_dims)``; None: ``X``."""
    if not isinstance(samples, AnnData):
        raise TypeError(
            f"Expected `samples` as an AnnData, found {type(samples).__name__}. Of "
            "`get_condition_embeddings()` pass the entry of one key."
        )
    if use_rep is not None and use_rep not in samples.obsm:
        raise KeyError(
            f"Expected `use_rep` to name an entry of `obsm`, found no {use_rep!r}. Entries there: "
            f"{sorted(map(str, samples.obsm))}. Compute components, e.g. by `sc.pp.pca`."
        )
    found: Any = samples.X if use_rep is None else samples.obsm[use_rep]
    values = np.asarray(found.todense() if hasattr(found, "todense") else found, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(
            f"Expected finite coordinates of the samples, found {int((~np.isfinite(values)).sum())}"
            " missing or infinite values."
        )
    return values


def column_of(samples: AnnData, name: str, what: str) -> pd.Series:
    """A column of ``obs``."""
    if name not in samples.obs:
        raise KeyError(
            f"Expected `{what}` to name columns of `obs` of the samples, found no {name!r}. "
            f"Columns there: {sorted(map(str, samples.obs.columns))}. Of a model's embeddings "
            "these are the columns that are the same in all cells of a sample."
        )
    return samples.obs[name]
