import numpy as np
import pandas as pd
import pytest

import scmetaq


@pytest.fixture(scope="module")
def bounded(fit, _toy):
    return fit(_toy.copy(), train={"min_size": 25, "max_size": 25})


def sizes(assignments):
    return assignments["metacell"].value_counts()


def test_every_metacell_has_an_allowed_number_of_cells(bounded, toy_model):
    free = sizes(toy_model.get_assignments())
    assert free.min() < 25 < free.max()
    found = sizes(bounded.get_assignments())
    assert len(found) == 6
    assert found.eq(25).all()
    assert bounded.get_metacells().obs["n_cells"].eq(25).all()


def test_cells_are_assigned_one_by_one(bounded, toy):
    found = bounded.get_assignments()
    alone = [bounded.get_assignments(toy[[i]].copy()) for i in (0, 70, 149)]
    pd.testing.assert_series_equal(
        pd.concat(alone)["metacell"], found["metacell"].iloc[[0, 70, 149]]
    )
    shuffled = toy[np.random.default_rng(0).permutation(150)].copy()
    again = bounded.get_assignments(shuffled)["metacell"].loc[found.index]
    pd.testing.assert_series_equal(again, found["metacell"])


def test_a_saved_model_has_the_same_sizes(bounded, tmp_path):
    bounded.save(tmp_path / "model", save_anndata=True)
    loaded = scmetaq.MetaQModel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_assignments(), bounded.get_assignments())


def test_nothing_is_random(bounded, fit, toy):
    again = fit(toy, train={"min_size": 25, "max_size": 25})
    pd.testing.assert_frame_equal(again.get_assignments(), bounded.get_assignments())


def test_usage_and_report_are_of_the_bounded_metacells(bounded):
    share = sizes(bounded.get_assignments()).sort_index() / 150
    np.testing.assert_allclose(bounded.get_codebook()["usage"], share, atol=1e-6)
    assert bounded.get_quantization_report()["n_empty"] == 0
    assert (bounded.get_assignments()["margin"] >= 0).all()


def test_merged_metacells_keep_the_least_size(bounded):
    assert sizes(bounded.get_assignments(n_metacells=3)).min() >= 24


def test_a_training_without_bounds_forgets_them(fit, train, toy, toy_model):
    model = train(fit(toy, train={"max_size": 26}), 1)
    assert not model.module.codebook.is_bounded


def test_one_bound_will_do(fit, toy):
    assert sizes(fit(toy, train={"max_size": 25}).get_assignments()).eq(25).all()


def test_the_published_recipe_has_bounds_too(fit, toy):
    model = fit(toy, train={"min_size": 10}, recipe="published")
    assert sizes(model.get_assignments()).min() >= 10


def test_of_very_many_cells_a_sample_is_bounded(fit, toy, monkeypatch):
    monkeypatch.setattr("scmetaq.model._metaq._MOST_SIMILARITIES", 6 * 130)
    found = sizes(fit(toy, train={"min_size": 24, "max_size": 26}).get_assignments())
    assert found.between(14, 38).all()


@pytest.mark.parametrize(
    ("bounds", "error", "message"),
    [
        ({"min_size": 26}, ValueError, "at most 25, found 26.*ask for at most 5 metacells"),
        ({"max_size": 24}, ValueError, "at least 25, found 24.*ask for at least 7 metacells"),
        ({"min_size": 0}, ValueError, "min_size to be at least 1, found 0"),
        ({"min_size": 30, "max_size": 20}, ValueError, "min_size=30 and max_size=20"),
        ({"max_size": 30.5}, TypeError, "max_size to be an int, found 30.5"),
    ],
)
def test_bounds_that_cannot_be(toy, bounds, error, message):
    scmetaq.MetaQModel.setup_anndata(toy)
    model = scmetaq.MetaQModel(toy, 6)
    with pytest.raises(error, match=message):
        model.train(**bounds)
    assert not model.is_trained


def test_a_query_has_the_sizes_of_its_reference(bounded, toy):
    query = scmetaq.MetaQModel.load_query_data(toy, bounded)
    pd.testing.assert_series_equal(
        query.get_assignments()["metacell"], bounded.get_assignments()["metacell"]
    )
    with pytest.raises(ValueError, match="found some: the metacells of a query are those of"):
        query.train(min_size=5)
