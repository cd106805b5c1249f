"""Compare metacells of two modalities: one command from counts to tables.

usage: python benchmarks/multiome.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

As ``quality.py``: every (data set, method, seed) that the cache lacks is run in a process of its
own, then everything in the cache is scored, with each modality in turn, and written to
``results/multiome.json``, and as tables to the README and ``results/multiome.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _markdown import Report, save, table
from _methods import Method
from _paired import GATES, PAIRED, PairedDataset, prepare_all
from _runs import Run, finished, with_kept
from _scores import about as about_run
from _scores import kept_scores
from _summary import number, over_seeds, overlap
from _tables import machine_line
from quality import machine

from scmetaq import metrics

OURS: Final = "methods/run_scmetaq_paired.py"
METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        Method("scmetaq-joint", OURS, "this package, both modalities", ("--use", "joint")),
        Method(
            "scmetaq-mosaic",
            OURS,
            "the same with the second modality taken from a random 30 % of the cells",
            ("--use", "mosaic"),
        ),
        Method("scmetaq-rna", OURS, "this package, RNA alone", ("--use", "rna")),
        Method(
            "scmetaq-other", OURS, "this package, the second modality alone", ("--use", "other")
        ),
        Method(
            "kmeans-concatenated",
            "methods/run_kmeans_paired.py",
            "k-means (one start) on principal components of both, each of total variance one",
        ),
        Method(
            "kmeans-rna",
            "methods/run_kmeans_paired.py",
            "k-means on principal components of RNA",
            ("--on", "rna"),
        ),
        Method(
            "kmeans-other",
            "methods/run_kmeans_paired.py",
            "k-means on components of the second modality",
            ("--on", "other"),
        ),
        Method(
            "kmeans-wnn",
            "methods/run_kmeans_paired.py",
            "k-means on Laplacian components of muon's weighted nearest neighbours",
            ("--on", "wnn"),
        ),
        Method(
            "scvi-kmeans-paired",
            "methods/run_scvi_paired.py",
            "k-means on latents of totalVI or MultiVI, scvi-tools' defaults",
        ),
        Method(
            "metaq-authors",
            "peers/run_metaq.py",
            "MetaQ, the authors' package, both modalities",
            environment="metaq",
            cache_name="metaq-paired",
        ),
        Method(
            "metaq-authors-100",
            "peers/run_metaq.py",
            "the same, stopped after 100 of its 300 epochs, where 300 take hours",
            ("--epochs", "100"),
            environment="metaq",
            cache_name="metaq-paired-100",
        ),
        Method(
            "seacells",
            "peers/run_seacells.py",
            "SEACells on principal components of both",
            environment="seacells",
            cache_name="seacells-paired",
        ),
    )
}
JOINT: Final = "scmetaq-joint"
NOT_JOINT: Final = ("scmetaq-mosaic", "scmetaq-rna", "scmetaq-other", "kmeans-rna", "kmeans-other")
ABOUT: Final = ("dataset", "method", "seed", "version", "cpu", "n_cells")
WHOLE: Final = ("n_metacells", "size_cv", "size_max", "cpu_seconds", "peak_mb")


def main() -> int:
    """Run what is missing, score what is there, write results and tables."""
    args = command_line(__doc__, METHODS, PAIRED, out="multiome.json", files="h5mu").parse_args()
    cache = cache_folder(args)
    prepared = cache / "paired"
    datasets = prepare_all(args.datasets, args.data, prepared)
    done = run_missing(args, METHODS, datasets, prepared)
    new = [
        found
        for dataset in PAIRED.values()
        if dataset.path(prepared).exists()
        for found in records_of(dataset, prepared, cache)
    ]
    records = with_kept(new, args.out, METHODS, PAIRED)
    frame = pd.DataFrame(records)
    rows = over_seeds(frame, frame.columns.drop([*ABOUT]))
    results = {"machine": machine(), "summary": rows, "runs": records}
    results |= done._asdict()
    save(args, "multiome", results, report(results))
    return 1 if done.failed else 0


def records_of(dataset: PairedDataset, prepared: Path, cache: Path) -> list[dict[str, Any]]:
    """Records of the finished runs on one data set, which is read once."""
    runs = [run for method in METHODS.values() for run in finished(dataset, method, cache)]
    if not runs:
        return []
    parts, labels = dataset.read(prepared)
    return [record(run, parts, labels) for run in runs]


def record(run: Run, parts: dict[str, Any], labels: dict[str, pd.Series]) -> dict[str, Any]:
    """Everything known about one run; scores are stored next to its assignment."""
    return {
        **about_run(run),
        "n_cells": next(iter(parts.values())).n_obs,
        **kept_scores(run, lambda assignment: scores(parts, assignment, labels)),
    }


def scores(
    parts: dict[str, Any], assignment: np.ndarray, labels: dict[str, pd.Series]
) -> dict[str, float]:
    """One number per metric: compactness and separation in each modality, and of each labels.

    Of a class of labels: the share of its cells that are in metacells where it is the majority.
    """
    found: dict[str, float] = {}
    for kind, adata in parts.items():
        means = metrics.evaluate(adata, assignment).groupby("metric")["value"].mean()
        found |= {f"{name} {kind}": means[name] for name in ("compactness", "separation")}
    found |= {name: means[name] for name in ("n_metacells", "size_cv", "size_max")}
    for name, of_cell in labels.items():
        known = of_cell.notna().to_numpy()
        a, b = assignment[known], of_cell[known].astype(str).to_numpy()
        found[f"purity {name}"] = metrics.purity(a, b).mean()
        found[f"accuracy {name}"] = metrics.accuracy(a, b)
        found[f"balanced accuracy {name}"] = metrics.balanced_accuracy(a, b)
        majority = pd.Series(b).groupby(a).transform(lambda group: group.mode()[0]).to_numpy()
        found |= {f"{name}: {c}": (majority == c)[b == c].mean() for c in np.unique(b)}
    return {name: round(float(value), 6) for name, value in found.items()}


def report(results: dict[str, Any]) -> Report:
    """Methods of both modalities; two tables per data set: all scores, and each class of labels."""
    rows, parts = results["summary"], [machine_line(results)]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        of_set = [row for row in rows if row["dataset"] == name]
        numbers = [key for key in of_set[0] if isinstance(of_set[0][key], dict)]
        classes = [key for key in numbers if ": " in key]
        whole = [key for key in numbers if key not in (*classes, "seconds", "size_max")]
        first = [key for key in whole if key.startswith(("purity", "accuracy", "balanced"))]
        columns = [*first, *[key for key in whole if key not in (*first, *WHOLE)], *WHOLE[1:2]]
        parts += [f"## {name}, RNA and {PAIRED[name].other.upper()}", about(name)]
        parts.append(of_methods(of_set, [*columns, "n_metacells", "cpu_seconds", "peak_mb"]))
        parts.append(ahead(of_set, columns))
        if classes:
            parts += ["Share of the cells of a class that are in its metacells:"]
            parts.append(of_methods(of_set, classes))
    return Report(of_joint_methods(rows), "\n\n".join(parts))


def of_joint_methods(rows: list[dict[str, Any]]) -> str:
    """Main scores of the methods that use both modalities of all cells, all sets in one table."""
    lines = []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        of_set = [r for r in rows if r["dataset"] == name and r["method"] not in NOT_JOINT]
        for labels in [key[len("purity ") :] for key in of_set[0] if key.startswith("purity ")]:
            scored = [f"{score} {labels}" for score in ("purity", "accuracy", "balanced accuracy")]
            scored += [f"compactness {kind}" for kind in ("rna", PAIRED[name].other)]
            for row in of_set:
                cells = (number(row, key) for key in (*scored, "size_cv"))
                lines.append([name, labels.replace("_", " "), row["method"], *cells])
    scores_shown = ["purity", "accuracy", "balanced accuracy", "compactness RNA"]
    scores_shown += ["compactness other", "size CV"]
    return table(["data set", "labels", "method", *scores_shown], lines, n_text=3)


def ahead(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Which other methods of both modalities are better, and in how many columns they are worse."""
    lines = []
    ours = next((row for row in rows if row["method"] == JOINT), {})
    for row in joint_peers(rows) if ours else []:
        wins, losses = beyond_seeds(row, ours, columns)
        if wins:
            lines.append(
                f"- {row['method']} is better than {JOINT} by more than the range over seeds in "
                f"{', '.join(versus(row, ours, name) for name in wins)}, and worse in "
                f"{len(losses)} of {len(columns)} columns."
            )
    if not lines:
        return f"No other method of both modalities is better than {JOINT} by more than the seeds."
    return "\n".join(lines)


def joint_peers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of other methods that use both modalities of all cells."""
    return [row for row in rows if row["method"] not in (JOINT, *NOT_JOINT)]


def beyond_seeds(
    row: dict[str, Any], other: dict[str, Any], columns: list[str]
) -> tuple[list[str], list[str]]:
    """Columns in which a method is better than another, and worse, with no overlap over seeds."""
    both = [name for name in columns if name in row and name in other]
    apart = [name for name in both if not overlap(row[name], other[name])]
    wins = [name for name in apart if is_better(row, other, name)]
    return wins, [name for name in apart if name not in wins]


def is_better(row: dict[str, Any], other: dict[str, Any], name: str) -> bool:
    """Whether a median is better than another."""
    sign = -1 if name == "size_cv" else 1
    return bool(sign * row[name]["median"] > sign * other[name]["median"])


def versus(row: dict[str, Any], other: dict[str, Any], name: str) -> str:
    """Two medians in words."""
    return f"{name} ({row[name]['median']:.4g}, {other[name]['median']:.4g})"


def about(name: str) -> str:
    """What there is to say of a data set."""
    dataset = PAIRED[name]
    labels = f"Cell types: {dataset.labels}. " if dataset.labels else "No cell types. "
    gates = f'"{GATES}": populations defined by the proteins.' if dataset.other == "adt" else ""
    return (labels + gates).strip()


def of_methods(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Table of medians; bold where best, with ≈ where ranges over seeds meet."""
    lines = (
        [row["method"], str(len(row["seeds"])), *(marked(row, rows, name) for name in columns)]
        for row in rows
    )
    return table(["method", "seeds", *columns], lines, n_text=2)


def marked(row: dict[str, Any], rows: list[dict[str, Any]], name: str) -> str:
    """One number of a table."""
    if name not in row:
        return "-"
    of = row[name]
    if name in WHOLE and name != "size_cv":
        return f"{of['median']:.0f}"
    sign = -1 if name == "size_cv" else 1
    top = max(
        (other[name] for other in rows if name in other), key=lambda other: sign * other["median"]
    )
    text = f"{of['median']:.3f}"
    if text == f"{top['median']:.3f}":
        return f"**{text}**"
    return f"{text} ≈" if overlap(of, top) else text


if __name__ == "__main__":
    raise SystemExit(main())
