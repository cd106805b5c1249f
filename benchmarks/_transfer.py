"""Tasks of label transfer, the classifiers compared and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import LinearSVC

from scmetaq.nn import LabelPrototypes, PrototypeFit
from scmetaq.nn._prototype_fit import N_FOLDS

N_NEIGHBORS: Final = 15
N_STATES: Final = 32
"""First dimensions of the latents of scmetaq, which are the states."""
FEWEST: Final = 10
"""Query cells that a type needs to be held out."""

Answer = tuple[np.ndarray, np.ndarray]
"""Label of each query cell, and a number that is larger where the label is less sure."""
Classifier = Callable[[np.ndarray, np.ndarray, np.ndarray], Answer]
"""From reference rows, their labels and query rows to an answer."""


@dataclass(frozen=True)
class Task:
    """Labels of which cells are given, and of which are asked for."""

    split: str
    reference: np.ndarray
    query: np.ndarray
    held_out: str | None
    """Type whose labels were taken out of the reference; None: no type."""

    @property
    def name(self) -> str:
        """Name of the task in tables and files."""
        return self.split if self.held_out is None else f"{self.split}, without {self.held_out}"


def half(n_cells: int, seed: int) -> np.ndarray:
    """Mask of a random half of the cells."""
    mask = np.zeros(n_cells, bool)
    mask[np.random.default_rng(seed).permutation(n_cells)[: n_cells // 2]] = True
    return mask


def tasks(labels: np.ndarray, batches: np.ndarray | None, seed: int) -> Iterator[Task]:
    """Every batch as the query of the others, or a random half as that of the other half.

    Query cells of types that the reference lacks altogether are left out. Each split comes once
    with all types and once without each type of which the query has a few cells.
    """
    known = np.array([label is not None for label in labels])
    names = labels.astype(str)
    if batches is None:
        reference = half(len(labels), seed)
        splits = {"half": (reference & known, ~reference & known)}
    else:
        splits = {b: (known & (batches != b), known & (batches == b)) for b in np.unique(batches)}
    for split, (reference, query) in splits.items():
        types = np.unique(names[reference])
        query = query & np.isin(names, types)
        if not query.any():
            continue
        yield Task(split, reference, query, None)
        for held_out in types:
            if (names[query] == held_out).sum() >= FEWEST and len(types) > 2:
                yield Task(split, reference & (names != held_out), query, str(held_out))


def prototypes(reference: np.ndarray, labels: np.ndarray, query: np.ndarray) -> Answer:
    """What ``predict_labels`` gives; its training does not look at labels, so none is needed."""
    names, codes = np.unique(labels, return_inverse=True)
    z, new = (
        torch.from_numpy(np.ascontiguousarray(rows, np.float32)) for rows in (reference, query)
    )
    label = torch.from_numpy(codes)
    rank = np.empty(len(codes), int)
    for code in range(len(names)):
        rank[codes == code] = np.arange((codes == code).sum())
    fold = torch.from_numpy(rank % N_FOLDS)
    states = torch.arange(N_STATES)
    fit = PrototypeFit([str(n) for n in names], torch.bincount(label), z.shape[1], states)
    fit.add(z, label, fold)
    found = LabelPrototypes(z.shape[1])
    found.set_state(fit.finish(z, label, fold))
    nearest, uncertainty = found.nearest(new)
    return names[nearest.numpy()], uncertainty.numpy()


def neighbors(reference: np.ndarray, labels: np.ndarray, query: np.ndarray) -> Answer:
    """Majority of the nearest reference cells; uncertainty: the share of the others."""
    names, codes = np.unique(labels, return_inverse=True)
    index = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(reference))).fit(reference)
    found = codes[index.kneighbors(query, return_distance=False)]  # Q x k
    votes = np.stack([(found == code).mean(1) for code in range(len(names))], 1)  # Q x L
    return names[votes.argmax(1)], 1 - votes.max(1)


def neighbor_distance(reference: np.ndarray, labels: np.ndarray, query: np.ndarray) -> Answer:
    """The same labels; uncertainty: mean distance to these cells."""
    index = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(reference))).fit(reference)
    return neighbors(reference, labels, query)[0], index.kneighbors(query)[0].mean(1)


def nearest_mean(reference: np.ndarray, labels: np.ndarray, query: np.ndarray) -> Answer:
    """Nearest class mean without a metric, as scPoli has it; uncertainty: the distance."""
    names = np.unique(labels)
    means = np.stack([reference[labels == name].mean(0) for name in names])
    distances = np.linalg.norm(query[:, None] - means, axis=2)
    return names[distances.argmin(1)], distances.min(1)


def linear_svm(reference: np.ndarray, labels: np.ndarray, query: np.ndarray) -> Answer:
    """Linear support vectors, scikit-learn's defaults; says nothing about how sure it is."""
    found = LinearSVC().fit(reference, labels).predict(query)
    return found, np.zeros(len(query))


def scores(task: Task, labels: np.ndarray, answer: Answer) -> dict[str, float]:
    """F1 and accuracy with all types, detection of the type that was held out."""
    found, uncertainty = answer
    truth = labels[task.query].astype(str)
    if task.held_out is not None:
        is_new = truth == task.held_out
        return {"auroc": float(roc_auc_score(is_new, uncertainty))}
    present = np.unique(truth)
    options = {"labels": present, "zero_division": 0}
    return {
        "weighted_f1": float(f1_score(truth, found, average="weighted", **options)),
        "macro_f1": float(f1_score(truth, found, average="macro", **options)),
        "accuracy": float((truth == found).mean()),
    }


def unknown_rates(task: Task, labels: np.ndarray, answer: Answer) -> dict[str, float]:
    """Share of known and of held-out cells above the default threshold of ``predict_labels``."""
    unknown = answer[1] > 0.99
    if task.held_out is None:
        return {"flagged_known": float(unknown.mean())}
    return {"flagged_new": float(unknown[labels[task.query].astype(str) == task.held_out].mean())}
