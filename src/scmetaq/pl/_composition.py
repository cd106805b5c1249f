"""Which conditions the cells of each metacell come from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from scmetaq._errors import InputValueError
from scmetaq.pl._style import (
    COLORS,
    INK,
    NO_LABEL,
    as_categories,
    as_name,
    draw_legend,
    label_colors,
    literal,
    name_axes,
    new_axes,
    strip_frame,
)


def composition(
    counts: pd.DataFrame,
    groups: pd.Series | None = None,
    *,
    colors: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the shares of conditions in each metacell, side by side.

    Parameters
    ----------
    counts
        Cells of each metacell (rows, drawn in this order) and condition (columns), as of
        ``pandas.crosstab``. More than 100 conditions have no legend, as some share a colour.
    groups
        Group of each metacell, such as its majority label, indexed like ``counts``. Neighbours of
        different groups are separated by a line, and groups that are wide enough named; missing
        ones are called "no label".
    colors
        Colour of each condition. None: those of the package.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    ValueError
        No counts, a negative one, a metacell without cells, conditions of one name, or metacells
        without an entry in ``groups``.
    """
    names = [as_name(name) for name in counts.columns]
    _check(counts, names, groups)
    widen = ax is None
    ax = new_axes(ax, 7.2, 2.6)
    shares = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    tops = np.cumsum(shares, axis=1)  # K x B
    edges = np.arange(len(counts) + 1)
    tints = label_colors(names, colors)
    bottom = np.zeros(len(edges))
    for i, color in enumerate(tints.values()):
        # one shape per condition, so that thousands of metacells stay a small picture
        top = np.append(tops[:, i], tops[-1, i])
        ax.fill_between(edges, bottom, top, step="post", color=color, linewidth=0)
        bottom = top
    if groups is not None:
        _draw_groups(ax, groups.loc[counts.index])
    ax.set(xlim=(0, len(counts)), ylim=(0, 1))
    name_axes(ax, f"{len(counts):,} metacells", "share of cells")
    ax.tick_params(labelsize=7)
    if len(tints) <= len(COLORS):
        entries = [(Patch(color=color, linewidth=0), name) for name, color in tints.items()]
        draw_legend(ax, entries, n_rows=14, widen=widen)
    strip_frame(ax)
    return ax


def _check(counts: pd.DataFrame, names: list[str], groups: pd.Series | None) -> None:
    is_empty = counts.shape[0] == 0 or counts.shape[1] == 0
    if is_empty or (counts.sum(axis=1) <= 0).any() or (counts < 0).any(axis=None):
        wrong = counts.index[(counts.sum(axis=1) <= 0) | (counts < 0).any(axis=1)]
        found = f" with {counts.loc[wrong[0]].tolist()} in {wrong[0]!r}" if len(wrong) else ""
        raise InputValueError(
            "Expected counts of at least one metacell and condition, none below zero, and cells in "
            f"each metacell, found shape {counts.shape}{found}.",
            "Leave metacells without cells out.",
            "counts",
        )
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputValueError(
            f"Expected one column per condition, found several of the name {twice[0]!r}.",
            "Sum them, e.g. by `counts.T.groupby(level=0).sum().T`.",
            "counts",
        )
    without = [] if groups is None else counts.index.difference(groups.index)
    if len(without):
        raise InputValueError(
            f"Expected a group for each metacell, found none for {len(without)} of {len(counts)}, "
            f"e.g. {without[0]!r}.",
            "Index `groups` by metacell, as `counts`.",
            "groups",
        )


def _draw_groups(ax: Axes, groups: pd.Series) -> None:
    """Separate neighbours of different groups, and name those with room for it."""
    names = as_categories(groups).astype(object)
    names = np.where(pd.isna(names), NO_LABEL, names)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    ends = np.append(starts[1:], len(names))
    ax.set_xticks([])
    for start, end in zip(starts, ends, strict=True):
        if start:
            ax.axvline(float(start), color="white", linewidth=1.4)
        if (end - start) / len(names) > 0.012 * len(names[start]) / 1.6:
            text: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7, "color": INK}
            ax.text((start + end) / 2, 1.02, literal(names[start]), **text)
