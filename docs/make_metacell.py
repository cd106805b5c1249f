"""Draw ``docs/_static/metacell.png``: what a metacell is, on the demo data.

usage: uv run python docs/make_metacell.py
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from make_overview import trained, umap

TARGET = Path(__file__).parent / "_static" / "metacell.png"
N_CELLS, N_GENES = 40, 60


def main() -> None:
    """Train on the demo data, draw and save."""
    adata, model = trained()
    metacell = model.get_assignments()["metacell"]
    draw(adata, metacell, umap(adata)).savefig(TARGET, dpi=150)


def draw(adata: AnnData, metacell: pd.Series, places: np.ndarray) -> plt.Figure:
    """Cells in two dimensions; counts of those of one metacell; their mean."""
    sizes = metacell.value_counts()
    chosen = sizes.sub(N_CELLS).abs().idxmin()
    cells = adata[(metacell == chosen).to_numpy()]
    is_detected = np.asarray((adata.X > 0).mean(0)).ravel() > 0.05
    drawn = np.random.default_rng(0).choice(np.flatnonzero(is_detected), N_GENES, replace=False)
    counts = cells.X[:, drawn].toarray()
    counts = counts[:, np.argsort(-counts.mean(0), kind="stable")]

    mpl.rcParams["font.size"] = 9
    figure, axes = plt.subplots(
        1, 3, figsize=(11, 3.6), width_ratios=[1.2, 1.3, 1], layout="constrained"
    )
    is_own = (metacell == chosen).to_numpy()
    axes[0].scatter(*places[~is_own].T, s=3, color="0.8", linewidths=0)
    axes[0].scatter(*places[is_own].T, s=7, color="C3", linewidths=0)
    axes[0].set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    axes[0].set_title(f"{adata.n_obs:,} cells, {is_own.sum()} of them in the same state")

    axes[1].imshow(np.log1p(counts), aspect="auto", cmap="Reds", interpolation="nearest")
    axes[1].set(xlabel=f"{N_GENES} genes", ylabel="cells", xticks=[], yticks=[])
    axes[1].set_title(f"their counts: {(counts == 0).mean():.0%} zeros")

    mean = counts.mean(0)
    axes[2].bar(np.arange(len(mean)), mean, width=1, color="C3")
    axes[2].set(xlabel=f"{N_GENES} genes", ylabel="mean count", xticks=[])
    axes[2].set_title(f"one metacell, the mean: {(mean == 0).mean():.0%} zeros")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
