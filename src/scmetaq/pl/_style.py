"""Colours, axes, legends, names and text that all plots share."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.transforms import Bbox

from scmetaq._errors import InputKeyError, InputValueError
from scmetaq._keys import as_name

INK = "#333333"  # lines and text that carry meaning
GREY = "#BDBDBD"  # context: cells without a label, boxes, grid
ACCENT = "#0072B2"  # the one colour of plots that need only one
NO_LABEL = "no label"
# the first six are distinct under the common colour vision deficiencies (Okabe & Ito, Color
# Universal Design, 2008); those up to 20 differ from them, and from each other, in lightness too;
# each of the others is the one of a grid in RGB that is furthest from all before it, and from
# white, black and GREY, in CIELAB with compressed chroma
_CODES = """
0072B2 E69F00 009E73 CC79A7 56B4E9 D55E00 6A4C9C 8C564B 0B2E59 E3D52B 8DB600 7A0019 00A3A3 F28E7F
B39DDB 00512D C9A66B D0006F 6B6B00 5B5B5B 78E1A5 3C2D00 D21EFF 1E00A5 00E1F0 4B003C FFB4D2 002D2D
5A78FF 4BF000 878769 008700 FF1E4B 006969 783C5A B40F00 3C1E1E FFC3A5 FF78FF 5A00FF 96B487 877896
00C34B B4D2FF 780078 002D00 784B00 A58700 D2D2A5 3C4B00 B400A5 B47878 0087A5 1E4B5A 4B785A 78C3B4
FF00B4 2D96F0 4B4B69 003C96 5A3C2D A5784B E1C3FF 78963C FFC369 5A5A3C A569C3 A51E3C FF873C A55A87
A5D278 4B2D5A B496A5 96C3D2 FF4B87 C3A596 7896B4 FF87A5 78003C 3C691E 2D0F5A 5A8787 005AE1 782D00
006987 C35A4B F00000 2DD2FF C3B400 B4B4D2 3C5A4B 00C396 E196D2 4B1E00 A54B00 2DA500 FF5A3C 874BE1
2DA5C3 2D3C1E
"""
COLORS = tuple(f"#{code}" for code in _CODES.split())
PALETTE = COLORS[:20]
_LONGEST = 30  # characters of a name that fit next to a plot
_LEGEND_SHARE = 0.3  # part of a figure's width that a legend takes before the figure is widened
_RADIUS = 4.0  # points that a name keeps from the middle of a sign
_ABOVE = {"xytext": (0, 6), "ha": "center", "va": "bottom"}
_BELOW = {"xytext": (0, -6), "ha": "center", "va": "top"}
_RIGHT = {"xytext": (6, 0), "ha": "left", "va": "center"}
_LEFT = {"xytext": (-6, 0), "ha": "right", "va": "center"}
_DPI = 200


def entry(table: Any, name: str, where: str, argument: str, fix: str = "") -> Any:
    """Return a column or entry of a table, which must be there."""
    if name not in table:
        found = f"found only {sorted(map(str, table))}."
        raise InputKeyError(f"Expected `{argument}` {name!r} in `{where}`, {found}", fix, argument)
    return table[name]


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the given axes, or those of a new figure (sizes in inches)."""
    return ax or plt.subplots(figsize=(width, height), layout="constrained")[1]


def new_panels(
    axes: Sequence[Axes] | None, n: int, panel: str, size: tuple[float, float], **layout: Any
) -> np.ndarray:
    """Return the given axes, which must be one per panel, or those of a new figure (inches)."""
    if axes is None:
        layout = {"squeeze": False, "layout": "constrained", **layout}
        grid = plt.subplots(figsize=size, **layout)[1].ravel()
        for ax in grid[n:]:
            ax.set_visible(False)
        return grid[:n]
    panels = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(panels) != n:
        problem = f"Expected one Axes per {panel} in `axes`, found {len(panels)} for {n} {panel}s."
        raise InputValueError(problem)
    return panels


def finish(
    ax: Axes,
    x: str | None = None,
    y: str | None = None,
    *,
    size: float = 8,
    ticks: float | None = None,
    grid: Any = None,
    keep: Sequence[str] = ("left", "bottom"),
) -> None:
    """Name the axes, remove the spines that carry nothing, and thin the others."""
    for write, name in ((ax.set_xlabel, x), (ax.set_ylabel, y)):
        if name is not None:
            write(name, fontsize=size, color=INK)
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    ax.tick_params(color=INK, width=0.8, length=3)
    if ticks is not None:
        ax.tick_params(labelsize=ticks)
    if grid is not None:
        ax.grid(axis=grid, color=GREY, alpha=0.35, linewidth=0.6)
        ax.set_axisbelow(True)


def write(ax: Axes, text: str, at: Any, size: float, **style: Any) -> Any:
    """Write a text at a point, moved by ``xytext`` points."""
    return ax.annotate(text, at, textcoords="offset points", fontsize=size, color=INK, **style)


def mark_number(ax: Axes, number: float, text: str, **style: Any) -> None:
    """Draw a vertical line at a number, and a text at its top."""
    ax.axvline(number, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    write(ax, text, (number, 1), 8, xycoords=ax.get_xaxis_transform(), **style)


def label_colors(labels: Sequence[str], chosen: Sequence[str] | None = None) -> dict[str, str]:
    """Give each label a colour: the chosen ones if there are enough, else those of the package."""
    colors = COLORS if chosen is None or len(chosen) < len(labels) else list(chosen)
    for color in colors:
        if not is_color_like(color):
            problem = f"Expected colours such as {ACCENT!r}, found"
            fix = "Correct it, or delete them (they may be in `uns['<column>_colors']`)."
            raise InputValueError(f"{problem} {color!r} among those of the labels.", fix)
    return {label: colors[i % len(colors)] for i, label in enumerate(labels)}


def as_categories(values: Any) -> pd.Categorical:
    """Turn labels into categories that are text, in their order; missing ones stay missing."""
    labels = pd.Categorical(values)
    names = list(dict.fromkeys(map(as_name, labels.categories)))
    return pd.Categorical(labels.map(as_name, na_action="ignore"), categories=names)


def literal(name: str) -> str:
    """Keep matplotlib from reading what stands between two dollars as mathematics."""
    return name.replace("$", r"\$")


def shorten(name: str) -> str:
    """Leave the middle out of a long name: both of its ends may be what is special about it."""
    half = _LONGEST // 2
    middle = f"{name[:half].rstrip()}…{name[1 - half :].lstrip()}"
    return middle if len(name) > _LONGEST else name


def draw_legend(
    ax: Axes, entries: Sequence[tuple[Artist, str]], *, n_rows: int, widen: bool, **style: Any
) -> None:
    """Draw a legend on the right of a plot, by which ``widen`` widens the figure if it is wide."""
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
    if widen:
        figure: Any = ax.get_figure(root=True)
        total = figure.get_figwidth()
        beyond = legend.get_window_extent().width / figure.dpi - _LEGEND_SHARE * total
        figure.set_figwidth(total + max(0, beyond))


def draw_names(ax: Axes, position: np.ndarray, names: pd.Index, *, upright: bool) -> None:
    """Write names next to their points where they cover nothing; ``upright``: points on a line."""
    figure: Any = ax.get_figure(root=True)
    figure.draw_without_rendering()  # places depend on the final size of the plot
    radius = _RADIUS * figure.dpi / 72
    points = ax.transData.transform(position)
    taken = [Bbox([point - radius, point + radius]) for point in points]
    for i, name in enumerate(names):
        for place in _places(position, i, upright=upright):
            shown = literal(shorten(str(name)))
            text = write(ax, shown, position[i], 7, rotation=90 * upright, **place)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _places(position: np.ndarray, i: int, *, upright: bool) -> list[dict[str, Any]]:
    """Places for the name of a point, the one away from the nearest other point first."""
    if upright:
        return [_ABOVE, _BELOW]
    span = np.ptp(position, axis=0)
    scaled = position / np.where(span > 0, span, 1)
    others = np.delete(scaled, i, axis=0)
    nearest = others[np.argmin(((others - scaled[i]) ** 2).sum(1))] if len(others) else scaled[i]
    first = [_BELOW, _ABOVE] if scaled[i, 1] < nearest[1] else [_ABOVE, _BELOW]
    return [*first, _RIGHT, _LEFT]


def svg_source(ax: Axes) -> str:
    """Return the figure of an Axes as the data URI of an SVG picture, and close the figure."""
    figure: Any = ax.get_figure(root=True)
    buffer = BytesIO()
    # ids from a fixed salt: the same results give the same picture
    with rc_context({"svg.hashsalt": "scmetaq"}):
        figure.savefig(buffer, format="svg", dpi=_DPI, transparent=True, metadata={"Date": None})
    plt.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
