"""Several assignments of the same cells."""

import igraph
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from scmetaq import metrics
from scmetaq.metrics._compare import BASELINES, _baselines
from scmetaq.metrics._evaluate import principal_components


def test_each_method_has_the_numbers_of_evaluate(blood):
    blood = blood.copy()
    blood.obs["ours"] = np.arange(400) % 10
    theirs = pd.Series(np.arange(400) // 40, blood.obs_names)
    found = metrics.compare(blood, {"ours": "ours", "theirs": theirs}, "cell_type")
    assert found.columns[0] == "method"
    assert found["method"].unique().tolist() == ["ours", "theirs"]
    for name, of in {"ours": "ours", "theirs": theirs}.items():
        alone = metrics.evaluate(blood, of, "cell_type")
        rows = found[found["method"] == name].drop(columns="method").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone)


def test_baselines_have_as_many_metacells_as_the_first_assignment(blood):
    first = np.arange(400) % 12
    found = metrics.compare(blood, {"ours": first}, "cell_type", baselines=BASELINES)
    means = found.groupby(["metric", "method"])["value"].mean().unstack()
    assert means.loc["n_metacells"].eq(12).all()
    assert means.loc["size_cv", "random"] < 0.05
    assert means.loc["purity", ["kmeans", "walktrap"]].min() > means.loc["purity", "random"] + 0.2
    assert means.loc["compactness", "geosketch"] > means.loc["compactness", "random"]


def test_walktrap_is_that_of_igraph_on_the_graph_of_five_neighbours(blood):
    rows = principal_components(blood.X, 3000)[:, :10]
    near = NearestNeighbors(n_neighbors=6).fit(rows).kneighbors(rows, return_distance=False)
    edges = [(i, j) for i, of in enumerate(near) for j in of if i != j][: 5 * 400]
    graph = igraph.Graph(400, edges).simplify()
    expected = graph.community_walktrap().as_clustering(10).membership
    found = _baselines(blood, ["walktrap"], 10, None, 0)["walktrap"]
    assert adjusted_rand_score(found, expected) > 0.99


def test_bad_input_is_refused_before_any_work(blood):
    with pytest.raises(TypeError, match="a dict of assignments by method, found list"):
        metrics.compare(blood, ["ours"])
    with pytest.raises(TypeError, match="a dict of assignments"):
        metrics.compare(blood, {})
    with pytest.raises(KeyError, match="nowhere"):
        metrics.compare(blood, {"ours": "nowhere"})
    first = np.arange(400) % 12
    with pytest.raises(ValueError, match="Unknown baseline 'best'"):
        metrics.compare(blood, {"ours": first}, baselines="best")
    with pytest.raises(ValueError, match="no baselines, found 'kmeans' twice"):
        metrics.compare(blood, {"kmeans": first}, baselines="kmeans")
