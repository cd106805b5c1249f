"""Tables and picture of the speed comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from _markdown import Report, table

PUBLISHED_EPOCHS: Final = 300
AUTHORS: Final = "metaq-authors"
HOUR: Final = 3_600


def report(results: dict[str, Any]) -> Report:
    """Seconds at the fewest genes, and all tables."""
    runs = pd.DataFrame(results["runs"])
    intro = (
        f"{results['machine']['cpu']}, one thread. Data resampled from `{results['source']}`; one "
        "metacell per 50 cells. Median over the runs, with the range where there is more than one."
    )
    fewest = runs[runs["n_genes"] == runs["n_genes"].min()]
    short = [
        f"{intro} CPU seconds to the result, {fewest['n_genes'].iloc[0]:,} genes:",
        spread_table(with_extrapolated(fewest), "seconds", slope=True, until=HOUR),
    ]
    parts = [intro]
    for n_genes, of_genes in runs.groupby("n_genes"):
        parts += [
            f"## {n_genes:,} genes: seconds to the result",
            spread_table(with_extrapolated(of_genes), "seconds", slope=True),
            f"## {n_genes:,} genes: peak memory of the process, MB",
            spread_table(of_genes, "peak_mb", slope=True),
            f"## {n_genes:,} genes: balanced accuracy, and compactness",
            spread_table(of_genes, "balanced_accuracy"),
            spread_table(of_genes, "compactness"),
            f"## {n_genes:,} genes: an epoch",
            epoch_table(of_genes),
        ]
    return Report("\n\n".join(short), "\n\n".join(parts))


def with_extrapolated(runs: pd.DataFrame) -> pd.DataFrame:
    """Whole runs; the authors' method where it has only epochs is extrapolated to all of them."""
    epochs = runs[(runs["method"] == AUTHORS) & runs["epoch_seconds"].notna()]
    done = set(runs.loc[(runs["method"] == AUTHORS) & runs["seconds"].notna(), "n_cells"])
    missing = epochs[~epochs["n_cells"].isin(done)]
    seconds = missing["other_seconds"] + PUBLISHED_EPOCHS * missing["epoch_seconds"]
    extra = missing.assign(seconds=seconds, method=f"{AUTHORS}, extrapolated")
    return pd.concat([runs, extra])


def spread_table(
    runs: pd.DataFrame, value: str, *, slope: bool = False, until: float | None = None
) -> str:
    """Methods by numbers of cells; on request also the number at which a value is reached."""
    runs = runs[runs[value].notna()]
    sizes = sorted(runs["n_cells"].unique())
    heading = ["method", *(f"{n:,} cells" for n in sizes), *(["slope"] if slope else [])]
    heading += ["an hour at"] if until else []
    lines = []
    for method, of_method in runs.groupby("method", sort=False):
        by_size = of_method.groupby("n_cells")[value]
        cells = [spread(by_size.get_group(n)) if n in by_size.groups else "" for n in sizes]
        if slope:
            cells.append(log_slope(by_size.median()))
        if until:
            cells.append(cells_at(by_size.median(), until))
        lines.append([str(method), *cells])
    return table(heading, lines)


def spread(values: pd.Series) -> str:
    """Median, and the range if there is one."""
    text = shown(values.median())
    low, high = shown(values.min()), shown(values.max())
    return text if low == high else f"{text} ({low}–{high})"


def shown(value: float) -> str:
    """A number with about three digits; nothing for none."""
    if np.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def log_slope(medians: pd.Series) -> str:
    """Exponent of the growth with the number of cells."""
    if len(medians) < 3:
        return ""
    return f"{np.polyfit(np.log(medians.index.to_numpy(float)), np.log(medians), 1)[0]:.2f}"


def cells_at(medians: pd.Series, value: float) -> str:
    """Number of cells at which a value is reached, by a line through the last two on log axes."""
    if len(medians) < 2:
        return ""
    x, y = np.log(medians.index.to_numpy(float)[-2:]), np.log(medians.to_numpy()[-2:])
    found = np.exp(x[1] + (np.log(value) - y[1]) * (x[1] - x[0]) / (y[1] - y[0]))
    return f"{float(f'{found:.1g}'):,.0f}"


def epoch_table(runs: pd.DataFrame) -> str:
    """Seconds per epoch, and their ratio to the authors'."""
    seconds = epoch_seconds(runs)
    ours = [name for name in seconds if name != AUTHORS]
    ratios = [f"{AUTHORS} / {name}" for name in ours if AUTHORS in seconds]
    heading = ["cells", *(f"{name}, s" for name in seconds), *ratios]
    rows = [
        [
            f"{n_cells:,}",
            *(shown(value) for value in row),
            *(f"{row[AUTHORS] / row[name]:.1f}".replace("nan", "") for name in ours if ratios),
        ]
        for n_cells, row in seconds.iterrows()
    ]
    return table(heading, rows)


def epoch_seconds(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians, numbers of cells by methods."""
    epochs = runs[runs["epoch_seconds"].notna()]
    medians = epochs.groupby(["n_cells", "method"], sort=False)["epoch_seconds"].median()
    return medians.unstack().sort_index()


def picture(results: dict[str, Any], file: Path) -> None:
    """Time and memory over the number of cells, on logarithmic axes."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    runs = pd.DataFrame(results["runs"])
    runs = runs[runs["n_genes"] == runs["n_genes"].min()]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, value, label in zip(
        axes, ("seconds", "peak_mb"), ("CPU seconds to the result", "peak memory, MB"), strict=True
    ):
        shown_runs = with_extrapolated(runs) if value == "seconds" else runs
        shown_runs = shown_runs[shown_runs[value].notna()]
        for method, of_method in shown_runs.groupby("method", sort=False):
            medians = of_method.groupby("n_cells")[value].median()
            slope = log_slope(medians)
            text = f"{method} (N$^{{{slope}}}$)" if slope else str(method)
            style = "--" if "extrapolated" in str(method) else "-"
            ax.plot(medians.index, medians, style, marker="o", ms=4, label=text)
        sizes = sorted(shown_runs["n_cells"].unique())
        ax.set(xscale="log", yscale="log", xlabel="cells", ylabel=label)
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(frameon=False, fontsize=7)
    figure.savefig(file)
    plt.close(figure)
