"""A figure as text that a page can hold."""

import base64
from io import BytesIO

import matplotlib.pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes

_DPI = 200


def svg_source(ax: Axes) -> str:
    """Return the figure of an Axes as the data URI of an SVG picture, and close the figure."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    buffer = BytesIO()
    # ids from a fixed salt: the same results give the same picture
    with rc_context({"svg.hashsalt": "scmetaq"}):
        figure.savefig(buffer, format="svg", dpi=_DPI, transparent=True, metadata={"Date": None})
    plt.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
