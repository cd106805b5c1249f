import numpy as np
import pandas as pd


def stratified_sample(
    categories: np.ndarray, n_most: int, *, n_each: int, seed: int = 0
) -> np.ndarray:
    """A random sample of cells in which no category is rare that is not rare altogether.

    Parameters
    ----------
    categories
        Category of each cell in several ways, ``(n_cells, n_ways)``; negative for none.
    n_most
        Most cells to take; all are taken where there are no more.
    n_each
        Cells of every category to take first, as far as there are so many and room for them.
    seed
        Seed of the choice.

    Returns
    -------
    Sorted indices, ``(min(n_most, n_cells),)`` int64.
    """
    order = np.random.default_rng(seed).permutation(len(categories))
    if len(order) <= n_most:
        return np.sort(order)
    is_first = np.zeros(len(order), bool)
    for of_way in categories[order].T:
        rank = pd.Series(of_way).groupby(of_way).cumcount().to_numpy()
        is_first |= (rank < n_each) & (of_way >= 0)
    return np.sort(np.concatenate([order[is_first], order[~is_first]])[:n_most])
