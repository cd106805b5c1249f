"""What a table of metrics says of each metacell."""

from typing import Any

import numpy as np
import pandas as pd

from scmetaq import _keys

WEIGHTED = ("compactness", "separation")
"""Metrics that come multiplied by ``n_metacells * size / n_cells`` of the metacell."""


def own_values(frame: pd.DataFrame) -> pd.Series:
    """Values free of the papers' weights by size, in the order of the table.

    Compactness and separation come weighted, so that their plain mean is a mean over cells; that
    says nothing about a single metacell. Without the rows of ``n_cells`` they stay as they are.

    Parameters
    ----------
    frame
        Table of ``scmetaq.metrics.evaluate``, of several methods with a column ``method``.
    """
    of = [column for column in ("method", "modality") if column in frame]
    keys = [*of, _keys.METACELL]
    if not set(keys) <= set(frame) or not (frame["metric"] == _keys.N_CELLS).any():
        return frame["value"]
    sizes = frame.loc[frame["metric"] == _keys.N_CELLS, [*keys, "value"]]
    mean: Any = sizes["value"].mean()
    if of:
        mean = sizes.groupby(of, dropna=False)["value"].transform("mean")
    sizes = sizes.assign(weight=sizes["value"] / mean).drop(columns="value").drop_duplicates(keys)
    weight = frame[keys].merge(sizes, on=keys, how="left")["weight"].to_numpy()
    is_weighted = frame["metric"].isin(WEIGHTED).to_numpy() & ~np.isnan(weight)
    return frame["value"] / np.where(is_weighted, weight, 1)
