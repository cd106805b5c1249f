import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway, linregress

from scmetaq.tl import covariate_association


def rows(frame, covariate):
    return frame[frame["covariate"] == covariate].reset_index(drop=True)


def test_numeric_covariates_are_those_of_linregress(samples):
    found = rows(covariate_association(samples, "age"), "age")
    for i in range(4):
        line = linregress(samples.obs["age"], samples.obsm["X_pca"][:, i])
        adjusted = 1 - (1 - line.rvalue**2) * 23 / 22
        np.testing.assert_allclose(
            found.loc[i, ["r2", "adjusted_r2", "pvalue"]].astype(float),
            [line.rvalue**2, adjusted, line.pvalue],
        )
    assert found["component"].tolist() == ["PC1", "PC2", "PC3", "PC4"]


def test_categories_are_those_of_an_analysis_of_variance(samples):
    found = rows(covariate_association(samples, ["site"]), "site")
    site = samples.obs["site"]
    for i in range(4):
        y = pd.Series(samples.obsm["X_pca"][:, i], site.index)
        within = y.groupby(site, observed=True).transform(lambda group: group - group.mean())
        r2 = 1 - (within**2).sum() / ((y - y.mean()) ** 2).sum()
        test = f_oneway(*[group for _, group in y.groupby(site, observed=True)])
        np.testing.assert_allclose(found.loc[i, "r2"], r2)
        np.testing.assert_allclose(found.loc[i, "adjusted_r2"], 1 - (1 - r2) * 23 / 21)
        np.testing.assert_allclose(found.loc[i, "pvalue"], test.pvalue)


def test_what_was_put_in_is_found(samples):
    found = covariate_association(samples, ["stim", "age", "site"])
    best = found.loc[found.groupby("component")["adjusted_r2"].idxmax()].set_index("component")
    assert best.loc["PC1", "covariate"] == "stim"
    assert best.loc["PC2", "covariate"] == "age"
    assert (best.loc[["PC1", "PC2"], "adjusted_r2"] > 0.4).all()
    noise = found[found["component"].isin(["PC3", "PC4"])]
    assert abs(noise["adjusted_r2"].mean()) < 0.15


def test_by_default_all_columns_that_can_explain(samples):
    assert set(covariate_association(samples)["covariate"]) == {"stim", "site", "age"}


def test_where_nothing_can_explain_it_is_said(samples):
    samples.obs = samples.obs[[]].assign(same=1)
    with pytest.warns(UserWarning, match="No column of obs can explain anything of these"):
        assert covariate_association(samples).empty


def test_samples_without_a_value_are_left_out(samples):
    samples.obs.loc["s0", "age"] = np.nan
    samples.obs["stim"] = samples.obs["stim"].astype(object).where(samples.obs["age"].notna(), None)
    found = covariate_association(samples, ["age", "stim"])
    assert (found["n_samples"] == 23).all()
    expected = covariate_association(samples[1:].copy(), ["age", "stim"])
    pcs = linregress(samples.obs["age"][1:], samples.obsm["X_pca"][1:, 1])
    np.testing.assert_allclose(found.loc[1, "r2"], pcs.rvalue**2)
    pd.testing.assert_frame_equal(found, expected)


def test_a_perfect_covariate_and_a_constant_component(samples):
    samples.obs["same"] = samples.obsm["X_pca"][:, 2]
    samples.obsm["X_pca"][:, 3] = 1
    found = covariate_association(samples, "same")
    np.testing.assert_allclose(found.loc[2, ["r2", "adjusted_r2"]].astype(float), 1)
    assert found.loc[2, "pvalue"] < 1e-100
    assert found.loc[3, ["r2", "pvalue"]].isna().all()


def test_bad_input_is_named(samples):
    with pytest.raises(KeyError, match=r"found no 'sex'.*'age'.*same in all cells"):
        covariate_association(samples, "sex")
    with pytest.raises(ValueError, match="'lot', found 24 categories of 24 samples"):
        covariate_association(samples, "lot")
    with pytest.raises(ValueError, match="'assay', found 1 different values"):
        covariate_association(samples, "assay")
    with pytest.raises(KeyError, match=r"found no 'X_mds'.*\['X_pca'\]"):
        covariate_association(samples, use_rep="X_mds")
    with pytest.raises(TypeError, match="found dict.*the entry of one key"):
        covariate_association({"donor": samples})
    samples.obsm["X_pca"][0, 0] = np.nan
    with pytest.raises(ValueError, match="finite coordinates.*found 1 missing"):
        covariate_association(samples, "age")
