import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import f_oneway, linregress, pearsonr
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from scmetaq.tl import classify_conditions, covariate_association, feature_association


@pytest.fixture
def samples():
    """24 samples in 4 dimensions: the first by treatment, the second by age, the others noise."""
    rng = np.random.default_rng(0)
    stim, age = np.repeat([0, 1], 12), rng.uniform(20, 80, 24)
    X = rng.normal(size=(24, 4))
    X[:, 0] += 4 * stim
    X[:, 1] += age / 20
    columns = {
        "stim": pd.Categorical(np.array(["ctrl", "stim"])[stim]),
        "site": pd.Categorical(rng.choice(["a", "b", "c"], 24)),
        "age": age,
        "lot": [f"lot{i}" for i in range(24)],
        "assay": "v3",
    }
    obs = pd.DataFrame(columns, index=[f"s{i}" for i in range(24)])
    return AnnData(X, obs=obs, obsm={"X_pca": X - X.mean(0)})


NUMBERS = ["r2", "adjusted_r2", "pvalue"]


def test_covariates_are_those_of_linregress_or_of_an_analysis_of_variance(samples):
    found = covariate_association(samples, "age")
    for i in range(4):
        line = linregress(samples.obs["age"], samples.obsm["X_pca"][:, i])
        expected = [line.rvalue**2, 1 - (1 - line.rvalue**2) * 23 / 22, line.pvalue]
        np.testing.assert_allclose(found.loc[i, NUMBERS].astype(float), expected)
    assert found["component"].tolist() == ["PC1", "PC2", "PC3", "PC4"]
    found = covariate_association(samples, ["site"])
    site = samples.obs["site"]
    for i in range(4):
        y = pd.Series(samples.obsm["X_pca"][:, i], site.index)
        within = y.groupby(site, observed=True).transform(lambda group: group - group.mean())
        r2 = 1 - (within**2).sum() / ((y - y.mean()) ** 2).sum()
        test = f_oneway(*[group for _, group in y.groupby(site, observed=True)])
        expected = [r2, 1 - (1 - r2) * 23 / 21, test.pvalue]
        np.testing.assert_allclose(found.loc[i, NUMBERS].astype(float), expected)


def test_what_was_put_in_is_found_among_all_columns_that_can_explain(samples):
    assert set(covariate_association(samples)["covariate"]) == {"stim", "site", "age"}
    found = covariate_association(samples, ["stim", "age", "site"])
    best = found.loc[found.groupby("component")["adjusted_r2"].idxmax()].set_index("component")
    assert best.loc["PC1", "covariate"] == "stim"
    assert best.loc["PC2", "covariate"] == "age"
    assert (best.loc[["PC1", "PC2"], "adjusted_r2"] > 0.4).all()
    noise = found[found["component"].isin(["PC3", "PC4"])]
    assert abs(noise["adjusted_r2"].mean()) < 0.15
    samples.obs = samples.obs[[]].assign(same=1)
    with pytest.warns(UserWarning, match="No column of obs can explain anything of these"):
        assert covariate_association(samples).empty


def test_covariates_of_some_samples_and_perfect_ones(samples):
    samples.obs.loc["s0", "age"] = np.nan
    samples.obs["stim"] = samples.obs["stim"].astype(object).where(samples.obs["age"].notna(), None)
    found = covariate_association(samples, ["age", "stim"])
    assert (found["n_samples"] == 23).all()
    expected = covariate_association(samples[1:].copy(), ["age", "stim"])
    pcs = linregress(samples.obs["age"][1:], samples.obsm["X_pca"][1:, 1])
    np.testing.assert_allclose(found.loc[1, "r2"], pcs.rvalue**2)
    pd.testing.assert_frame_equal(found, expected)
    samples.obs["same"] = samples.obsm["X_pca"][:, 2]
    samples.obsm["X_pca"][:, 3] = 1
    found = covariate_association(samples, "same")
    np.testing.assert_allclose(found.loc[2, ["r2", "adjusted_r2"]].astype(float), 1)
    assert found.loc[2, "pvalue"] < 1e-100
    assert found.loc[3, ["r2", "pvalue"]].isna().all()


@pytest.fixture
def cells(samples):
    """480 cells of 23 of the 24 samples; the first gene is induced by the treatment."""
    rng = np.random.default_rng(1)
    of_cell = rng.integers(0, 23, 480)
    rate = np.full((480, 12), 3.0)
    rate[:, 0] += 6 * (samples.obs["stim"] == "stim").to_numpy()[of_cell]
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 11] = 0
    names = samples.obs_names.to_numpy()[of_cell]
    obs = pd.DataFrame({"sample": names}, index=[f"c{i}" for i in range(480)])
    obs.iloc[:3, 0] = None
    var = pd.DataFrame(index=[f"gene{i}" for i in range(12)])
    return AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


def test_agrees_with_pearson_of_means(cells, samples):
    found = feature_association(cells, samples, "sample")
    log = cells.copy()
    sc.pp.normalize_total(log, target_sum=1e4)
    sc.pp.log1p(log)
    means = log.to_df().groupby(cells.obs["sample"]).mean()
    components = pd.DataFrame(samples.obsm["X_pca"], samples.obs_names).loc[means.index]
    for row in found.dropna(subset="r").itertuples():
        expected = pearsonr(means[row.feature], components[int(row.component[2:]) - 1])
        np.testing.assert_allclose([row.r, row.pvalue], expected, rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(row.mean, means[row.feature].mean(), rtol=1e-5)
    # sorted by component and strength
    assert found["component"].tolist() == sorted(found["component"])
    first = found[found["component"] == "PC1"]
    assert first["feature"].iloc[0] == "gene0"
    assert first["r"].iloc[0] > 0.8
    assert first["r"].abs().dropna().is_monotonic_decreasing
    assert first["feature"].iloc[-1] == "gene11"
    assert np.isnan(first["r"].iloc[-1])
    cells.layers["raw"] = cells.X
    cells.X = sparse.csr_matrix(cells.shape, dtype=np.float32)
    of_layer = feature_association(cells, samples, "sample", layer="raw")
    pd.testing.assert_frame_equal(of_layer, found)


@pytest.mark.parametrize("use_rep", [None, "X_pca"])
def test_agrees_with_leaving_one_out(samples, use_rep):
    found = classify_conditions(samples, "stim", n_neighbors=3, use_rep=use_rep)
    knn, stim = KNeighborsClassifier(3), samples.obs["stim"]
    expected = cross_val_predict(knn, samples.X, stim, cv=LeaveOneOut())
    assert found.index.tolist() == samples.obs_names.tolist()
    assert found["predicted"].tolist() == expected.tolist()
    assert (found["label"] == found["predicted"]).mean() > 0.8
    assert set(found["fraction"]) <= {2 / 3, 1.0}


@pytest.mark.parametrize("kind", [bool, int, float])
def test_labels_that_are_no_text_stay_what_they_are(samples, kind):
    samples.obs["code"] = (samples.obs["stim"] == samples.obs["stim"].iloc[0]).astype(kind)
    found = classify_conditions(samples, "code", n_neighbors=3)
    expected = classify_conditions(samples, "stim", n_neighbors=3)
    assert found["predicted"].dtype == found["label"].dtype
    accuracy = (found["label"] == found["predicted"]).mean()
    assert accuracy == (expected["label"] == expected["predicted"]).mean() > 0


def test_samples_without_a_label_are_predicted_by_others_and_the_nearest_breaks_ties(samples):
    found = classify_conditions(samples, "site", n_neighbors=2)
    site, X = samples.obs["site"].astype(str).to_numpy(), samples.X
    distance = ((X[:, None] - X) ** 2).sum(2) + 1e9 * np.eye(24)
    assert found["predicted"].tolist() == site[distance.argmin(1)].tolist()
    truth = samples.obs["stim"].astype(str)
    samples.obs["stim"] = truth.where(np.arange(24) % 4 > 0, None)
    found = classify_conditions(samples, "stim", n_neighbors=3)
    known = samples.obs["stim"].notna()
    knn = KNeighborsClassifier(3).fit(samples.X[known], truth[known])
    assert found.loc[~known, "predicted"].tolist() == knn.predict(samples.X[~known]).tolist()
    assert found["label"].isna().sum() == 6


BAD_COVARIATES = [
    ({"covariates": "sex"}, KeyError, "'sex'.*'age'"),
    ({"covariates": "lot"}, ValueError, "'lot', found 24 cat.* of 24 sa"),
    ({"covariates": "assay"}, ValueError, "'assay', found 1 different"),
    ({"use_rep": "X_mds"}, KeyError, "no 'X_mds'.*'X_pca'"),
    ({"samples": {}}, TypeError, "found dict.*entry of one key"),
    ({"use_rep": "X_nan"}, ValueError, "missing or huge ones in 1"),
]
BAD_CELLS = [
    ({"by": "other"}, ValueError, "24 samples, found those of 0 in 'other'"),
    ({"by": "donor"}, KeyError, "`by` to name.*found no 'donor'"),
    ({"layer": "raw"}, KeyError, "found no 'raw'"),
    ({"adata": "cells"}, TypeError, "`adata` as an AnnData"),
]
BAD_LABELS = [
    ({"n_neighbors": 24}, ValueError, "in 'stim'. Lower"),
    ({"n_neighbors": 2.5}, TypeError, "int, found 2.5"),
    ({"label": "assay"}, ValueError, "at least two.*found 1 labels"),
    ({"label": "sex"}, KeyError, "`label` to name.*found no 'sex'"),
]


@pytest.mark.parametrize(
    ("function", "change", "error", "message"),
    [
        *((covariate_association, *case) for case in BAD_COVARIATES),
        *((feature_association, *case) for case in BAD_CELLS),
        *((classify_conditions, *case) for case in BAD_LABELS),
    ],
)
def test_bad_input_is_named(samples, cells, function, change, error, message):
    cells.obs["other"] = "x"
    samples.obsm["X_nan"] = samples.X.copy()
    samples.obsm["X_nan"][0, 0] = np.nan
    given = {"samples": samples}
    given |= {"adata": cells, "by": "sample"} if function is feature_association else {}
    given |= {"label": "stim"} if function is classify_conditions else {}
    with pytest.raises(error, match=message):
        function(**given | change)
