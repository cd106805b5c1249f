"""Plots as pictures that live inside a page."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from anndata import AnnData

from scmetaq import pl
from scmetaq.pl._style import svg_source

from ._conditions import ConditionSummary
from ._labels import LabelSummary
from ._layout import MAX_CELLS, Layout

MAX_LABELS = 40
"""Labels that still can be told apart in a legend."""


class Picture(NamedTuple):
    """A picture as a data URI, what it shows in a few words, and what to read from it."""

    source: str
    alt: str
    caption: str


def embedding(
    layout: Layout,
    n_cells: int,
    labels: pd.Series | None = None,
    colors: Sequence[str] | None = None,
) -> Picture:
    """Cells with their metacells over them.

    Parameters
    ----------
    layout
        Cells to draw.
    n_cells
        Cells there are.
    labels
        Label of each cell, by barcode.
    colors
        Colour of each label, as in scanpy's ``uns["<column>_colors"]``.
    """
    cells = layout.cells
    color = None
    if labels is not None and labels.nunique() <= MAX_LABELS:
        color = str(labels.name)
        cells.obs[color] = labels.reindex(cells.obs_names)
        cells.uns.update({} if colors is None else {f"{color}_colors": colors})
    words = {
        True: f"Small dots are cells, large dots metacells, in the colour of their {color}",
        False: "Grey dots are cells, blue dots metacells",
    }[color is not None]
    sample = f" A random {MAX_CELLS:,} of {n_cells:,} cells are drawn." if _sampled(layout) else ""
    caption = (
        f"{words}; a metacell sits at the mean position of its cells and its area grows with "
        f"their number. Positions: {layout.origin}.{sample}"
    )
    ax = pl.embedding(cells, basis=layout.basis, color=color)
    return Picture(svg_source(ax), "Cells in two dimensions with their metacells", caption)


def size(sizes: pd.Series) -> Picture:
    """Histogram of the sizes of metacells."""
    caption = "How many metacells have how many cells."
    return Picture(svg_source(pl.size(sizes)), "Histogram of metacell sizes", caption)


def purity(summary: LabelSummary, colors: Sequence[str] | None = None) -> Picture:
    """Purity of metacells, by their majority label."""
    frequent = summary.labels.index[:MAX_LABELS]
    shown = AnnData(obs=summary.metacells[summary.metacells[summary.key].isin(frequent)])
    shown.uns.update({} if colors is None else {f"{summary.key}_colors": colors})
    beyond = len(summary.labels) - len(frequent)
    rest = f" The {beyond} rarest labels are left out." if beyond > 0 else ""
    caption = (
        "Each dot is a metacell, in the row of its majority label; in brackets, how many there "
        f"are; box: middle half.{rest}"
    )
    return Picture(
        svg_source(pl.purity(shown, summary.key)), "Purity of metacells by label", caption
    )


def composition(summary: ConditionSummary) -> Picture:
    """Shares of the categories of a condition in each metacell."""
    order = "by majority label, and within a label from unmixed to mixed"
    caption = (
        f"Each column is a metacell, its colours the shares of {summary.key} among its cells. "
        f"Metacells are in order {order if summary.groups is not None else 'of their mixing'}."
    )
    ax = pl.composition(summary.counts, summary.groups, colors=summary.colors)
    return Picture(svg_source(ax), f"Shares of {summary.key} in each metacell", caption)


def training(history: Mapping[str, pd.DataFrame]) -> Picture:
    """Curves of training, but for those that are zero throughout."""
    axes = pl.training({key: curve for key, curve in history.items() if curve.to_numpy().any()})
    caption = (
        "Losses and the use of the codebook over the epochs of training. A step in the loss marks "
        "the epoch in which codes join in: from there on it counts what they lose, too."
    )
    return Picture(svg_source(axes[0]), "Training curves", caption)


def _sampled(layout: Layout) -> bool:
    return layout.cells.n_obs == MAX_CELLS
