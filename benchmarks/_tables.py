"""Markdown tables of the comparison of methods on RNA."""

from __future__ import annotations

from typing import Any, Final

from _datasets import DATASETS
from _markdown import Report, table
from _methods import METHODS
from _summary import COMPARED, best, overlap

HEADINGS: Final = {
    "purity": "purity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "compactness": "compactness",
    "separation": "separation",
    "size_cv": "size CV",
    "cpu_seconds": "CPU s",
    "peak_mb": "peak MB",
}


def report(results: dict[str, Any]) -> Report:
    """Means over all sets; means over fewer sets, and all sets one by one."""
    first, *others = (mean_table(of) for of in results["mean_over_sets"])
    sets = [set_table(results, name) for name in results["datasets"]]
    parts = [machine_line(results), *others, *sets]
    return Report(first, "\n\n".join(part for part in parts if part))


def machine_line(results: dict[str, Any]) -> str:
    """Where the times come from, and what could not be run."""
    machine = results["machine"]
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['threads']} thread per run, no accelerator; Python {machine['python']}, "
        + ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        + "."
    ]
    elsewhere = [run for run in results["runs"] if run["cpu"] != machine["cpu"]]
    if elsewhere:
        methods = ", ".join(sorted({run["method"] for run in elsewhere}))
        others = ", ".join(sorted({run["cpu"] for run in elsewhere}))
        lines.append(f"Some runs of {methods} were made on another machine ({others}): their times")
        lines.append("do not compare with the others, their scores do.")
    lines += [f"Skipped: {skipped}." for skipped in results["skipped"]]
    lines += [f"Failed: {stem}." for stem in results["failed"]]
    return "\n".join(lines)


def mean_table(comparison: dict[str, Any]) -> str:
    """Means over data sets of the methods that have all of them."""
    names = comparison["datasets"]
    present = {row["method"] for row in comparison["methods"]}
    absent = [method for method in METHODS if method not in present]
    notes = [f"Medians over seeds, averaged over {len(names)} sets: {', '.join(names)}."]
    if absent:
        notes.append(f"Without all of these sets, so not here: {', '.join(absent)}.")
    rows = [
        {
            **row,
            "shown_seeds": "–".join(str(n) for n in sorted({min(row["seeds"]), max(row["seeds"])})),
            "shown_metacells": f"{row['metacells_per_asked']:.2f} x",
            "leaves_out": row["unassigned"] > 0,
        }
        for row in in_order(comparison["methods"])
    ]
    return "\n\n".join(["\n".join(notes), method_table(rows, "metacells per asked")])


def set_table(results: dict[str, Any], name: str) -> str:
    """All methods on one data set."""
    of_set = in_order([row for row in results["summary"] if row["dataset"] == name])
    if not of_set:
        return ""
    about = next(run for run in results["runs"] if run["dataset"] == name)
    rows = [
        {
            **row,
            "shown_seeds": str(len(row["seeds"])),
            "shown_metacells": f"{row['n_metacells']['median']:.0f}",
            "leaves_out": row["unassigned"]["max"] > 0,
        }
        for row in of_set
    ]
    intro = (
        f"{about['n_cells']:,} cells, {about['n_metacells_asked']} metacells asked for, "
        f"{about['labels']} labels, {DATASETS[name].labels}."
    )
    absent = [method for method in METHODS if method not in {row["method"] for row in rows}]
    notes = [f"† {note}" for row in rows if (note := left_out(results, row))]
    notes += [f"Not run on this set: {', '.join(absent)}."] if absent else []
    parts = [f"## {name}", intro, method_table(rows, "metacells"), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def left_out(results: dict[str, Any], row: dict[str, Any]) -> str:
    """What a method that leaves cells out leaves out; empty for the others."""
    runs = [
        run
        for run in results["runs"]
        if (run["dataset"], run["method"]) == (row["dataset"], row["method"])
    ]
    if not row["leaves_out"]:
        return ""
    share = row["unassigned"]["median"] / runs[0]["n_cells"]
    note = f"{row['method']} leaves out {share:.1%} of the cells; it is scored on the others"
    labels, scored = runs[0]["labels"], min(run["labels_scored"] for run in runs)
    return note + (f", where {scored} of {labels} labels remain." if scored < labels else ".")


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of the methods."""
    return sorted(rows, key=lambda row: list(METHODS).index(row["method"]))


def method_table(rows: list[dict[str, Any]], metacells: str) -> str:
    """Table of rows that hold a median and a range for the numbers compared."""
    leaders = [row for row in rows if not METHODS[row["method"]].is_floor]
    tops = {name: best(leaders, name) for name in COMPARED}
    heading = ["method", "seeds", metacells, *HEADINGS.values()]
    lines = (
        [
            row["method"] + (" †" if row["leaves_out"] else ""),
            row["shown_seeds"],
            row["shown_metacells"],
            *(marked(row, name, tops[name]) for name in COMPARED),
        ]
        for row in rows
    )
    return table(heading, lines, n_text=2)


def marked(row: dict[str, Any], name: str, top: dict[str, float] | None) -> str:
    """One number: bold where best, with ≈ where its range over seeds meets the best one's."""
    if name not in row:
        return "-"
    text = shown(name, row[name]["median"])
    if top is None or METHODS[row["method"]].is_floor:
        return text
    if text == shown(name, top["median"]):
        return f"**{text}**"
    return f"{text} ≈" if overlap(row[name], top) else text


def shown(name: str, value: float) -> str:
    """A number with as many digits as are known."""
    if name == "peak_mb" or (name == "cpu_seconds" and value >= 10):
        return f"{value:.0f}"
    return f"{value:.1f}" if name == "cpu_seconds" else f"{value:.3f}"
