"""Scores of a run by ``scmetaq.metrics``, stored next to its assignment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import anndata
import numpy as np
import pandas as pd
from _datasets import n_metacells
from _runs import Run, cpu_model

from scmetaq.metrics import evaluate

COUNTED = ("n_metacells", "unassigned", "size_min", "size_max")


def record(run: Run, adata: anndata.AnnData, labels: pd.Series) -> dict[str, Any]:
    """Everything known about one run."""
    return {
        **about(run),
        "n_cells": adata.n_obs,
        "n_metacells_asked": n_metacells(adata.n_obs),
        **kept_scores(run, lambda assignment: scores(adata, assignment, labels)),
    }


def about(run: Run) -> dict[str, Any]:
    """Which run it is, and what it took."""
    report = run.report()
    return {
        "dataset": run.dataset.name,
        "method": run.method.name,
        "seed": run.seed,
        **{key: report[key] for key in ("version", "seconds", "cpu_seconds", "peak_mb")},
        "cpu": report.get("cpu", cpu_model()),
    }


def kept_scores(run: Run, score: Callable[[np.ndarray], dict[str, float]]) -> dict[str, float]:
    """Scores from the cache if they are of this very assignment, else computed and kept."""
    file = run.file(".metrics.json")
    digest = hashlib.sha256(run.file(".npy").read_bytes()).hexdigest()
    if file.exists() and (kept := json.loads(file.read_text()))["assignment"] == digest:
        return kept["scores"]
    print(f"score {run.stem}", flush=True)
    found = score(np.load(run.file(".npy")))
    file.write_text(json.dumps({"assignment": digest, "scores": found}) + "\n")
    return found


def scores(adata: anndata.AnnData, assignment: np.ndarray, labels: pd.Series) -> dict[str, float]:
    """One number per metric: the mean over metacells where it is one per metacell.

    Cells without a metacell are left out of all scores but ``unassigned``, cells without a label
    of the label scores. ``labels_scored`` of ``labels`` kinds of cells remain for these.
    """
    means = evaluate(adata, assignment, labels).groupby("metric")["value"].mean()
    found = {
        metric: int(value) if metric in COUNTED else round(float(value), 6)
        for metric, value in means.drop("n_cells").items()
    }
    found["labels"] = labels.nunique()
    found["labels_scored"] = labels[assignment >= 0].nunique()
    return found
