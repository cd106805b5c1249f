"""Names beside points."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from scmetaq.pl._labels import literal, shorten
from scmetaq.pl._style import INK

_ABOVE = {"xytext": (0, 6), "ha": "center", "va": "bottom"}
_BELOW = {"xytext": (0, -6), "ha": "center", "va": "top"}
_RIGHT = {"xytext": (6, 0), "ha": "left", "va": "center"}
_LEFT = {"xytext": (-6, 0), "ha": "right", "va": "center"}
_RADIUS = 4.0
"""Points that a name keeps from the middle of a sign."""


def draw_names(ax: Axes, position: np.ndarray, names: pd.Index, *, upright: bool) -> None:
    """Write each name beside its point, where it covers no other name and no point.

    Parameters
    ----------
    ax
        A plot whose range no longer changes.
    position
        Of the points, shape ``(n_points, 2)``.
    names
        One of each point. Those that find no free place are left out.
    upright
        Turn names by a quarter, for points that are on a horizontal line.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # places depend on the final size of the plot
    radius = _RADIUS * figure.dpi / 72
    taken = [
        Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
        for x, y in ax.transData.transform(position)
    ]
    rotation = 90 if upright else 0
    for i, name in enumerate(names):
        for place in _places(position, i, upright=upright):
            text = ax.annotate(
                literal(shorten(str(name))),
                position[i],
                textcoords="offset points",
                rotation=rotation,
                fontsize=7,
                color=INK,
                **place,
            )
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
