import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmetaq.tl._summarize import log_counts, mean_rows, summarize_obs


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


def test_ties_go_to_the_first_category_and_missing_is_the_majority_only_of_all_missing():
    labels = pd.Categorical(["T", "B", "B", "T"], categories=["T", "B", "NK"], ordered=True)
    found = summarize(["m", "m", "n", "n"], label=labels)["label"]
    assert found.tolist() == ["T", "T"]
    assert found.dtype == labels.dtype
    assert summarize(["m", "m"], label=["T", "B"])["label"].tolist() == ["B"]
    labels = pd.Series(["T", None, None, None, None], dtype="category")
    found = summarize(["m", "m", "m", "n", "n"], label=labels)
    assert found.loc["m", "label"] == "T"
    assert found.loc["m", "label_fraction"] == 1
    assert found.loc["n"].isna()[["label", "label_fraction"]].all()
    # booleans stay boolean
    found = summarize(["m", "m", "m", "n"], flag=[True, True, False, False])
    assert found["flag"].dtype == bool
    assert found["flag"].tolist() == [True, False]
    assert found["flag_fraction"].tolist() == pytest.approx([2 / 3, 1])


def test_means_leave_out_missing_values_and_own_columns_win_over_the_users():
    found = summarize(["m", "m", "n", None], depth=[1.0, np.nan, np.nan, 7.0], size=[1, 3, 5, 9])
    assert found["depth"].iloc[0] == 1
    assert np.isnan(found["depth"].iloc[1])
    assert found["size"].tolist() == [2, 5]
    found = summarize(["m", "m"], n_cells=[7, 7], label=["T", "T"], label_fraction=[0.2, 0.2])
    assert found["n_cells"].tolist() == [2]
    assert found["label_fraction"].tolist() == [1]
    found = summarize(["m", "n"], day=pd.to_datetime(["2024-01-01"] * 2), thing=[{}, []])
    assert found.columns.tolist() == ["n_cells"]
    found = summarize_obs(pd.DataFrame(index=range(3)), pd.Categorical(["m", "n", "m"]))
    assert found["n_cells"].tolist() == [2, 1]


def log_counts_of_a_caller(adata):
    log_counts(adata, None)


def test_fractions_give_a_warning_and_no_counts_are_refused():
    adata = AnnData(np.array([[1.0, 0.5]]))
    with pytest.warns(UserWarning, match="raw counts in `X`, found fractions") as warned:
        log_counts_of_a_caller(adata)
    assert warned[0].filename == __file__
    with pytest.raises(ValueError, match="found nothing. Name the layer"):
        log_counts(AnnData(obs=adata.obs), None)


def test_rows_of_each_group_are_averaged():
    x = np.random.default_rng(0).normal(size=(6, 3))
    means = mean_rows(x, np.array([2, 0, -1, 2, 0, 0]), 3)
    np.testing.assert_allclose(means, [x[[1, 4, 5]].mean(0), np.zeros(3), x[[0, 3]].mean(0)])
