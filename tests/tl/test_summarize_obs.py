import numpy as np
import pandas as pd
import pytest

from scmetaq.tl._summarize_obs import summarize_obs


def summarize(metacells, **columns):
    return summarize_obs(pd.DataFrame(columns), pd.Categorical(metacells))


def test_majority_and_fraction_agree_with_pandas():
    rng = np.random.default_rng(0)
    metacells = pd.Series(rng.choice(list("klmno"), 300))
    labels = pd.Series(rng.choice(["x", "y", "z"], 300, p=[0.6, 0.3, 0.1]))
    found = summarize(metacells, label=labels)
    shares = pd.crosstab(metacells, labels, normalize="index")
    assert found["label"].tolist() == shares.idxmax(axis=1).tolist()
    np.testing.assert_allclose(found["label_fraction"], shares.max(axis=1))
    np.testing.assert_array_equal(found["n_cells"], metacells.value_counts().sort_index())


def test_ties_go_to_the_first_category():
    labels = pd.Categorical(["T", "B", "B", "T"], categories=["T", "B"])
    assert summarize(["m", "m", "n", "n"], label=labels)["label"].tolist() == ["T", "T"]
    assert summarize(["m", "m"], label=["T", "B"])["label"].tolist() == ["B"]


def test_missing_is_the_majority_only_of_all_missing():
    labels = pd.Series(["T", None, None, None, None], dtype="category")
    found = summarize(["m", "m", "m", "n", "n"], label=labels)
    assert found.loc["m", "label"] == "T"
    assert found.loc["m", "label_fraction"] == 1
    assert found.loc["n"].isna()[["label", "label_fraction"]].all()


def test_categories_are_kept():
    labels = pd.Categorical(["T", "T"], categories=["T", "B", "NK"], ordered=True)
    assert summarize(["m", "n"], label=labels)["label"].dtype == labels.dtype


def test_booleans_stay_boolean():
    found = summarize(["m", "m", "m", "n"], flag=[True, True, False, False])
    assert found["flag"].dtype == bool
    assert found["flag"].tolist() == [True, False]
    assert found["flag_fraction"].tolist() == pytest.approx([2 / 3, 1])


def test_means_leave_out_missing_values():
    found = summarize(["m", "m", "n", None], depth=[1.0, np.nan, np.nan, 7.0], size=[1, 3, 5, 9])
    assert found["depth"].iloc[0] == 1
    assert np.isnan(found["depth"].iloc[1])
    assert found["size"].tolist() == [2, 5]


def test_own_columns_win_over_the_users():
    found = summarize(["m", "m"], n_cells=[7, 7], label=["T", "T"], label_fraction=[0.2, 0.2])
    assert found["n_cells"].tolist() == [2]
    assert found["label_fraction"].tolist() == [1]


def test_other_kinds_are_left_out():
    found = summarize(["m", "n"], day=pd.to_datetime(["2024-01-01"] * 2), thing=[{}, []])
    assert found.columns.tolist() == ["n_cells"]


def test_no_columns():
    found = summarize_obs(pd.DataFrame(index=range(3)), pd.Categorical(["m", "n", "m"]))
    assert found["n_cells"].tolist() == [2, 1]
