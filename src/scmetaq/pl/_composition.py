"""Which conditions the cells of each metacell come from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from scmetaq.pl._labels import NO_LABEL, as_categories, as_name, literal
from scmetaq.pl._legend import draw_legend
from scmetaq.pl._style import COLORS, INK, label_colors, new_axes, strip_frame


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
        different groups are parted by a line, and groups that are wide enough named; missing
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
    for i, color in enumerate(tints.values()):
        bottom = tops[:, i - 1] if i else np.zeros(len(counts))
        # one shape per condition, so that thousands of metacells stay a small picture
        ax.fill_between(
            edges,
            np.append(bottom, bottom[-1]),
            np.append(tops[:, i], tops[-1, i]),
            step="post",
            color=color,
            linewidth=0,
        )
    if groups is not None:
        _draw_groups(ax, groups.loc[counts.index])
    ax.set(xlim=(0, len(counts)), ylim=(0, 1))
    ax.set_xlabel(f"{len(counts):,} metacells", fontsize=8, color=INK)
    ax.set_ylabel("share of cells", fontsize=8, color=INK)
    ax.tick_params(labelsize=7)
    if len(tints) <= len(COLORS):
        entries = [(Patch(color=color, linewidth=0), name) for name, color in tints.items()]
        draw_legend(ax, entries, n_rows=14, widen=widen)
    strip_frame(ax)
    return ax


def _check(counts: pd.DataFrame, names: list[str], groups: pd.Series | None) -> None:
    is_empty = counts.shape[0] == 0 or counts.shape[1] == 0
    if is_empty or (counts.sum(axis=1) <= 0).any() or (counts < 0).any(axis=None):
        raise ValueError(
            "Expected counts of at least one metacell and condition, none below zero, and cells in "
            f"each metacell, found shape {counts.shape}{_doubtful(counts)}. Leave metacells "
            "without cells out."
        )
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(
            f"Expected one column per condition, found several of the name {twice[0]!r}. Sum them, "
            "e.g. by `counts.T.groupby(level=0).sum().T`."
        )
    without = [] if groups is None else counts.index.difference(groups.index)
    if len(without):
        raise ValueError(
            f"Expected a group for each metacell, found none for {len(without)} of {len(counts)}, "
            f"e.g. {without[0]!r}. Index `groups` by metacell, as `counts`."
        )


def _doubtful(counts: pd.DataFrame) -> str:
    """Name a metacell whose counts cannot be shares."""
    wrong = counts.index[(counts.sum(axis=1) <= 0) | (counts < 0).any(axis=1)]
    return f" with {counts.loc[wrong[0]].tolist()} in {wrong[0]!r}" if len(wrong) else ""


def _draw_groups(ax: Axes, groups: pd.Series) -> None:
    """Part neighbours of different groups, and name those with room for it."""
    names = as_categories(groups).astype(object)
    names = np.where(pd.isna(names), NO_LABEL, names)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    ends = np.append(starts[1:], len(names))
    ax.set_xticks([])
    for start, end in zip(starts, ends, strict=True):
        if start:
            ax.axvline(float(start), color="white", linewidth=1.4)
        if (end - start) / len(names) > 0.012 * len(names[start]) / 1.6:
            ax.text(
                (start + end) / 2,
                1.02,
                literal(names[start]),
                ha="center",
                va="bottom",
                fontsize=7,
                color=INK,
            )
