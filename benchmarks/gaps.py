"""Cells that lack a modality, assigned to metacells of both: how many meet their own.

usage: python benchmarks/gaps.py --data DIR

Half of the cells are the reference, with two modalities. Cells of the other half are assigned with
both, then with each of them alone. ``imputed`` compares cells and codes in all dimensions of the
latent, those of the imputed modality too; ``measured`` leaves these out. ``classifier`` is a linear
discriminant analysis that predicts the metacells from components of the one modality.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import scvi
from _command_line import growing_command_line
from _datasets import CELLS_PER_METACELL, LABEL
from _in_process import with_missing
from _markdown import Report, save, table
from _paired import PAIRED
from mudata import MuData, read_h5mu
from run_kmeans_paired import reduced
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import scmetaq

WAYS: Final = ("imputed", "measured", "classifier")


def main() -> None:
    """Run what is missing, then write results and table."""
    args = growing_command_line(__doc__, PAIRED, out="gaps.json", files="h5mu").parse_args()
    tasks = (
        ((name, seed), lambda name=name, seed=seed: measured(args.data / f"{name}.h5mu", seed))
        for name in args.datasets
        for seed in args.seeds
    )
    for records in with_missing(args.out, tasks, names=("dataset", "seed"), again=args.again):
        if records:
            save(args, "gaps", {"runs": records}, report({"runs": records}))


def measured(path: Path, seed: int) -> dict[str, Any]:
    """Share of new cells that meet their own metacell, and accuracy of its majority label."""
    mdata = read_h5mu(path)
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    first, second = (np.sort(half) for half in np.array_split(order, 2))
    cells, new = mdata[first].copy(), mdata[second].copy()
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_mudata(cells)
    model = scmetaq.MetaQModel(cells, max(5, cells.n_obs // CELLS_PER_METACELL))
    model.train(accelerator="cpu", enable_progress_bar=False)
    of_cells, own = (model.get_assignments(of)["metacell"].astype(str) for of in (cells, new))
    gaps = model.module.imputation.has_gaps
    found: dict[str, Any] = {}
    for kind in mdata.mod:
        alone = MuData({kind: new[kind].copy()})
        for way, has_gaps in (("imputed", True), ("measured", False)):
            gaps.fill_(has_gaps)
            assigned = model.get_assignments(alone)["metacell"].astype(str)
            found[f"{kind} {way}"] = float((assigned == own).mean())
            if LABEL in mdata.obs:
                majority = mdata.obs[LABEL].loc[of_cells.index].groupby(of_cells).agg(most_frequent)
                right = majority.reindex(assigned).array == mdata.obs[LABEL].loc[own.index].array
                found[f"{kind} {way} accuracy"] = float(np.mean(right))
        z = reduced(kind, mdata[kind].copy(), seed)
        classifier = LinearDiscriminantAnalysis().fit(z[first], of_cells)
        found[f"{kind} classifier"] = float((classifier.predict(z[second]) == own).mean())
    return found


def most_frequent(labels: pd.Series) -> str:
    """Return the majority of labels."""
    return str(labels.value_counts().index[0])


def report(results: dict[str, Any]) -> Report:
    """A row per set and modality: medians over seeds."""
    runs, rows = pd.DataFrame(results["runs"]), []
    for name, of in runs.groupby("dataset", sort=False):
        medians = of.drop(columns="dataset").median()
        for column in medians.dropna().index:
            kind, _, way = column.partition(" ")
            if way == WAYS[0]:
                read = [f"{kind} {way}" for way in WAYS]
                read += [f"{kind} {way} accuracy" for way in WAYS[:2]]
                values = medians.reindex(read)
                cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
                rows.append([name, kind, str(len(of)), *cells])
    heading = ["data set", "modality", "seeds", *WAYS, "labels, imputed", "labels, measured"]
    return Report(table(heading, rows))


if __name__ == "__main__":
    main()
