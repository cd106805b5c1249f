"""Curves of a training run."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scmetaq._errors import InputValueError
from scmetaq.pl._style import INK, PALETTE, given_panels, grid_lines, name_axes, strip_frame

SPLITS = ("train", "validation")
TOTAL = "loss"
PANELS = {
    "reconstruction": "reconstruction loss",
    "codebook_loss": "codebook loss",
    "commitment": "codebook loss",
    "perplexity": "codebook perplexity",
    "empty": "empty codes",
    "unused": "empty codes",
}
"""Panel of a quantity by a word in its name."""
MOST_COLUMNS = 5
"""Panels side by side that can still be read on a page."""


def training(
    history: Mapping[str, pd.DataFrame | pd.Series], *, axes: Sequence[Axes] | None = None
) -> np.ndarray:
    """Draw losses and use of the codebook over epochs.

    Parameters
    ----------
    history
        A model's ``history``: per key a table of one column indexed by epoch. Keys are grouped
        into panels: total, reconstruction (plain and quantised) and codebook loss, perplexity and
        empty codes; other keys are left out. Endings ``_train`` and ``_validation`` become solid
        and dashed lines. A quantity of a modality, such as ``reconstruction_loss_rna``, has
        a panel of its own where there is also that of all of them.
    axes
        One Axes per panel; None: of a new figure.

    Returns
    -------
    The panels, shape ``(n_panels,)``.
    """
    groups = _grouped(history)
    panels = _new_panels(axes, len(groups))
    for ax, (title, curves) in zip(panels, groups.items(), strict=True):
        _draw_curves(ax, curves)
        ax.set_title(title, fontsize=9, color=INK)
        name_axes(ax, "epoch")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        grid_lines(ax, "y")
        ax.tick_params(labelsize=7.5)
        strip_frame(ax)
    return panels


def _grouped(history: Mapping[str, pd.DataFrame | pd.Series]) -> dict[str, dict[str, pd.Series]]:
    """Sort curves into panels by the names of their quantities, in the order of the panels."""
    quantities = {_split(key)[0] for key in history}
    groups: dict[str, dict[str, pd.Series]] = {}
    for key, table in history.items():
        quantity, curve = _split(key)[0], _curve(table)
        title = _panel_of(quantity)
        if title is not None and not key.endswith("_step") and curve.notna().any():
            whole, _, part = quantity.rpartition("_")  # a modality, where there is the whole too
            part = part if whole in quantities else ""
            groups.setdefault(f"{title}, {part}" if part else title, {})[key] = curve
    titles = [TOTAL, *dict.fromkeys(PANELS.values())]
    order = sorted(groups, key=lambda title: (titles.index(title.split(",")[0]), "," in title))
    if not groups:
        raise InputValueError(
            f"Expected a training history with losses, found the keys {sorted(history)}.",
            "Pass `model.history` after `model.train()`.",
            "history",
        )
    return {title: groups[title] for title in order}


def _panel_of(quantity: str) -> str | None:
    if quantity == TOTAL:
        return TOTAL
    return next((title for word, title in PANELS.items() if word in quantity), None)


def _curve(table: pd.DataFrame | pd.Series) -> pd.Series:
    column = table.iloc[:, 0] if isinstance(table, pd.DataFrame) else table
    return pd.to_numeric(column, errors="coerce")


def _split(key: str) -> tuple[str, str]:
    """Part a key into the quantity and the split of the data: ``loss``, ``train``."""
    key = key.removesuffix("_epoch")
    for split in SPLITS:
        if key.endswith(f"_{split}"):
            return key.removesuffix(f"_{split}"), split
        if key.startswith(f"{split}_"):
            return key.removeprefix(f"{split}_"), split
    return key, SPLITS[0]


def _new_panels(axes: Sequence[Axes] | None, n: int) -> np.ndarray:
    if axes is not None:
        return given_panels(axes, n, "panel")
    n_rows = -(-n // MOST_COLUMNS)
    n_columns = -(-n // n_rows)
    size = (2.5 * n_columns, 2.3 * n_rows)
    grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")[1]
    for ax in grid.flat[n:]:
        ax.set_visible(False)
    return grid.ravel()[:n]


def _draw_curves(ax: Axes, curves: Mapping[str, pd.Series]) -> None:
    quantities = list(dict.fromkeys(_split(key)[0] for key in curves))
    for key, curve in curves.items():
        quantity, split = _split(key)
        curve = curve.dropna()
        parts = ([quantity] if len(quantities) > 1 else []) + [split]
        ax.plot(
            curve.index,
            curve.to_numpy(),
            color=PALETTE[quantities.index(quantity) % len(PALETTE)],
            linestyle="-" if split == SPLITS[0] else (0, (3, 1.5)),
            linewidth=1.3,
            marker="o" if len(curve) == 1 else "",  # one point makes no line
            markersize=4,
            markerfacecolor=None if split == SPLITS[0] else "white",
            label=", ".join(parts).replace("_", " "),
        )
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize=6.5, handlelength=1.6)
