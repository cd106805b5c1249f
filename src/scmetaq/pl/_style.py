"""Colours and axes that all plots share."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like

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
# each the one of a grid in RGB that is furthest from all before it, and from white, black and
# GREY, in CIELAB with compressed chroma
# fmt: off
_FURTHER = (
    "#78E1A5", "#3C2D00", "#D21EFF", "#1E00A5", "#00E1F0", "#4B003C", "#FFB4D2", "#002D2D",
    "#5A78FF", "#4BF000", "#878769", "#008700", "#FF1E4B", "#006969", "#783C5A", "#B40F00",
    "#3C1E1E", "#FFC3A5", "#FF78FF", "#5A00FF", "#96B487", "#877896", "#00C34B", "#B4D2FF",
    "#780078", "#002D00", "#784B00", "#A58700", "#D2D2A5", "#3C4B00", "#B400A5", "#B47878",
    "#0087A5", "#1E4B5A", "#4B785A", "#78C3B4", "#FF00B4", "#2D96F0", "#4B4B69", "#003C96",
    "#5A3C2D", "#A5784B", "#E1C3FF", "#78963C", "#FFC369", "#5A5A3C", "#A569C3", "#A51E3C",
    "#FF873C", "#A55A87", "#A5D278", "#4B2D5A", "#B496A5", "#96C3D2", "#FF4B87", "#C3A596",
    "#7896B4", "#FF87A5", "#78003C", "#3C691E", "#2D0F5A", "#5A8787", "#005AE1", "#782D00",
    "#006987", "#C35A4B", "#F00000", "#2DD2FF", "#C3B400", "#B4B4D2", "#3C5A4B", "#00C396",
    "#E196D2", "#4B1E00", "#A54B00", "#2DA500", "#FF5A3C", "#874BE1", "#2DA5C3", "#2D3C1E",
)
# fmt: on
COLORS = (*PALETTE, *_FURTHER)
"""The palette, and what follows where there are more labels."""


def new_axes(ax: Axes | None, width: float = 5.0, height: float = 3.6) -> Axes:
    """Return the given axes, or those of a new figure (sizes in inches)."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def label_colors(labels: Sequence[str], chosen: Sequence[str] | None = None) -> dict[str, str]:
    """Give each label a colour: the chosen ones, else those of the package in order.

    The package has 100; of more labels, some share one.

    Parameters
    ----------
    labels
        Labels in order, shape ``(n_labels,)``.
    chosen
        Colours in the same order, as in scanpy's ``uns["<column>_colors"]``; used if there are
        enough.

    Raises
    ------
    ValueError
        One of the chosen is no colour.
    """
    enough = chosen is not None and len(chosen) >= len(labels)
    colors = list(chosen) if chosen is not None and enough else list(COLORS)
    for color in colors:
        if not is_color_like(color):
            raise ValueError(
                f"Expected colours such as {ACCENT!r}, found {color!r} among those chosen for the "
                "labels. Correct it, or delete them (they may be in `uns['<column>_colors']`)."
            )
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
