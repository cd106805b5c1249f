"""Metrics of several assignments of the same cells."""

from collections.abc import Mapping, Sequence
from typing import Any

import igraph
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputTypeError, InputValueError, check_choice, check_int
from scmetaq._sketch import geometric_sketch
from scmetaq.data._containers import names_of, readable

from ._evaluate import evaluate, principal_components
from ._groups import cell_values, group_cells

BASELINES = ("random", "kmeans", "geosketch", "walktrap")


def compare(
    adata: AnnData | MuData,
    assignments: Mapping[str, str | pd.Series | ArrayLike],
    labels: str | pd.Series | ArrayLike | None = None,
    *,
    baselines: str | Sequence[str] = (),
    seed: int = 0,
    **kwargs: Any,
) -> pd.DataFrame:
    """Judge several assignments of the same cells, and simple methods next to them.

    Parameters
    ----------
    adata
        Cells with raw counts, as of :func:`evaluate`.
    assignments
        Metacell of each cell by the name of the method: a column of ``obs``, a Series aligned by
        barcode, or an array in the order of the cells.
    labels
        As of :func:`evaluate`.
    baselines
        Methods to run for comparison, each with as many metacells as the first assignment:
        ``"random"`` (metacells of even size at random), ``"kmeans"`` (k-means on 50 principal
        components of log counts), ``"geosketch"`` (geometric sketching, each cell joins the nearest
        cell of the sketch, Hie et al. 2019), ``"walktrap"`` (random walks on the graph of 5
        neighbours in 10 principal components, as in SuperCell, Bilous et al. 2022). Those of a
        MuData read the modality called rna, or its first.
    seed
        Seed of the baselines and of :func:`evaluate`.
    **kwargs
        Further arguments of :func:`evaluate`, such as ``conditions`` or ``layer``.

    Returns
    -------
    The rows of :func:`evaluate` for each method, with its name in the first column, ``method``;
    ``frame.groupby(["metric", "method"])["value"].mean().unstack()`` is the table of means.
    """
    if not isinstance(assignments, Mapping) or not assignments:
        problem = f"Expected a dict of assignments by method, found {type(assignments).__name__}."
        fix = 'Name each: {"ours": "metacell", "theirs": other_assignment}.'
        raise InputTypeError(problem, fix, "assignments")
    chosen = [baselines] if isinstance(baselines, str) else list(baselines)
    for name in chosen:
        check_choice("baseline", name, BASELINES)
        if name in assignments:
            problem = f"Expected names of assignments that are no baselines, found {name!r} twice."
            raise InputValueError(problem, argument="baselines")
    check_int("seed", seed, least=0)
    data = readable(adata)
    read = {name: cell_values(data, of, what=name) for name, of in assignments.items()}
    if chosen:
        first = group_cells(next(iter(read.values())))
        read |= _baselines(data, chosen, len(first.names), kwargs.get("layer"), seed)
    frames = {name: evaluate(data, of, labels, seed=seed, **kwargs) for name, of in read.items()}
    found = pd.concat(frames, names=["method"]).reset_index("method").reset_index(drop=True)
    return found.astype({"method": str})


def _baselines(
    data: Any, names: Sequence[str], n_metacells: int, layer: str | None, seed: int
) -> dict[str, pd.Series]:
    """Assignments of simple methods, of one modality."""
    part = data
    if isinstance(data, MuData):
        part = data.mod["rna" if "rna" in data.mod else next(iter(data.mod))]
    layer = layer if layer in part.layers else None
    cells, rng = names_of(part), np.random.default_rng(seed)
    found, rows = {}, np.empty((part.n_obs, 0))
    if set(names) != {"random"}:
        rows = principal_components(part.X if layer is None else part.layers[layer], 3000)
    for name in names:
        if name == "random":
            of = rng.permutation(np.arange(len(cells)) % n_metacells)
        elif name == "kmeans":
            of = KMeans(n_metacells, n_init=1, random_state=seed).fit_predict(rows)
        elif name == "geosketch":
            sketch = rows[geometric_sketch(rows, n_metacells, seed)]
            of = NearestNeighbors(n_neighbors=1).fit(sketch).kneighbors(rows)[1][:, 0]
        else:
            of = walktrap(rows[:, :10], n_metacells)
        found[name] = pd.Series(of, cells)
    return found


def walktrap(rows: np.ndarray, n_metacells: int) -> np.ndarray:
    """Communities of random walks of 4 steps on the graph of 5 nearest neighbours."""
    edges = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors_graph().tocoo()
    graph = igraph.Graph(len(rows), np.column_stack([edges.row, edges.col])).simplify()
    merges = graph.community_walktrap()
    n = max(n_metacells, len(graph.connected_components()))  # which are never merged
    return np.asarray(merges.as_clustering(n).membership)
