"""Labels against predicted labels."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError, listed
from scmetaq.pl._style import GREY, INK, as_categories, literal, name_axes, new_axes, strip_frame

UNKNOWN = "unknown"
"""Column of cells that were taken to be of an unknown type."""
_LEAST_SHOWN = 0.005
"""Fractions below it would be written as zero."""
_MOST_LABELS = 25
"""With more labels numbers do not fit into the fields."""


def confusion(
    cells: AnnData | MuData | pd.DataFrame, truth: str, predicted: str, *, ax: Axes | None = None
) -> Axes:
    """Draw which labels cells were given, by the labels that they have.

    Rows are labels that cells have, with the number of cells, columns those that they were given;
    fields hold the fraction of the row. Where there is a column ``<predicted>_unknown``, as
    ``predict_labels`` gives it, cells of an unknown type stand in a column of their own.

    Parameters
    ----------
    cells
        Cells with both columns in ``obs``, or that ``obs`` itself, for example
        ``model.predict_labels(query).assign(truth=query.obs["cell_type"])``.
    truth
        Column with the labels that cells have; those without one are left out.
    predicted
        Column with the labels that they were given.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        No cell has both labels.
    """
    obs: Any = cells if isinstance(cells, pd.DataFrame) else cells.obs
    table = _fractions(*_columns(obs, truth, predicted))
    n_rows, n_columns = table.shape
    longest = max(len(name) for name in (*table.index, *table.columns))
    side = 0.07 * longest
    ax = new_axes(ax, 1.4 + side + 0.36 * n_columns, 0.9 + side + 0.3 * n_rows)
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if max(table.shape) <= _MOST_LABELS:
        _write_fractions(ax, table.to_numpy())
    ax.set_yticks(range(n_rows), list(map(literal, table.index)), fontsize=8)
    ax.set_xticks(range(n_columns), list(map(literal, table.columns)), fontsize=8, rotation=90)
    name_axes(ax, f"predicted {literal(predicted)}", literal(truth))
    ax.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color=GREY, linewidth=0.4)
    strip_frame(ax, keep=())
    ax.tick_params(which="both", length=0)
    return ax


def _columns(obs: pd.DataFrame, truth: str, predicted: str) -> tuple[pd.Series, pd.Series]:
    """Labels that cells have and were given, of cells that have both."""
    for name in (truth, predicted):
        if name not in obs:
            raise InputKeyError(
                f"No column {name!r} among those of the cells. Columns there: "
                f"{listed(obs.columns)}."
            )
    has_both = obs[truth].notna() & obs[predicted].notna()
    if not has_both.any():
        raise InputValueError(f"Expected cells with both {truth!r} and {predicted!r}, found none.")
    both = obs.loc[has_both]
    known, given = (
        pd.Series(as_categories(both[name]).astype(object), both.index)
        for name in (truth, predicted)
    )
    flag = f"{predicted}{_keys.UNKNOWN_SUFFIX}"
    if flag in obs:
        given = given.mask(both[flag].astype(bool), UNKNOWN)
    return known, given


def _fractions(known: pd.Series, given: pd.Series) -> pd.DataFrame:
    """Share of the cells of each label that were given each; the diagonal comes first."""
    table = pd.crosstab(known.to_numpy(), given.to_numpy())
    others = [name for name in table.columns if name not in table.index and name != UNKNOWN]
    order = [*table.index, *others, *([UNKNOWN] if UNKNOWN in table.columns else [])]
    table = table.reindex(columns=list(dict.fromkeys(order)), fill_value=0)
    sizes = table.sum(axis=1)
    table = table.div(sizes, axis=0)
    table.index = pd.Index([f"{name}  ({n:,})" for name, n in sizes.items()])
    return table


def _write_fractions(ax: Axes, fractions: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(fractions >= _LEAST_SHOWN), strict=True):
        value = fractions[row, column]
        color = "white" if value > 0.6 else INK
        text = f"{value:.2f}".removeprefix("0") if value < 1 else "1"
        ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)
