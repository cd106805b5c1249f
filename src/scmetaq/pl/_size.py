"""Sizes of metacells."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from mudata import MuData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError
from scmetaq.pl._style import ACCENT, mark_number, name_axes, new_axes, strip_frame


def size(
    sizes: AnnData | MuData | pd.DataFrame | pd.Series | ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw how many cells the metacells have.

    Parameters
    ----------
    sizes
        Metacells with ``obs["n_cells"]``, that ``obs`` itself, or cells per metacell, shape
        ``(n_metacells,)``.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError
        Metacells without their sizes.
    ValueError
        Not one number per metacell, or a missing or infinite one.
    """
    values = _cells_per_metacell(sizes)
    ax = new_axes(ax, 4.2, 2.8)
    ax.hist(values, bins=_bins(values), color=ACCENT, edgecolor="white", linewidth=0.6)
    median = float(np.median(values))
    mark_number(ax, median, f"median {median:g}", xytext=(4, -2), va="top")
    name_axes(ax, "cells per metacell", "metacells", 9)
    ax.tick_params(labelsize=8)
    ax.set_xlim(left=0)
    ax.set_ylim(top=ax.get_ylim()[1] * 1.12)  # room for the text
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    strip_frame(ax)
    return ax


def _cells_per_metacell(sizes: Any) -> np.ndarray:
    sizes = getattr(sizes, "obs", sizes)
    if isinstance(sizes, pd.DataFrame):
        if _keys.N_CELLS not in sizes:
            raise InputKeyError(
                f"Expected metacells with the column {_keys.N_CELLS!r} in `obs`, found only "
                f"{sorted(map(str, sizes.columns))}.",
                "Make them by `scmetaq.tl.aggregate`.",
                "sizes",
            )
        sizes = sizes[_keys.N_CELLS]
    values = np.asarray(sizes, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise InputValueError(
            f"Expected the number of cells per metacell, shape (n_metacells,), found shape "
            f"{values.shape}.",
            "Pass e.g. `metacells.obs['n_cells']`.",
            "sizes",
        )
    n_unknown = int((~np.isfinite(values)).sum())
    if n_unknown:
        raise InputValueError(
            f"Expected the number of cells of each metacell, found {n_unknown} of {len(values)} "
            "missing or infinite.",
            "Leave those metacells out.",
            "sizes",
        )
    return values


def _bins(values: np.ndarray) -> list[float]:
    """Edges of up to 30 bins that hold the same number of whole sizes."""
    width = max(1, int(np.ceil((values.max() - values.min() + 1) / 30)))
    return list(np.arange(values.min(), values.max() + width + 1, width) - 0.5)
