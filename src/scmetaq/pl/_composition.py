"""Which conditions the cells of each metacell come from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scmetaq.pl._style import INK, label_colors, new_axes, strip_frame


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
        ``pandas.crosstab``.
    groups
        Group of each metacell, such as its majority label, indexed like ``counts``. Neighbours of
        different groups are parted by a line, and groups that are wide enough named.
    colors
        Colour of each condition. None: those of the package.
    ax
        Axes to draw on; None: of a new figure.
    """
    if counts.shape[0] == 0 or counts.shape[1] == 0 or (counts.sum(axis=1) <= 0).any():
        raise ValueError(
            "Expected counts of at least one metacell and condition, and cells in each metacell, "
            f"found shape {counts.shape}. Leave metacells without cells out."
        )
    ax = new_axes(ax, 7.2, 2.6)
    shares = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    tops = np.cumsum(shares, axis=1)  # K x B
    edges = np.arange(len(counts) + 1)
    names = [str(name) for name in counts.columns]
    for i, (name, color) in enumerate(label_colors(names, colors).items()):
        bottom = tops[:, i - 1] if i else np.zeros(len(counts))
        # one shape per condition, so that thousands of metacells stay a small picture
        ax.fill_between(
            edges,
            np.append(bottom, bottom[-1]),
            np.append(tops[:, i], tops[-1, i]),
            step="post",
            color=color,
            linewidth=0,
            label=name,
        )
    if groups is not None:
        _draw_groups(ax, groups.loc[counts.index])
    ax.set(xlim=(0, len(counts)), ylim=(0, 1))
    ax.set_xlabel(f"{len(counts):,} metacells", fontsize=8, color=INK)
    ax.set_ylabel("share of cells", fontsize=8, color=INK)
    ax.tick_params(labelsize=7)
    ax.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=1 + len(names) // 14,
        frameon=False,
        fontsize=8,
    )
    strip_frame(ax)
    return ax


def _draw_groups(ax: Axes, groups: pd.Series) -> None:
    """Part neighbours of different groups, and name those with room for it."""
    names = groups.astype(str).to_numpy()
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
                names[start],
                ha="center",
                va="bottom",
                fontsize=7,
                color=INK,
            )
