import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

import scmetaq
from scmetaq.nn import count_nll

KEYS = {
    "reconstruction_ratio",
    "reconstruction_loss",
    "quantized_loss",
    "codebook_loss",
    "mean_margin",
    "perplexity",
    "n_metacells",
    "n_empty",
}


@pytest.fixture(scope="module")
def quantization(model):
    return model.get_quantization_report()


def test_the_report_agrees_with_the_module_and_assignments(quantization, model, blood, assignments):
    x = torch.from_numpy(blood.X.toarray())
    module = model.module
    with torch.no_grad():
        conditions = torch.zeros(len(x), 0, dtype=torch.long)
        inputs = module.read({"rna": x}, {"rna": torch.ones(len(x), 1)}, conditions)
        decoded = module.generative(module.inference(inputs, conditions)["z"], conditions)
        selected = x[:, module.parts["rna"].feature_scaling.features]
        factor = x.sum(1, keepdim=True) / 1e4
        losses = {
            name: count_nll(decoded[part]["rna"], selected, factor).mean().item()
            for name, part in (("reconstruction_loss", "plain"), ("quantized_loss", "quantized"))
        }
    for name, value in losses.items():
        assert quantization[name] == pytest.approx(value, rel=1e-5)
    ratio = losses["reconstruction_loss"] / losses["quantized_loss"]
    assert quantization["reconstruction_ratio"] == pytest.approx(ratio, rel=1e-5)
    assert set(quantization) == KEYS
    share = assignments["metacell"].value_counts(normalize=True)
    assert quantization["perplexity"] == pytest.approx(
        np.exp(-(share * np.log(share)).sum()), rel=1e-5
    )
    assert quantization["mean_margin"] == pytest.approx(assignments["margin"].mean(), rel=1e-3)
    codes = model.get_codebook().drop(columns="usage").loc[assignments["metacell"]].to_numpy()
    error = np.square(model.get_latent_representation() - codes).mean()
    assert quantization["codebook_loss"] == pytest.approx(error, rel=1e-4)
    assert (quantization["n_metacells"], quantization["n_empty"]) == (10, 0)


def test_counts_of_many_cells_are_decoded_of_an_even_sample(quantization, model, monkeypatch):
    monkeypatch.setattr("scmetaq.model._reports._MOST_DECODED", 200)
    found = model.get_quantization_report()
    for name, value in quantization.items():
        if "reconstruction" in name or name == "quantized_loss":
            assert found[name] != value
            assert found[name] == pytest.approx(value, rel=0.05)
        else:
            assert found[name] == pytest.approx(value, rel=1e-5)


def test_blocks_do_not_matter_nor_empty_codes(quantization, model, monkeypatch, assignments, again):
    monkeypatch.setattr("scmetaq.model._blocks.BLOCK", 33)
    found = model.get_quantization_report()
    assert found == pytest.approx(quantization, rel=1e-5)
    of_one = np.flatnonzero(assignments["metacell"] == "mc0002")
    quantization = model.get_quantization_report(again(index=of_one))
    assert quantization["n_empty"] == 9
    assert quantization["perplexity"] == pytest.approx(1)


def test_more_metacells_lose_less_and_single_cells_are_predicted_by_the_mean(fit, toy):
    few, many = (fit(toy.copy(), k).get_quantization_report() for k in (3, 60))
    assert many["codebook_loss"] < few["codebook_loss"]
    assert many["perplexity"] > few["perplexity"]
    model = fit(toy, 149)
    z = model.get_latent_representation()
    n = model.get_assignments()["metacell"].map(model.get_assignments()["metacell"].value_counts())
    alone = np.square(z - z.mean(0)).mean(1)[(n == 1).to_numpy()].sum() / 150
    report = model.get_granularity_report([149])
    assert report["prediction_error"].iloc[0] == pytest.approx(alone, rel=0.05)


def test_scores_are_distances_over_typical_ones(model, assignments, blood, again, tmp_path):
    scores = model.get_outlier_scores()
    pd.testing.assert_index_equal(scores.index, blood.obs_names)
    assert scores.name == "outlier_score"
    codes = model.get_codebook().drop(columns="usage").loc[assignments["metacell"]].to_numpy()
    distance = np.linalg.norm(model.get_latent_representation() - codes, axis=1)
    of = pd.Series(distance, assignments.index).groupby(assignments["metacell"])
    size, own = of.transform("size"), of.transform(lambda d: np.sort(d)[(len(d) - 1) // 2])
    overall = np.sort(distance)[(len(distance) - 1) // 2]
    expected = distance / ((size * own + 10 * overall) / (size + 10))
    np.testing.assert_allclose(scores, expected, rtol=1e-3)
    assert 0.9 < scores.median() < 1.1
    some = again(index=slice(40, 60))
    pd.testing.assert_series_equal(model.get_outlier_scores(some), scores.loc[some.obs_names])
    one = again(index=slice(7, 8))
    assert model.get_outlier_scores(one).item() == scores.iloc[7]
    model.save(tmp_path / "model", save_anndata=False)
    loaded = scmetaq.MetaQModel.load(tmp_path / "model", adata=blood.copy())
    pd.testing.assert_series_equal(loaded.get_outlier_scores(), scores)


def test_damaged_cells_score_higher_than_others_of_the_same_depth(model, blood):
    """A third of the counts of cells that the model has not seen is dealt out to any gene."""
    demo = scmetaq.data.demo()
    unseen = demo[~demo.obs_names.isin(blood.obs_names), blood.var_names][:200].copy()
    rng, damaged = np.random.default_rng(0), unseen.copy()
    kept = rng.binomial(unseen.X.toarray().astype(int), 2 / 3)
    lost = (unseen.X.toarray() - kept).sum(1).astype(int)
    genes = np.full(blood.n_vars, 1 / blood.n_vars)
    damaged.X = sp.csr_matrix((kept + rng.multinomial(lost, genes)).astype(np.float32))
    np.testing.assert_allclose(damaged.X.sum(1), unseen.X.sum(1))
    scores = np.concatenate([model.get_outlier_scores(of) for of in (unseen, damaged)])
    margins = np.concatenate([model.get_assignments(of)["margin"] for of in (unseen, damaged)])
    is_damaged = np.repeat([False, True], 200)
    assert roc_auc_score(is_damaged, scores) > 0.8
    assert roc_auc_score(is_damaged, scores) > roc_auc_score(is_damaged, -margins) + 0.2


def test_models_without_spreads_and_no_numbers_are_refused(model, blood, tmp_path):
    model.save(tmp_path / "model", save_anndata=False)
    old = scmetaq.MetaQModel.load(tmp_path / "model", adata=blood.copy())
    old.module.codebook.typical_distance.zero_()
    with pytest.raises(ValueError, match="alone in their metacells"):
        old.get_outlier_scores()
    with pytest.raises(ValueError, match="at least one number of metacells, found none"):
        model.get_granularity_report([])


@pytest.fixture(scope="module")
def report(model):
    return model.get_granularity_report([10, 3, 6])


def test_a_row_per_number_in_order_of_sampled_cells_if_many(report, model, monkeypatch):
    assert report.index.tolist() == [3, 6, 10]
    assert report.columns.tolist() == [
        "margin",
        "reconstruction_ratio",
        "codebook_loss",
        "prediction_error",
        "prediction_error_se",
        "cells_per_metacell",
    ]
    np.testing.assert_allclose(report["cells_per_metacell"], 400 / report.index)
    monkeypatch.setattr("scmetaq.model._reports._MOST_CELLS", 200)
    sampled = model.get_granularity_report([3, 6, 10])
    assert not sampled.equals(report)
    np.testing.assert_allclose(sampled["codebook_loss"], report["codebook_loss"], rtol=0.1)
    np.testing.assert_array_equal(sampled["cells_per_metacell"], report["cells_per_metacell"])


def test_of_all_metacells_it_is_the_quantization_report_and_fewer_lose_more(report, model):
    expected = model.get_quantization_report()
    for name in ("reconstruction_ratio", "codebook_loss"):
        assert report.loc[10, name] == pytest.approx(expected[name], rel=1e-5)
    assert report.loc[10, "margin"] == pytest.approx(expected["mean_margin"], rel=1e-4)
    assert report["codebook_loss"].is_monotonic_decreasing
    assert report["reconstruction_ratio"].is_monotonic_increasing
    assert report["margin"].is_monotonic_decreasing
    assert (report["prediction_error"] > report["codebook_loss"]).all()
    assert (report["prediction_error_se"] == 0).sum() == 1


@pytest.mark.parametrize("n_metacells", [3, 6, 10])
def test_errors_are_those_of_means_with_and_without_the_cell(report, model, n_metacells):
    z = model.get_latent_representation().astype(float)
    found = model.get_assignments(n_metacells=n_metacells)
    metacell = found["metacell"].to_numpy()
    assert report.loc[n_metacells, "margin"] == pytest.approx(found["margin"].mean(), rel=1e-4)
    own, others = [], []
    for i, name in enumerate(metacell):
        is_mate = metacell == name
        own.append(np.square(z[i] - z[is_mate].mean(0)).mean())
        is_mate[i] = False
        others.append(np.square(z[i] - z[is_mate].mean(0)).mean())
    assert report.loc[n_metacells, "codebook_loss"] == pytest.approx(np.mean(own), rel=0.02)
    assert report.loc[n_metacells, "prediction_error"] == pytest.approx(np.mean(others), rel=0.02)


def test_each_modality_counts_for_the_cells_that_have_it(fit, mosaic):
    model = fit(mosaic)
    found = model.get_granularity_report([6])
    expected = model.get_quantization_report()["reconstruction_ratio"]
    assert found["reconstruction_ratio"].iloc[0] == pytest.approx(expected, rel=1e-5)
