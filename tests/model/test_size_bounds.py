import numpy as np
import pandas as pd
import pytest

import scmetaq


@pytest.fixture(scope="module")
def bounded(fit, _toy):
    return fit(_toy.copy(), train={"min_size": 25, "max_size": 25})


def sizes(assignments):
    return assignments["metacell"].value_counts()


def test_metacells_have_allowed_numbers_of_cells_assigned_one_by_one(bounded, toy_model, toy):
    free = sizes(toy_model.get_assignments())
    assert free.min() < 25 < free.max()
    found = sizes(bounded.get_assignments())
    assert len(found) == 6
    assert found.eq(25).all()
    assert bounded.get_metacells().obs["n_cells"].eq(25).all()
    found = bounded.get_assignments()
    alone = [bounded.get_assignments(toy[[i]].copy()) for i in (0, 70, 149)]
    pd.testing.assert_series_equal(
        pd.concat(alone)["metacell"], found["metacell"].iloc[[0, 70, 149]]
    )
    shuffled = toy[np.random.default_rng(0).permutation(150)].copy()
    again = bounded.get_assignments(shuffled)["metacell"].loc[found.index]
    pd.testing.assert_series_equal(again, found["metacell"])


def test_saved_and_repeated_models_have_equal_sizes(bounded, tmp_path, fit, toy, train, toy_model):
    bounded.save(tmp_path / "model", save_anndata=True)
    loaded = scmetaq.MetaQModel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_assignments(), bounded.get_assignments())
    again = fit(toy, train={"min_size": 25, "max_size": 25})
    pd.testing.assert_frame_equal(again.get_assignments(), bounded.get_assignments())
    model = train(fit(toy, train={"max_size": 26}), 1)
    assert not model.module.codebook.is_bounded


def test_usage_report_and_merged_metacells_are_of_the_bounded_ones(bounded):
    share = sizes(bounded.get_assignments()).sort_index() / 150
    np.testing.assert_allclose(bounded.get_codebook()["usage"], share, atol=1e-6)
    assert bounded.get_quantization_report()["n_empty"] == 0
    assert (bounded.get_assignments()["margin"] >= 0).all()
    assert sizes(bounded.get_assignments(n_metacells=3)).min() >= 24


def test_one_bound_will_do_and_of_very_many_cells_a_sample_is_bounded(fit, toy, monkeypatch):
    assert sizes(fit(toy, train={"max_size": 25}).get_assignments()).eq(25).all()
    of_published = fit(toy, train={"min_size": 10}, recipe="published").get_assignments()
    assert sizes(of_published).min() >= 10
    monkeypatch.setattr("scmetaq.model._metaq._MOST_SIMILARITIES", 6 * 130)
    found = sizes(fit(toy, train={"min_size": 24, "max_size": 26}).get_assignments())
    assert found.between(14, 38).all()


def test_a_query_has_the_sizes_of_its_reference(bounded, toy):
    query = scmetaq.MetaQModel.load_query_data(toy, bounded)
    pd.testing.assert_series_equal(
        query.get_assignments()["metacell"], bounded.get_assignments()["metacell"]
    )
