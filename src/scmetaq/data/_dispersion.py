"""Ranking of features by their dispersion."""

import numpy as np
import pandas as pd


def normalised_dispersion(mean: np.ndarray, square: np.ndarray, n_cells: int) -> np.ndarray:
    """Log variance over mean of counts per 10k, z-scored among features of like mean.

    Of the mean and the mean square of each feature. The numbers of
    ``scanpy.pp.highly_variable_genes`` (flavour "seurat", 20 bins), without the seconds that its
    compilation takes in every process; minus infinity for constant features.
    """
    variance = np.maximum(square - mean**2, 0) * n_cells / max(n_cells - 1, 1)
    mean = np.where(mean == 0, 1e-12, mean)
    with np.errstate(divide="ignore"):
        dispersion = pd.Series(np.log(variance / mean)).replace(-np.inf, np.nan)
    of_bin = dispersion.groupby(pd.cut(np.log1p(mean), 20), observed=True)
    centre, spread = of_bin.transform("mean"), of_bin.transform("std")
    alone = spread.isna()  # a bin of one feature: its z-score is one
    z = (dispersion - centre.mask(alone, 0)) / spread.mask(alone, centre)
    return z.fillna(-np.inf).to_numpy()
