"""Time and memory of every stage with many cells: one command from counts to a table and a plot.

usage: python benchmarks/atlas.py --data DIR [--cells 50000 200000 1000000] [--methods ...]

Cells are drawn from ``pbmc_facs_sorted`` (9 sorted types, 2,000 genes): each is a mixture of two
real cells of one type in a random proportion, with fresh Poisson counts of the depth of the first.
They are written block by block to zarr, once; ``sorted`` has the same cells ordered by type, and
in ``rare`` two of the types are rare. Every
measurement has a process of its own on one thread: CPU seconds and peak memory, libraries included,
by stage. There is one metacell per 50 cells, or (``scmetaq-500``) 500 of any number of cells.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
import zarr
from _datasets import DATASETS, LABEL
from _markdown import Report, save, table
from _methods import HERE
from _resample import most_variable
from _runs import one_thread
from anndata.io import sparse_dataset, write_elem
from quality import machine
from sklearn.cluster import KMeans, MiniBatchKMeans

SOURCE: Final = "pbmc_facs_sorted"
N_GENES: Final = 2_000
CELLS_PER_METACELL: Final = 50
VARIANTS: Final = ("sorted", "rare")
RARE: Final = {"CD14 Mono": 0.002, "CD4 T (regulatory)": 0.005}
"""Shares of the cells of two types where they are rare."""
N_FIXED: Final = 500
N_COMPONENTS: Final = 50
BLOCK: Final = 20_000
"""Cells that are drawn and written at once."""

Stage = tuple[str, float, float]
"""Name, CPU seconds, and peak memory of the process so far in GB."""


def main() -> None:
    """Measure what is missing, then write results, table and plot."""
    args = command_line().parse_args()
    if args.measure:
        print(json.dumps(METHODS[args.measure](args.file, args.seed)))
        return
    done = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    for n_cells in args.cells:
        for method in args.methods:
            for seed in args.seeds:
                key = {"method": method, "cells": n_cells, "seed": seed}
                same = [run for run in done if key.items() <= run.items()]
                if same and not args.again:
                    continue
                file = stored(args.data, n_cells, args.cache, variant_of(method))
                print("run  ", n_cells, method, seed, flush=True)
                found = in_process(method, file, seed, args.limit)
                done = [run for run in done if run not in same] + [key | found]
                results = {"machine": machine(), "source": SOURCE, "runs": done}
                save(args, "atlas", results, report(results))
                picture(results, args.out.with_suffix(".svg"))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of h5ad files")
    parser.add_argument("--cells", nargs="+", type=int, default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "atlas")
    parser.add_argument("--limit", type=float, default=7_200, help="seconds of one measurement")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "atlas.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--again", action="store_true", help="run also what the results have")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    return parser


def variant_of(method: str) -> str:
    """Which cells a method is for: ``sorted``, ``rare``, or those of the others."""
    return next((of for of in VARIANTS if method.endswith(f"-{of}")), "")


def stored(data: Path, n_cells: int, cache: Path, variant: str = "") -> Path:
    """Folder of drawn cells, written block by block when it is first asked for."""
    folder = cache / f"{SOURCE}_{n_cells}{variant and '_'}{variant}.zarr"
    if folder.exists():
        return folder
    adata, labels = DATASETS[SOURCE].read(data)
    real = most_variable(adata, N_GENES)[labels.notna().to_numpy()]
    groups = labels.dropna().astype(str).to_numpy()
    rng = np.random.default_rng(n_cells)
    first = rng.integers(len(groups), size=n_cells)
    if variant == "rare":
        types = pd.Series(groups)
        share = types.map(RARE).fillna((1 - sum(RARE.values())) / (~types.isin(RARE)).sum())
        weight = np.where(types.isin(RARE), share / types.map(types.value_counts()), share)
        first = rng.choice(len(groups), n_cells, p=weight)
    if variant == "sorted":
        first = first[np.argsort(groups[first], kind="stable")]
    part = folder.with_suffix(".part")
    group = zarr.open_group(part, mode="w")
    for start in range(0, n_cells, BLOCK):
        counts = drawn(real, groups, first[start : start + BLOCK], rng)
        if start:
            sparse_dataset(group["X"]).append(counts)
        else:
            counts.indptr = counts.indptr.astype(np.int64)  # so that more can be appended
            write_elem(group, "X", counts)
    names = pd.Index([f"cell{i}" for i in range(n_cells)], dtype=object)
    write_elem(group, "obs", pd.DataFrame({LABEL: pd.Categorical(groups[first])}, index=names))
    write_elem(group, "var", pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]))
    part.rename(folder)
    return folder


def drawn(
    real: sp.csr_matrix, groups: np.ndarray, first: np.ndarray, rng: np.random.Generator
) -> sp.csr_matrix:
    """Poisson counts of mixtures of given cells with random others of their group."""
    order = np.argsort(groups, kind="stable")
    begin, end = (np.searchsorted(groups[order], groups[first], side) for side in ("left", "right"))
    second = order[begin + (rng.random(len(first)) * (end - begin)).astype(int)]
    share, depth = rng.random(len(first)), np.asarray(real.sum(1)).ravel()
    rate = sp.diags(share) @ real[first]
    rate += sp.diags((1 - share) * depth[first] / depth[second]) @ real[second]
    rate = rate.tocsr()
    rate.data = rng.poisson(rate.data).astype(np.float32)
    rate.eliminate_zeros()
    return rate.astype(np.float32)


def read(folder: Path) -> anndata.AnnData:
    """Cells of a folder; their counts stay there."""
    group = zarr.open_group(folder, mode="r")
    obs, var = (anndata.io.read_elem(group[name]) for name in ("obs", "var"))
    return anndata.AnnData(sparse_dataset(group["X"]), obs=obs, var=var)


def in_process(method: str, file: Path, seed: int, limit: float) -> dict[str, Any]:
    """Stages and scores of a measurement; what stopped it if it did not end."""
    command = [sys.executable, __file__, "--measure", method, "--file", str(file)]
    command += ["--seed", str(seed)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": limit}
    try:
        done = subprocess.run(command, env=one_thread(), check=False, **options)
    except subprocess.TimeoutExpired:
        return {"stopped": f"after {limit:g} s"}
    if done.returncode:
        return {"stopped": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_package(folder: Path, n_metacells: int | None, seed: int) -> dict[str, Any]:
    """Stages of this package, from the folder to judged metacells."""
    import scvi

    import scmetaq

    scvi.settings.seed = seed
    stages: list[Stage] = []
    adata = staged(stages, "read", lambda: read(folder))
    staged(stages, "set up", lambda: scmetaq.MetaQModel.setup_anndata(adata))
    n = n_metacells or adata.n_obs // CELLS_PER_METACELL
    model = scmetaq.MetaQModel(adata, n)
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    staged(stages, "train", lambda: model.train(**quiet))
    found = staged(stages, "assign", model.get_assignments)["metacell"]
    staged(stages, "get metacells", model.get_metacells)
    staged(stages, "evaluate", lambda: scmetaq.metrics.evaluate(adata, found, LABEL))
    return {"stages": stages, "same_code": same_code(model), **scores(found.to_numpy(), adata)}


def same_code(model: Any) -> float:
    """Share of 5,000 cells whose code is the nearest of all codes."""
    import torch

    z = torch.from_numpy(model.get_latent_representation(model.adata[:5_000].to_memory()))
    codebook = model.module.codebook
    exact = [codebook.similarity(rows).detach().argmax(1) for rows in z.split(500)]
    return round(float((codebook.assign(z)[1] == torch.cat(exact)).double().mean()), 5)


def of_kmeans(folder: Path, make: Callable[..., Any], seed: int) -> dict[str, Any]:
    """Stages of k-means on principal components of log counts."""
    stages: list[Stage] = []
    adata = read(folder)
    counts = staged(stages, "read", lambda: adata.X[:])
    log = anndata.AnnData(counts)

    def components() -> np.ndarray:
        sc.pp.normalize_total(log, target_sum=1e4)
        sc.pp.log1p(log)
        return sc.pp.pca(log.X, n_comps=N_COMPONENTS, random_state=seed)

    rows = staged(stages, "components", components)
    method = make(adata.n_obs // CELLS_PER_METACELL, random_state=seed)
    return {
        "stages": stages,
        **scores(staged(stages, "k-means", lambda: method.fit_predict(rows)), adata),
    }


RUNS: Final[dict[str, Callable[[Path, int], dict[str, Any]]]] = {
    "scmetaq": lambda file, seed: of_package(file, None, seed),
    "scmetaq-500": lambda file, seed: of_package(file, N_FIXED, seed),
    "minibatch-kmeans-pca": lambda file, seed: of_kmeans(
        file, lambda n, **kwargs: MiniBatchKMeans(n, n_init=1, **kwargs), seed
    ),
    "kmeans-pca": lambda file, seed: of_kmeans(
        file, lambda n, **kwargs: KMeans(n, n_init=1, **kwargs), seed
    ),
}
METHODS: Final = RUNS | {"scmetaq-sorted": RUNS["scmetaq"]}
METHODS.update({f"{name}-rare": run for name, run in RUNS.items() if name != "scmetaq-500"})
TO_METACELLS: Final = ("set up", "train", "get metacells", "components", "k-means")
"""Stages that count as the time to metacells, which ``get_metacells`` assigns the cells to."""


def staged[T](stages: list[Stage], name: str, work: Callable[[], T]) -> T:
    """Do something and add what it took."""
    start = time.process_time()
    found = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    stages.append((name, round(time.process_time() - start, 1), round(peak, 2)))
    return found


def scores(assignment: np.ndarray, adata: anndata.AnnData) -> dict[str, float]:
    """How well metacells keep the types apart, and how even their sizes are."""
    from scmetaq import metrics

    labels, sizes = adata.obs[LABEL].astype(str).to_numpy(), metrics.size_summary(assignment)
    return {
        "metacells": sizes.n_metacells,
        "purity": round(float(metrics.purity(assignment, labels).mean()), 4),
        "accuracy": round(metrics.accuracy(assignment, labels), 4),
        "balanced_accuracy": round(metrics.balanced_accuracy(assignment, labels), 4),
        "size_cv": round(sizes.size_cv, 3),
        **{f"found {name}": found_of(assignment, labels == name) for name in RARE},
    }


def found_of(assignment: np.ndarray, is_rare: np.ndarray) -> float:
    """Share of the cells of a type in metacells of which it is more than half."""
    share = pd.Series(is_rare).groupby(assignment).transform("mean").to_numpy()
    return round(float((share[is_rare] > 0.5).mean()), 4)


def report(results: dict[str, Any]) -> Report:
    """A row per method and number of cells; time of all stages up to the metacells, and slopes."""
    order = [*METHODS]
    runs = sorted(results["runs"], key=lambda run: (order.index(run["method"]), run["cells"]))
    heading = ["method", "cells", "metacells", "CPU s", "evaluate", "peak GB", "purity", "accuracy"]
    lines = [list(row_of(run)) for run in runs]
    text = table([*heading, "balanced", "size CV"], lines)
    slopes = [f"`{method}` {slope:.2f}" for method, slope in slopes_of(runs)]
    found = f"\n\nSlope of log CPU seconds over log cells: {', '.join(slopes)}." if slopes else ""
    rare = [run for run in runs if variant_of(run["method"]) == "rare" and "stages" in run]
    lines = [
        [run["method"], f"{run['cells']:,}", *(f"{run[f'found {name}']:.3f}" for name in RARE)]
        for run in rare
    ]
    titles = [f"{name}, {share:.1%}" for name, share in RARE.items()]
    of_rare = table(["method", "cells", *titles], lines)
    why = "Share of the cells of two rare types that are in metacells of mostly that type:"
    return Report(text + found, f"{why}\n\n{of_rare}" if rare else "")


def picture(results: dict[str, Any], file: Path) -> None:
    """Time and memory over the number of cells, on logarithmic axes, with the slopes."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    runs = [r for r in results["runs"] if "stages" in r and not variant_of(r["method"])]
    slopes = dict(slopes_of(runs))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    shown = (seconds_of, "CPU seconds to metacells"), (peak_of, "peak memory, GB")
    for ax, (value, label) in zip(axes, shown, strict=True):
        for method in [name for name in METHODS if any(run["method"] == name for run in runs)]:
            mine = sorted((r["cells"], value(r)) for r in runs if r["method"] == method)
            slope = f" (N$^{{{slopes[method]:.2f}}}$)" if method in slopes and ax is axes[0] else ""
            ax.plot(*zip(*mine, strict=True), marker="o", ms=4, label=method + slope)
        sizes = sorted({run["cells"] for run in runs})
        ax.set(xscale="log", xlabel="cells", ylabel=label)
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_yscale("log")
    if runs:
        axes[0].legend(frameon=False, fontsize=7)
    axes[1].set_ylim(0)
    figure.savefig(file)
    plt.close(figure)


def row_of(run: dict[str, Any]) -> Iterator[str]:
    """Cells of the table for a run."""
    yield from (run["method"], f"{run['cells']:,}")
    if "stopped" in run:
        yield from ("-", f"stopped: {run['stopped']}", *["-"] * 6)
        return
    seconds = {name: of for name, of, _ in run["stages"]}
    yield from (f"{run['metacells']:,}", f"{seconds_of(run):.0f}")
    yield f"{seconds['evaluate']:.0f}" if "evaluate" in seconds else "-"
    yield f"{peak_of(run):.1f}"
    yield from (f"{run[name]:.3f}" for name in ("purity", "accuracy", "balanced_accuracy"))
    yield f"{run['size_cv']:.2f}"


def seconds_of(run: dict[str, Any]) -> float:
    """CPU seconds from counts to metacells."""
    return sum(seconds for name, seconds, _ in run["stages"] if name in TO_METACELLS)


def peak_of(run: dict[str, Any]) -> float:
    """Peak memory of a run, in GB."""
    return max(peak for *_, peak in run["stages"])


def slopes_of(runs: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Slope by method, of those with several numbers of cells."""
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method and "stages" in run]
        if len({run["cells"] for run in mine}) > 1:
            x, y = (np.log([f(run) for run in mine]) for f in (lambda r: r["cells"], seconds_of))
            yield method, float(np.polyfit(x, y, 1)[0])


if __name__ == "__main__":
    main()
