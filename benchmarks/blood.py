"""Metacells of real blood cells of many libraries: one command from counts to tables.

usage: python benchmarks/blood.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

All sets of human blood in DIR whose genes have names, each cell once and as it was counted, with
labels in one vocabulary. Files that have all genes are joined by ``scmetaq.data.read_files``, then
those of variable genes too, which leaves fewer genes. Runs are those of ``integration.py``.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import anndata
import mudata
import numpy as np
import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _datasets import LABEL, UNLABELLED, Dataset
from _markdown import Report, save, table
from _methods import Method
from _paired import gated
from _runs import Run, finished, with_kept
from _summary import number, over_seeds
from integration import AWARE, BATCH, SHOWN
from integration import record as record_of
from quality import machine

from scmetaq import metrics
from scmetaq.data import read_files

METHODS: Final[dict[str, Method]] = {
    name: AWARE[name] for name in ("scmetaq-conditions", "scmetaq", "kmeans-pca", "harmony-kmeans")
}
LIBRARIES: Final[dict[str, tuple[str, str]]] = {
    "pbmc3k": ("3' v1", "clusters of these counts"),
    "facs_sorted": ("3' v1", "sorting"),
    "interferon_ctrl": ("3' v1", "authors', of these counts"),
    "interferon_stim": ("3' v1", "authors', of these counts"),
    "eccite": ("5'", "protein gates"),
    "pbmc10k": ("3' v3", "protein gates"),
    "pbmc5k": ("3' v3", "protein gates"),
    "3pv1": ("3' v1", "authors', of these counts"),
    "3pv2": ("3' v2", "authors', of these counts"),
    "5p": ("5'", "authors', of these counts"),
}
"""Chemistry of each library, which is a batch, and origin of its labels; donor A has none."""
ALL_GENES: Final = ("pbmc3k", "facs_sorted", "donor_A", "interferon", "eccite", "proteins")
FILES: Final = (*ALL_GENES, "chemistries", "interferon_labelled")
SETS: Final[dict[str, tuple[str, ...]]] = {f"blood_{n}_files": FILES[:n] for n in (6, 7, 8)}
MAIN_SET, MAIN_METHOD = "blood_7_files", "scmetaq-conditions"
WORDS: Final[dict[str, str]] = {
    "B": "B, B cells",
    "CD4 T": "CD4 T, CD4 T cells, T_CD4, Naive CD4 T, Memory CD4 T, CD4 T (naive), CD4 T (memory), "
    "CD4 T (helper), CD4 T (regulatory)",
    "CD8 T": "CD8 T, CD8 T cells, T_CD8, CD8 T (naive cytotoxic), CD8 T (CD8+ cytotoxic)",
    "NK": "NK",
    "CD14 mono": "CD14 mono, CD14+ Mono, CD14 Mono, CD14+ Monocytes, Mono_CD14",
    "FCGR3A mono": "FCGR3A mono, FCGR3A+ Mono, FCGR3A+ Monocytes, Mono_CD16",
    "DC": "DC",
    "Mk": "Platelet, MK",
}
"""Labels in common and the words of the sources. Others, three stem cells, count as unlabelled."""
COMMON: Final = {word: name for name, words in WORDS.items() for word in words.split(", ")}
POPULATIONS: Final[dict[str, tuple[str, str]]] = {
    "B": ("CD19", "CD3 CD14 CD56"),
    "CD4 T": ("CD3 CD4", "CD8 CD19"),
    "CD8 T": ("CD3 CD8", "CD4 CD19"),
    "NK": ("CD56", "CD3 CD14 CD19"),
    "CD14 mono": ("CD14", "CD3 CD16 CD19"),
    "FCGR3A mono": ("CD16", "CD3 CD14 CD19 CD56"),
}
MARKERS: Final = "MS4A1 CD79A CD3D IL7R CD8A CD8B NKG7 GNLY LYZ CD14 FCGR3A FCER1A PPBP"
ABOUT: Final = f"""Metacells of `{MAIN_METHOD}`, 588 genes. *Own label*: share of cells whose \
metacell has their label as its most frequent one; *libraries*: in a metacell, median. Genes: \
log1p of mean counts per 10,000, mean over metacells, from the six files that have all genes."""
OTHERS: Final = "label of other libraries"
OWN: Final = {"treatment": "mixing of interferon and control", "others": OTHERS}
COLUMNS: Final = {"mixing": SHOWN["mixing"], **OWN, **SHOWN}


def main() -> int:
    """Join the files, run what is missing, score what is there, write results and tables."""
    args = command_line(__doc__, METHODS, SETS, out="blood.json").parse_args()
    cache, datasets = cache_folder(args), [Dataset(name, "of several origins") for name in SETS]
    prepare(args.data, cache)
    chosen = [dataset for dataset in datasets if dataset.name in args.datasets]
    done = run_missing(args, METHODS, chosen, cache)
    new = [found for dataset in datasets for found in records_of(dataset, cache)]
    records = with_kept(new, args.out, METHODS, SETS)
    rows = over_seeds(pd.DataFrame(records), ["cells", "genes", *COLUMNS])
    results = {"machine": machine(), "summary": rows, "runs": records, **done._asdict()}
    save(args, "blood", results, report(results))
    return 1 if done.failed else 0


def prepare(data: Path, cache: Path) -> None:
    """Write a file per source, with labels in common, then the joined sets."""
    if all((cache / f"{name}.h5ad").exists() for name in SETS):
        return
    parts = cache / "blood"
    parts.mkdir(exist_ok=True)
    for name, adata in sources(data).items():
        labels = adata.obs[LABEL].astype(object).map(COMMON).fillna(UNLABELLED)
        obs = pd.DataFrame({LABEL: labels, BATCH: adata.obs[BATCH].astype(str)})
        part = anndata.AnnData(adata.X, obs, pd.DataFrame(index=adata.var_names))
        part.obs_names = f"{name}_" + part.obs_names
        part.write_h5ad(parts / f"{name}.h5ad")
    for name, files in SETS.items():
        joined = read_files([parts / f"{file}.h5ad" for file in files])
        X = joined.X
        if len({(*X.indices[a:b], *X.data[a:b]) for a, b in pairwise(X.indptr)}) < joined.n_obs:
            raise ValueError(f"Expected each cell once, found equal counts in {name}.")
        joined.write_h5ad(cache / f"{name}.h5ad")


def sources(data: Path) -> dict[str, anndata.AnnData]:
    """Cells of each source, with labels in the source's words and the library as batch."""
    found = {
        "pbmc3k": anndata.read_h5ad(data / "pbmc3k.h5ad"),
        "facs_sorted": anndata.read_h5ad(data / "pbmc_facs_sorted.h5ad"),
        "interferon": anndata.read_h5ad(data / "kang_pbmc_ifnb_2000.h5ad"),
        "chemistries": anndata.read_h5ad(data / "pbmc_3chemistries_1200_hvg.h5ad"),
    }
    # of the other two batches of this set, all cells are in pbmc3k and facs_sorted
    several = anndata.read_h5ad(data / "pbmc_multibatch.h5ad")
    found["donor_A"] = several[several.obs[BATCH] == "frozen_donor_A"].copy()
    found["donor_A"].obs[BATCH] = "donor_A"
    # the two sets of Kang et al. are of the same two libraries and share 114 cells
    labelled = anndata.read_h5ad(data / "kang_pbmc_labelled_1267genes.h5ad")
    labelled.obs[BATCH] = labelled.obs["condition"].astype(str)
    labelled.obs_names = labelled.obs[BATCH] + "_" + labelled.obs_names
    is_new = ~labelled.obs_names.isin(found["interferon"].obs_names)
    found["interferon_labelled"] = labelled[is_new].copy()
    for name in ("interferon", "interferon_labelled"):
        found[name].obs[BATCH] = "interferon_" + found[name].obs[BATCH].astype(str)
    for name, file in (("eccite", "eccite_pbmc_500"), ("proteins", "pbmc_protein_2batch_400")):
        found[name] = with_gates(mudata.read_h5mu(data / f"{file}.h5mu"), name)
    return found


def with_gates(mdata: mudata.MuData, name: str) -> anndata.AnnData:
    """RNA of cells, labelled by the surface proteins of each library."""
    rna, proteins = mdata["rna"].copy(), mdata["adt"].copy()
    proteins.var_names = proteins.var_names.str.replace("CD8a", "CD8")
    rna.obs[BATCH] = mdata.obs[BATCH].astype(str) if BATCH in mdata.obs else name
    rna.obs[LABEL] = UNLABELLED
    for cells in rna.obs.groupby(BATCH).groups.values():
        gates = gated(proteins[cells].copy(), populations=POPULATIONS)
        # of fewer cells the upper of two normal distributions is not that of a population
        is_common = gates.groupby(gates).transform("size") >= 5
        rna.obs.loc[cells, LABEL] = gates.where(is_common, UNLABELLED)
    return rna


def records_of(dataset: Dataset, cache: Path) -> list[dict[str, Any]]:
    """Records of the finished runs on one set, which is read once."""
    adata, labels = dataset.read(cache)
    markers = marker_counts(cache, SETS[dataset.name])
    runs = [run for method in METHODS.values() for run in finished(dataset, method, cache)]
    return [record(run, adata, labels, markers) for run in runs]


def record(
    run: Run, adata: anndata.AnnData, labels: pd.Series, markers: pd.DataFrame
) -> dict[str, Any]:
    """Everything known about one run."""
    cells = adata.obs.assign(**{LABEL: labels, "metacell": np.load(run.file(".npy"))})
    known = cells.dropna(subset=LABEL).astype({LABEL: str, BATCH: str})
    known["others"] = of_other_batches(known) == known[LABEL]
    majority = known.groupby("metacell")[LABEL].agg(lambda of: of.value_counts().index[0])
    known["own"] = majority[known["metacell"]].to_numpy() == known[LABEL].to_numpy()
    batches = cells.groupby("metacell")[BATCH].nunique().groupby(majority).median()
    means = np.log1p(markers.groupby(cells["metacell"]).mean()).groupby(majority).mean()
    of_types = shares(known, LABEL).assign(metacells=majority.value_counts(), libraries=batches)
    of_types = of_types.fillna({"metacells": 0}).join(means.round(3))
    treated = cells[cells[BATCH].astype(str).str.startswith("interferon")]
    found = {"cells": adata.n_obs, "genes": adata.n_vars, "others": known["others"].mean()}
    found["treatment"] = metrics.mixing(treated["metacell"], treated[BATCH]).mixing
    return {
        **record_of(run, adata, labels),
        **{name: round(float(value), 6) for name, value in found.items()},
        "by_library": shares(known, BATCH).to_dict("index"),
        "by_type": of_types.astype(object).where(of_types.notna(), None).to_dict("index"),
    }


def of_other_batches(cells: pd.DataFrame) -> np.ndarray:
    """Most frequent label among the cells of other batches in the metacell of each cell."""
    mine = pd.crosstab([cells["metacell"], cells[BATCH]], cells[LABEL])
    every = mine.groupby("metacell").transform("sum")
    best = (every - mine).idxmax(axis=1).where((every - mine).max(axis=1) > 0)
    return best[pd.MultiIndex.from_frame(cells[["metacell", BATCH]])].to_numpy()


def shares(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """Cells, and shares of them with the label of their metacell, of all and of other libraries."""
    found = cells.groupby(by)[["own", "others"]].mean().round(4)
    return found.assign(cells=cells[by].value_counts())


def marker_counts(cache: Path, files: tuple[str, ...]) -> pd.DataFrame:
    """Counts of marker genes per 10,000 of the cells of which all genes are known."""
    found = []
    for file in sorted(set(files) & set(ALL_GENES)):
        part = anndata.read_h5ad(cache / "blood" / f"{file}.h5ad")
        genes = part[:, part.var_names.isin(MARKERS.split())].to_df()
        found.append(genes * 1e4 / np.asarray(part.X.sum(axis=1)))
    return pd.concat(found)[MARKERS.split()]


def report(results: dict[str, Any]) -> Report:
    """A row per set and method; a page by type and by library."""
    rows = (
        [f"{row['cells']['median']:,.0f} cells, {row['genes']['median']:,.0f} genes", row["method"]]
        + [number(row, key, ".0f" if key == "cpu_seconds" else ".3f") for key in COLUMNS]
        for row in results["summary"]
    )
    short = table(["set", "method", *COLUMNS.values()], rows, n_text=2)
    types = over_runs(results["runs"], "by_type", MAIN_METHOD).loc[list(WORDS)]
    how = {"own": ".2f", "others": ".2f", "cells": ",.0f", "metacells": ".0f", "libraries": ".0f"}
    how |= dict.fromkeys(MARKERS.split(), ".1f")
    lines = (
        [kind, *("-" if pd.isna(row[name]) else format(row[name], how[name]) for name in how)]
        for kind, row in types.iterrows()
    )
    names = {"cells": "labelled cells", "own": "own label", "others": OTHERS}
    full = ["## By type", ABOUT, table(["type", *(names.get(n, n) for n in how)], lines)]
    found = [over_runs(results["runs"], "by_library", method) for method in METHODS]
    lines = (
        [name, *LIBRARIES[name], f"{row['cells']:,.0f}"]
        + [format(of["others"][name], ".2f") for of in found]
        for name, row in found[0].loc[list(LIBRARIES)].iterrows()
    )
    heading = ["library", "chemistry", "labels", "labelled cells", *METHODS]
    full += ["## By library", f"Share with the {OTHERS}.", table(heading, lines, n_text=3)]
    return Report(short, "\n\n".join(full))


def over_runs(runs: list[dict[str, Any]], part: str, method: str) -> pd.DataFrame:
    """Mean over the seeds of a method on the main set."""
    mine = [run[part] for run in runs if (run["dataset"], run["method"]) == (MAIN_SET, method)]
    tables = [pd.DataFrame(of).T.astype(float) for of in mine]
    return pd.concat(tables).groupby(level=0).mean()


if __name__ == "__main__":
    raise SystemExit(main())
