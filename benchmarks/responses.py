"""Which genes respond to interferon in each state, with donors as replicates.

usage: python benchmarks/responses.py --data DIR [--seeds 0 1 2]

Blood cells of two donors, with and without interferon beta. A model with the four samples as
conditions makes a metacell per 150 cells, which is split by donor and treatment; PyDESeq2 tests the
sums of a metacell, four of at least ten cells, for the treatment, with the donor in the design.
The same is done with the sums of each cell type. Runs that ``results/responses.json`` has are not
repeated, unless ``--again`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import anndata
import pandas as pd
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import Key, with_missing
from _markdown import Report, save, table
from pydeseq2.dds import DeseqDataSet
from pydeseq2.ds import DeseqStats
from quality import machine

import scmetaq

NAMES: Final = ("dataset", "by", "state", "seed")
SET: Final = "kang_pbmc_labelled_1267genes"
WITHIN: Final = ["donor", "condition"]
PER_METACELL: Final = 150
MIN_CELLS: Final = 10
N_TOP: Final = 10
INDUCED: Final = re.compile(
    r"ISG(15|20)|IFI(6|27|35|44L?|H1|T\d|TM\d)|MX[12]|OAS[123L]|IRF[179]|STAT[12]|HERC[56]|SAMD9L?|"
    r"PARP(9|14)|CXCL1[01]|RSAD2|LY6E|XAF1|EPSTI1|UBE2L6|PLSCR1|CMPK2|USP18|EIF2AK2|TNFSF10|BST2|SP110"
)
"""Genes that interferon is known to induce."""


def main() -> None:
    """Run what is missing, then write results and table."""
    args = growing_command_line(__doc__, [SET], out="responses.json").parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "responses", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All tests: of the cell types, then of the metacells of each seed."""
    adata, labels = DATASETS[SET].read(args.data)
    adata.obs["cell_type"] = labels.astype(str)
    adata.obs["donor"] = adata.obs["batch"].astype(str).str[-3:]
    sums = {("type", 0): of_types(adata)}
    sums |= {("metacell", seed): of_metacells(adata, seed) for seed in args.seeds}
    for (by, seed), of in sums.items():
        for state, rows in of.obs.groupby(by):
            if len(rows) == 4 and rows["n_cells"].min() >= MIN_CELLS:
                yield (SET, by, state, seed), partial(run, of[rows.index])


def of_types(adata: anndata.AnnData) -> anndata.AnnData:
    """Sums of each type, donor and treatment."""
    sums = scmetaq.tl.aggregate(adata, ["cell_type", *WITHIN])
    sums.obs["type"] = sums.obs["cell_type"].astype(str)
    return sums


def of_metacells(adata: anndata.AnnData, seed: int) -> anndata.AnnData:
    """Sums of each metacell, donor and treatment."""
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_anndata(adata, batch_key="batch")
    model = scmetaq.MetaQModel(adata, round(adata.n_obs / PER_METACELL))
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model.get_metacells(within=WITHIN, min_cells=MIN_CELLS)


def run(sums: anndata.AnnData) -> dict[str, Any]:
    """How many genes respond, and which come first."""
    counts = sums.to_df(layer="counts").astype(int)
    counts = counts.loc[:, (counts >= MIN_CELLS).sum() >= 2]
    design, quiet = "~ donor + condition", {"quiet": True, "n_cpus": 1}
    dds = DeseqDataSet(counts=counts, metadata=sums.obs, design=design, **quiet)
    dds.deseq2()
    stats = DeseqStats(dds, contrast=["condition", "stim", "ctrl"], **quiet)
    stats.summary()
    found = stats.results_df.sort_values("pvalue")
    top = found.index[:N_TOP].tolist()
    return {
        "cell_type": sums.obs["cell_type"].astype(str).mode()[0],
        "n_cells": int(sums.obs["n_cells"].sum()),
        "n_tested": counts.shape[1],
        "n_found": int((found["padj"] < 0.05).sum()),
        "n_induced": sum(INDUCED.fullmatch(gene) is not None for gene in top),
        "n_raised": int((found["log2FoldChange"].iloc[:N_TOP] > 0).sum()),
        "top": [gene.partition("_ENSG")[0] for gene in top],
    }


def report(results: dict[str, Any]) -> Report:
    """A row per type or metacell of the first seed; the rows of the other seeds."""
    runs = pd.DataFrame(results["runs"])
    first, *others = (lines_of(of_seed) for _, of_seed in runs.groupby("seed"))
    parts = (f"## Another seed\n\n{lines}" for lines in others)
    return Report(first, "\n\n".join(parts))


def lines_of(runs: pd.DataFrame) -> str:
    """Types, then metacells in the order of their types."""
    runs = runs.assign(is_type=runs["by"] == "type")
    lines = [
        [
            run.state if run.by == "metacell" else "all",
            run.cell_type,
            ", ".join(run.top[:6]),
            *map(str, (run.n_cells, run.n_tested, run.n_found, run.n_induced)),
        ]
        for run in runs.sort_values(["cell_type", "is_type"], ascending=[True, False]).itertuples()
    ]
    heading = ["metacell", "cell type", "first genes", "cells", "genes tested", "FDR < .05"]
    heading += ["of the first ten, known to be induced"]
    return table(heading, lines, n_text=3)


if __name__ == "__main__":
    main()
