"""Purity of metacells by label."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError
from scmetaq.pl._style import (
    INK,
    as_categories,
    grid_lines,
    jitter,
    label_colors,
    literal,
    name_axes,
    new_axes,
    strip_frame,
)


def purity(
    metacells: AnnData | MuData | pd.DataFrame, label: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the fraction of each metacell's cells that carry its majority label, by that label.

    Parameters
    ----------
    metacells
        Metacells with the columns ``<label>`` and ``<label>_fraction`` in ``obs``, as made by
        ``scmetaq.tl.aggregate``; or that ``obs`` itself.
    label
        The column with the majority label. None: the first one that has its fraction.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError
        No such column, or none with its fraction.
    ValueError
        No metacell has a label.
    """
    obs: Any = metacells if isinstance(metacells, pd.DataFrame) else metacells.obs
    label = _label_column(obs, label)
    uns = {} if isinstance(metacells, pd.DataFrame) else metacells.uns
    majority = as_categories(obs[label])
    if majority.isna().all():
        raise InputValueError(
            f"Expected metacells with a majority label in {label!r}, found none among {len(obs)}.",
            "Name another column.",
            "label",
        )
    colors = label_colors(list(majority.categories), uns.get(f"{label}_colors"))
    names = list(majority.remove_unused_categories().categories)
    values = [obs.loc[majority == name, f"{label}{_keys.FRACTION_SUFFIX}"] for name in names]
    ax = new_axes(ax, 3.8 + 0.06 * max(map(len, names)), 0.8 + 0.26 * len(names))
    for row, name in enumerate(names):
        _draw_row(ax, row, values[row].to_numpy(), colors[name])
    ax.set_yticks(
        range(len(names)), [f"{literal(n)}  ({len(v)})" for n, v in zip(names, values, strict=True)]
    )
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(min(0.5, min(v.min() for v in values) - 0.02), 1.015)
    name_axes(ax, "purity: fraction of cells with the majority label")
    grid_lines(ax, "x")
    ax.set_axisbelow(True)
    strip_frame(ax, keep=("bottom",))
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", labelsize=8, length=0)
    return ax


def _label_column(obs: pd.DataFrame, label: str | None) -> str:
    """Return the label column, which must have its fraction."""
    suffix = _keys.FRACTION_SUFFIX
    there = [str(c) for c in obs.columns if f"{c}{suffix}" in obs.columns]
    if label is None and there:
        return there[0]
    if label is None or label not in there:
        wanted = "a column" if label is None else f"the columns {label!r} and '{label}{suffix}'"
        raise InputKeyError(
            f"Expected {wanted} with the majority label and its fraction in `obs` of metacells, "
            f"found such pairs for {there}.",
            "Make metacells by `scmetaq.tl.aggregate`.",
            "label",
        )
    return label


def _draw_row(ax: Axes, row: int, values: np.ndarray, color: str) -> None:
    """Draw the metacells of one label as points over their quartiles and median."""
    if len(values) > 3:
        first, median, third = np.percentile(values, [25, 50, 75])
        ax.barh(row, third - first, 0.62, left=first, color=color, alpha=0.25, linewidth=0)
        ax.plot([median] * 2, [row - 0.31, row + 0.31], color=INK, linewidth=1.4, zorder=4)
    heights = [row + offset for offset in jitter(len(values), 0.25)]
    edges: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.4}
    ax.scatter(values, heights, s=14, color=color, clip_on=False, zorder=3, **edges)
