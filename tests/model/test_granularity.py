import numpy as np
import pytest


@pytest.fixture(scope="module")
def report(model):
    return model.get_granularity_report([10, 3, 6])


def test_a_row_per_number_in_order(report):
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


def test_of_all_metacells_it_is_the_quantization_report(report, model):
    expected = model.get_quantization_report()
    for name in ("reconstruction_ratio", "codebook_loss"):
        assert report.loc[10, name] == pytest.approx(expected[name], rel=1e-5)
    assert report.loc[10, "margin"] == pytest.approx(expected["mean_margin"], rel=1e-4)


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


def test_fewer_metacells_lose_more(report):
    assert report["codebook_loss"].is_monotonic_decreasing
    assert report["reconstruction_ratio"].is_monotonic_increasing
    assert report["margin"].is_monotonic_decreasing
    assert (report["prediction_error"] > report["codebook_loss"]).all()
    assert (report["prediction_error_se"] == 0).sum() == 1


def test_cells_that_are_alone_are_predicted_by_the_mean_of_all(fit, toy):
    model = fit(toy, 149)
    z = model.get_latent_representation()
    n = model.get_assignments()["metacell"].map(model.get_assignments()["metacell"].value_counts())
    alone = np.square(z - z.mean(0)).mean(1)[(n == 1).to_numpy()].sum() / 150
    report = model.get_granularity_report([149])
    assert report["prediction_error"].iloc[0] == pytest.approx(alone, rel=0.05)


def test_each_modality_counts_for_the_cells_that_have_it(fit, mosaic):
    model = fit(mosaic)
    found = model.get_granularity_report([6])
    expected = model.get_quantization_report()["reconstruction_ratio"]
    assert found["reconstruction_ratio"].iloc[0] == pytest.approx(expected, rel=1e-5)


def test_larger_data_are_sampled(report, model, monkeypatch):
    monkeypatch.setattr("scmetaq.model._granularity._MOST_CELLS", 200)
    sampled = model.get_granularity_report([3, 6, 10])
    assert not sampled.equals(report)
    np.testing.assert_allclose(sampled["codebook_loss"], report["codebook_loss"], rtol=0.1)
    np.testing.assert_array_equal(sampled["cells_per_metacell"], report["cells_per_metacell"])


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ([], ValueError, "at least one number of metacells, found none"),
        ([5, 11], ValueError, "between 2 and the 10 .*found 11"),
        ([1], ValueError, "found 1"),
        ([2.5], TypeError, "an int, found 2.5"),
    ],
)
def test_numbers_that_cannot_be(model, numbers, error, message):
    with pytest.raises(error, match=message):
        model.get_granularity_report(numbers)
