"""Legends outside of the plot, with room for their names."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from scmetaq.pl._labels import literal, shorten
from scmetaq.pl._style import INK

_SHARE = 0.3
"""Part of a figure's width that a legend takes before the figure is widened."""


def draw_legend(
    ax: Axes, entries: Sequence[tuple[Artist, str]], *, n_rows: int, widen: bool, **style: Any
) -> None:
    """Draw a legend on the right of a plot.

    Parameters
    ----------
    ax
        The plot.
    entries
        Sign and name of each entry, in order. Long names are shortened.
    n_rows
        Entries that have room below each other; more go to further columns.
    widen
        Whether to widen the figure by what a wide legend would take from the plot.
    style
        Passed on to ``Axes.legend``.
    """
    signs, names = zip(*entries, strict=True)
    # given one by one: matplotlib collects no names that begin with "_"
    legend = ax.legend(
        signs,
        [literal(shorten(name)) for name in names],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=1 + len(names) // n_rows,
        frameon=False,
        **{"fontsize": 8, **style},
    )
    legend.get_title().set(fontsize=8, color=INK, parse_math=False)
    figure = ax.get_figure(root=True)
    if widen and figure is not None:
        total = float(figure.get_figwidth())
        beyond = legend.get_window_extent().width / figure.dpi - _SHARE * total
        figure.set_figwidth(total + max(0, beyond))
