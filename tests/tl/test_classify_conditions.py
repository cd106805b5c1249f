import numpy as np
import pytest
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from scmetaq.tl import classify_conditions


@pytest.mark.parametrize("use_rep", [None, "X_pca"])
def test_agrees_with_leaving_one_out(samples, use_rep):
    found = classify_conditions(samples, "stim", n_neighbors=3, use_rep=use_rep)
    expected = cross_val_predict(
        KNeighborsClassifier(3), samples.X, samples.obs["stim"], cv=LeaveOneOut()
    )
    assert found.index.tolist() == samples.obs_names.tolist()
    assert found["predicted"].tolist() == expected.tolist()
    assert (found["label"] == found["predicted"]).mean() > 0.8
    assert set(found["fraction"]) <= {2 / 3, 1.0}


def test_samples_without_a_label_are_predicted_by_the_others(samples):
    truth = samples.obs["stim"].astype(str)
    samples.obs["stim"] = truth.where(np.arange(24) % 4 > 0, None)
    found = classify_conditions(samples, "stim", n_neighbors=3)
    known = samples.obs["stim"].notna()
    expected = (
        KNeighborsClassifier(3).fit(samples.X[known], truth[known]).predict(samples.X[~known])
    )
    assert found.loc[~known, "predicted"].tolist() == expected.tolist()
    assert found["label"].isna().sum() == 6


@pytest.mark.parametrize("kind", [bool, int, float])
def test_labels_that_are_no_text_stay_what_they_are(samples, kind):
    samples.obs["code"] = (samples.obs["stim"] == samples.obs["stim"].iloc[0]).astype(kind)
    found = classify_conditions(samples, "code", n_neighbors=3)
    expected = classify_conditions(samples, "stim", n_neighbors=3)
    assert found["predicted"].dtype == found["label"].dtype
    accuracy = (found["label"] == found["predicted"]).mean()
    assert accuracy == (expected["label"] == expected["predicted"]).mean() > 0


def test_the_nearest_breaks_a_tie(samples):
    found = classify_conditions(samples, "site", n_neighbors=2)
    site, X = samples.obs["site"].astype(str).to_numpy(), samples.X
    distance = ((X[:, None] - X) ** 2).sum(2) + 1e9 * np.eye(24)
    assert found["predicted"].tolist() == site[distance.argmin(1)].tolist()


def test_bad_input_is_named(samples):
    with pytest.raises(ValueError, match="24 samples in 'stim'. Lower n_neighbors"):
        classify_conditions(samples, "stim", n_neighbors=24)
    with pytest.raises(TypeError, match="n_neighbors to be an int, found 2.5"):
        classify_conditions(samples, "stim", n_neighbors=2.5)
    with pytest.raises(ValueError, match="at least two labels.*found 1 labels"):
        classify_conditions(samples, "assay")
    with pytest.raises(KeyError, match="`label` to name.*found no 'sex'"):
        classify_conditions(samples, "sex")
