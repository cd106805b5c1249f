"""Colours and axes that all plots share."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

INK = "#333333"
"""Lines and text that carry meaning."""
GREY = "#BDBDBD"
"""Context: cells without a label, boxes, grid."""
ACCENT = "#0072B2"
"""The one colour of plots that need only one."""

# the first six are told apart under the common colour vision deficiencies (Okabe & Ito, Color
# Universal Design, 2008); the others differ from them, and from each other, in lightness too
PALETTE = (
    "#0072B2",  # blue
    "#E69F00",  # orange
    "#009E73",  # green
    "#CC79A7",  # pink
    "#56B4E9",  # sky
    "#D55E00",  # vermilion
    "#6A4C9C",  # purple
    "#8C564B",  # brown
    "#0B2E59",  # navy
    "#E3D52B",  # yellow, darkened for white paper
    "#8DB600",  # lime
    "#7A0019",  # maroon
    "#00A3A3",  # teal
    "#F28E7F",  # salmon
    "#B39DDB",  # lavender
    "#00512D",  # forest
    "#C9A66B",  # tan
    "#D0006F",  # magenta
    "#6B6B00",  # olive
    "#5B5B5B",  # grey
)


def new_axes(ax: Axes | None, width: float = 5.0, height: float = 3.6) -> Axes:
    """Return the given axes, or those of a new figure (sizes in inches)."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def label_colors(labels: Sequence[str], chosen: Sequence[str] | None = None) -> dict[str, str]:
    """Give each label a colour: the chosen ones, else those of the palette in order.

    Parameters
    ----------
    labels
        Labels in order, shape ``(n_labels,)``.
    chosen
        Colours in the same order, as in scanpy's ``uns["<column>_colors"]``; used if there are
        enough.
    """
    enough = chosen is not None and len(chosen) >= len(labels)
    colors = list(chosen) if chosen is not None and enough else list(PALETTE)
    return {label: colors[i % len(colors)] for i, label in enumerate(labels)}


def strip_frame(ax: Axes, *, keep: Sequence[str] = ("left", "bottom")) -> None:
    """Remove the spines that carry nothing and thin the others."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    ax.tick_params(color=INK, width=0.8, length=3)


def jitter(n: int, spread: float = 0.32) -> list[float]:
    """Return ``n`` offsets in (-spread, spread) that fill it evenly and are always the same."""
    golden = 0.6180339887498949
    return [((i * golden + 0.5) % 1 - 0.5) * 2 * spread for i in range(n)]
