"""Curves over the number of metacells."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, ScalarFormatter

from scmetaq._errors import InputKeyError, InputTypeError
from scmetaq.pl._style import ACCENT, PALETTE, mark_number, name_axes, new_axes, strip_frame

MARGIN, RATIO, ERROR = "margin", "reconstruction_ratio", "prediction_error"
_GAP = 4.0
"""Points between the second axis with its label and the third axis."""
LABELS = {MARGIN: "margin (similarity difference)", RATIO: "reconstruction ratio"}


def granularity(curve: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw margin, reconstruction ratio and prediction error over the number of metacells.

    Parameters
    ----------
    curve
        Output of :func:`scmetaq.tl.choose_n_metacells`: indexed by the number of metacells, with
        the columns ``margin`` and ``reconstruction_ratio``, and ``prediction_error``, from which
        the suggestion comes. The number in ``attrs["suggested"]``, if there is one, is marked.
    ax
        Axes to draw on; None: of a new figure. The ratio has a second axis on their right, and the
        error a third one outside of it.

    Raises
    ------
    TypeError
        Not a DataFrame.
    KeyError
        A column is missing.
    """
    _check_curve(curve)
    ax = new_axes(ax, 4.6, 3.0)
    right = ax.twinx()
    drawn = [(ax, MARGIN, ACCENT), (right, RATIO, PALETTE[5])]
    if ERROR in curve:
        outside = ax.twinx()
        drawn.append((outside, ERROR, PALETTE[1]))
    for axes, name, color in drawn:
        axes.plot(curve.index, curve[name], color=color, marker="o", markersize=3, linewidth=1.3)
        axes.set_ylabel(LABELS.get(name, "prediction error"), fontsize=9, color=color)
        axes.tick_params(labelsize=8)
        # written above the axes, the offsets of two of them would cover each other
        axes.ticklabel_format(axis="y", useOffset=False)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(_ticks(curve))
    name_axes(ax, "metacells", size=9)
    strip_frame(ax)
    for axes, *_ in drawn[1:]:
        strip_frame(axes, keep=("right",))
    if ERROR in curve:
        outside.spines["right"].set_position(("outward", _width_beyond(right) + _GAP))
    suggested = curve.attrs.get("suggested")
    if suggested is not None:
        mark_number(ax, suggested, f"suggested: {suggested}", xytext=(-4, 6), ha="center")
    return ax


def _width_beyond(right: Axes) -> float:
    """Points that the tick labels and the label of an axis on the right take next to the plot."""
    figure = right.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # ticks depend on the final size of the plot
    box = right.get_tightbbox()
    assert box is not None
    return (box.x1 - right.bbox.x1) / figure.dpi * 72


def _check_curve(curve: pd.DataFrame) -> None:
    if not isinstance(curve, pd.DataFrame):
        raise InputTypeError(
            f"Expected a DataFrame, found {type(curve).__name__}.", argument="curve"
        )
    missing = [name for name in LABELS if name not in curve]
    if missing:
        raise InputKeyError(
            f"Expected the columns {list(LABELS)}, found {list(map(str, curve.columns))}.",
            "Make the table by `scmetaq.tl.choose_n_metacells`.",
            "curve",
        )


def _ticks(curve: pd.DataFrame) -> list[int]:
    """Up to six of the numbers, evenly among them."""
    numbers = list(curve.index)
    n = min(6, len(numbers))
    return [numbers[round(i * (len(numbers) - 1) / max(1, n - 1))] for i in range(n)]
