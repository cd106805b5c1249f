"""Put what is measured about batches, samples and labels into one file and one table.

usage: python benchmarks/population.py

Reads what ``integration.py``, ``scpoli.py``, ``label_transfer.py``, ``pure.py`` and ``samples.py``
wrote, and writes ``results/population.json`` and means over data sets into the README. Runs
nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from _markdown import write_between
from _methods import HERE

BEGIN: Final = "<!-- population: written by population.py -->"
END: Final = "<!-- population: end -->"
RESULTS: Final = HERE / "results"
FILES: Final = {
    "metacells": "integration.json",
    "latents": "scpoli.json",
    "labels": "label_transfer.json",
    "within groups": "pure.json",
    "samples": "samples.json",
}
TABLES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "metacells": (
        "Metacells of several batches",
        {"mixing": "mixing", "purity": "purity", "balanced_accuracy": "balanced accuracy"},
    ),
    "latents": (
        "Latents of several batches, and labels of a batch that has none",
        {
            "ilisi": "iLISI",
            "batch_silhouette": "batch silhouette",
            "graph_connectivity": "graph connectivity",
            "clisi": "cLISI",
            "nmi": "NMI",
            "ari": "ARI",
            "knn_f1": "macro F1, 15 neighbours",
            "predicted_f1": "macro F1, own labels",
        },
    ),
    "labels": (
        "Labels of a query",
        {
            "weighted_f1": "weighted F1",
            "macro_f1": "macro F1",
            "auroc": "AUROC of unknown types",
        },
    ),
}


def main() -> None:
    """Collect, condense, write."""
    found = {
        part: json.loads((RESULTS / file).read_text())["summary"] for part, file in FILES.items()
    }
    means = {part: means_over_sets(found[part], tuple(TABLES[part][1])) for part in TABLES}
    results = {"mean_over_sets": means, **found}
    (RESULTS / "population.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n\n".join(table(part, rows) for part, rows in means.items())
    write_between(HERE / "README.md", BEGIN, END, f"\n{text}\n")


def means_over_sets(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Per method the mean over data sets, each the mean over its splits, of medians over seeds."""
    means = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        sets = list(dict.fromkeys(row["dataset"] for row in mine))
        seeds = [len(row["seeds"]) for row in mine]
        means.append({"method": method, "datasets": sets, "seeds": [min(seeds), max(seeds)]})
        for name in names:
            per_set = [
                np.mean(values)
                for of in sets
                if (values := [r[name]["median"] for r in mine if r["dataset"] == of and name in r])
            ]
            if len(per_set) == len(sets):
                means[-1][name] = round(float(np.mean(per_set)), 4)
    return means


def table(part: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Means of the methods that were run on all sets first, then of those run on fewer."""
    title, shown = TABLES[part]
    lines = [f"### {title}", "", "| method | sets | seeds | " + " | ".join(shown.values()) + " |"]
    lines.append("|" + " --- |" * 3 + " ---: |" * len(shown))
    for row in sorted(rows, key=lambda row: -len(row["datasets"])):
        numbers = [f"{row[name]:.3f}" if name in row else "" for name in shown]
        few, many = row["seeds"]
        seeds = str(few) if few == many else f"{few} to {many}"
        cells = [row["method"], str(len(row["datasets"])), seeds, *numbers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
