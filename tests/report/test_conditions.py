import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import mixing
from scmetaq.report._conditions import summarize_conditions


@pytest.fixture
def cells():
    """200 cells in eight metacells, two labels and three batches; some values are missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "metacell": [f"mc{i}" for i in rng.integers(0, 8, 200)],
            "batch": pd.Categorical(rng.choice(["x", "y"], 200), ["y", "x", "z"]),
        }
    )
    label = np.where(frame["metacell"] < "mc3", "B", "T")
    frame["label"] = pd.Categorical(label)
    frame.loc[frame["metacell"] == "mc5", "batch"] = "x"
    frame.loc[:4, "batch"] = None
    frame.loc[5:9, "metacell"] = None
    return frame


def test_counts_are_those_of_pandas(cells):
    found = summarize_conditions(cells["metacell"], cells["batch"], cells["label"])
    expected = pd.crosstab(cells["metacell"], cells["batch"])
    for name in ("x", "y"):
        assert found.counts[name].to_dict() == expected[name].to_dict()
    assert (found.counts["z"] == 0).all()
    assert found.categories["n_cells"].to_dict() == {**expected.sum().to_dict(), "z": 0}
    x_alone = expected.loc["mc5", "x"] / expected["x"].sum()
    np.testing.assert_allclose(found.categories["alone"], [0, x_alone, 0])
    assert found.categories["n_metacells"].to_dict() == {"y": 7, "x": 8, "z": 0}


def test_numbers_are_those_of_the_metric(cells):
    found = summarize_conditions(cells["metacell"], cells["batch"], cells["label"])
    expected = mixing(cells["metacell"], cells["batch"], cells["label"])
    assert (found.mixing, found.one_condition) == (expected.mixing, expected.one_condition)


def test_metacells_are_by_label_and_mixing(cells):
    found = summarize_conditions(cells["metacell"], cells["batch"], cells["label"])
    of_metacell = mixing(cells["metacell"], cells["batch"], cells["label"]).of_metacell
    assert found.groups.tolist() == ["T"] * 5 + ["B"] * 3
    assert found.counts.index[0] == "mc5"
    for names in (found.counts.index[:5], found.counts.index[5:]):
        assert of_metacell[names].is_monotonic_increasing
    without = summarize_conditions(cells["metacell"], cells["batch"])
    assert without.groups is None
    assert len(without.counts) == 8
