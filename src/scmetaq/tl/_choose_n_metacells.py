"""How many metacells the cells can bear."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scmetaq._errors import InputTypeError


def choose_n_metacells(model: Any, grid: Sequence[int] | None = None) -> pd.DataFrame:
    r"""Suggest the number of metacells beyond which more of them no longer describe cells better.

    The metacells of a trained model are merged to each number of the grid. The paper's similarity
    difference levels off and its reconstruction ratio keeps rising: neither has an optimum. The
    suggestion comes from how well the *other* cells of its metacell predict a cell,

    .. math::
        \frac{1}{N D} \sum_i \Big\| z_i - \frac{1}{n_i - 1} \sum_{j \ne i,\, a_j = a_i} z_j \Big\|^2

    with :math:`n_i` the cells of the metacell of cell :math:`i`. Too few metacells mix states; too
    many follow the noise of single cells, and their means are noisy. Suggested is the smallest
    number whose error exceeds the lowest by no more than one standard error of the difference
    :cite:p:`Breiman84`.

    Parameters
    ----------
    model
        Trained :class:`~scmetaq.MetaQModel`, best with one metacell per 10 cells: only numbers up
        to its own can be tried.
    grid
        Numbers to try, each from 2 to the ``n_metacells`` of the model. By default 20 of them,
        evenly spaced in their logarithm, from a fiftieth of the model's number.

    Returns
    -------
    The table of :meth:`~scmetaq.MetaQModel.get_granularity_report`, one row per number. In its
    ``attrs``: ``"suggested"``, the number; ``"reached"``, whether the error has its lowest value
    before the end of the grid; ``"advice"``, what to do, in words.

    Raises
    ------
    TypeError, ValueError
        Not a trained model that can be cut, or a grid that is empty or holds numbers that are not
        whole or out of range.

    Examples
    --------
    >>> adata = scmetaq.data.demo_batches()
    >>> scmetaq.MetaQModel.setup_anndata(adata)
    >>> model = scmetaq.MetaQModel(adata, n_metacells=adata.n_obs // 10)
    >>> model.train()
    >>> curve = scmetaq.tl.choose_n_metacells(model)
    >>> metacells = model.get_metacells(n_metacells=curve.attrs["suggested"])
    """
    if not hasattr(model, "get_granularity_report"):
        raise InputTypeError(f"Expected a trained MetaQModel, found {type(model).__name__}.")
    if not isinstance(grid, Sequence | np.ndarray | None):
        raise InputTypeError(f"Expected `grid` as a list of numbers of metacells, found {grid!r}.")
    if grid is None:
        largest = model.n_metacells
        numbers = np.geomspace(max(2, largest / 50), largest, 20).round()
        grid = sorted(set(numbers.astype(int).tolist()))
    curve = model.get_granularity_report(list(grid))
    excess = curve["prediction_error"] - curve["prediction_error"].min()
    is_near = excess <= curve["prediction_error_se"]
    suggested, end = int(curve.index[is_near.argmax()]), int(curve.index[-1])
    reached = bool(excess.argmin() < len(curve) - 1)
    advice = f"More than {suggested:,} metacells describe the cells no better: "
    advice += f"model.get_metacells(n_metacells={suggested})."
    if not reached:
        advice = f"Cells are described better up to {end:,} metacells, the end of the grid: "
        if end < model.n_metacells:
            advice += f"pass a grid up to the {model.n_metacells:,} of the model."
        else:
            advice += f"train a model with more, such as n_metacells={2 * end}, and choose again."
    curve.attrs |= {"suggested": suggested, "reached": reached, "advice": advice}
    return curve
