"""Batch-aware quantization."""

import warnings

import numpy as np
import pandas as pd
import pytest

from scmetaq import MetaQModel, metrics, pl


def shifted(cells, rng):
    """The cells in two batches; the second has multiplied genes by random factors."""
    batch = np.arange(cells.n_obs) % 2
    factor = np.where(batch[:, None] == 1, rng.gamma(2.0, 0.5, cells.n_vars), 1.0)
    counts = rng.poisson(cells.X.toarray() * factor).astype(np.float32)
    counts[:, 0] += 1
    cells.X = counts
    cells.obs["batch"] = pd.Categorical(np.array(["x", "y"])[batch])
    cells.obs["lane"] = pd.Categorical(np.array(["l1", "l2", "l3"])[np.arange(cells.n_obs) % 3])
    return cells


@pytest.fixture(scope="module")
def cells(blood):
    return shifted(blood.copy(), np.random.default_rng(0))


@pytest.fixture(scope="module")
def aware(cells, fit):
    return fit(cells.copy(), 8, 20, setup={"batch_key": "batch"})


def scores(model, cells):
    found = model.get_assignments()["metacell"]
    kinds, batches = cells.obs["cell_type"], cells.obs["batch"]
    mixed = metrics.mixing(found, batches, kinds)
    return metrics.purity(found, kinds).mean(), mixed.mixing


def test_metacells_group_cells_across_batches(aware, cells, fit):
    blind = fit(cells.copy(), 8, 20)
    (purity, mixing), (of_blind, mixing_of_blind) = scores(aware, cells), scores(blind, cells)
    assert mixing > 0.85 > mixing_of_blind
    assert purity > of_blind - 0.05


def test_new_cells_are_assigned_as_those_of_the_model_also_from_disk(aware, cells, tmp_path):
    again, other = cells[::-3].copy(), cells[:50].copy()
    expected = aware.get_assignments()
    found = aware.get_assignments(again)["metacell"]
    assert (found == expected["metacell"].loc[again.obs_names]).all()
    other.obs["batch"] = "z"
    with pytest.raises(ValueError, match="'batch' of new cells.*found 'z'"):
        aware.get_assignments(other)
    aware.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", cells.copy())
    pd.testing.assert_frame_equal(loaded.get_assignments(), expected)


@pytest.fixture(scope="module")
def of_two_keys(cells, fit):
    setup = {"batch_key": "batch", "categorical_covariate_keys": ["lane"]}
    return fit(cells.copy(), 8, 3, setup=setup)


def test_embeddings_of_each_key_and_their_principal_components(of_two_keys, cells):
    model = of_two_keys
    embeddings = model.get_condition_embeddings()
    assert {key: list(e.obs_names) for key, e in embeddings.items()} == {
        "batch": ["x", "y"],
        "lane": ["l1", "l2", "l3"],
    }
    table = model.module.condition_embedding.table("lane").detach()
    np.testing.assert_allclose(embeddings["lane"].X, table)
    n_cells = cells.obs["lane"].value_counts()
    assert embeddings["lane"].obs["n_cells"].to_dict() == n_cells.to_dict()
    found = of_two_keys.get_condition_embeddings()["lane"]
    centred = found.X - found.X.mean(0)
    components = found.obsm["X_pca"]
    assert components.shape == (3, 2)
    np.testing.assert_allclose(components @ components.T, centred @ centred.T, atol=1e-6)
    assert np.square(components[:, 0]).sum() > np.square(components[:, 1]).sum()
    np.testing.assert_allclose(found.uns["pca"]["variance_ratio"].sum(), 1, rtol=1e-5)


def test_a_single_category_has_no_components_no_warning_and_is_drawn(fit, cells):
    cells = cells.copy()
    cells.obs["batch"] = "only"
    model = fit(cells, 8, 2, setup={"batch_key": "batch"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = model.get_condition_embeddings()["batch"]
        ax = pl.conditions(found, "n_cells")
    assert found.obsm["X_pca"].shape == (1, 0)
    assert ax.collections[0].get_offsets().tolist() == [[0, 0]]


def test_embeddings_have_the_columns_that_are_constant_within_a_category(fit, cells):
    cells = cells.copy()
    is_x = cells.obs["batch"] == "x"
    cells.obs["site"] = pd.Categorical(cells.obs["batch"].map({"x": "here", "y": "there"}))
    cells.obs["day"] = pd.to_datetime(np.where(is_x, "2020-01-02", "2021-03-04"))
    cells.obs["note"] = pd.array(np.where(is_x, "seen", None), dtype="string")
    cells.obs["n_cells"] = np.where(is_x, 1.5, 2.5)
    found = fit(cells, 8, 2, setup={"batch_key": "batch"}).get_condition_embeddings()["batch"]
    assert found.obs["site"].tolist() == ["here", "there"]
    assert found.obs["day"].tolist() == ["2020-01-02", "2021-03-04"]
    assert found.obs["note"].tolist()[0] == "seen"
    assert pd.isna(found.obs["note"].iloc[1])
    assert found.obs["n_cells"].tolist() == [is_x.sum(), (~is_x).sum()]
    assert "lane" not in found.obs


def test_categories_without_a_cell_are_ignored(fit, cells):
    cells = cells.copy()
    cells.obs["batch"] = pd.Categorical(cells.obs["batch"], ["none", "x", "y", "new"])
    before = cells.obs["batch"].copy()
    model = fit(cells, 8, 2, setup={"batch_key": "batch"})
    pd.testing.assert_series_equal(cells.obs["batch"], before)
    assert model.get_condition_embeddings()["batch"].obs_names.tolist() == ["x", "y"]
    found = model.get_assignments()
    fit(cells, 8, 1)  # another set-up of the same object, and back
    pd.testing.assert_frame_equal(model.get_assignments(), found)
    assert model.get_condition_embeddings()["batch"].obs_names.tolist() == ["x", "y"]
    query = cells.copy()
    query.obs["batch"] = "new"
    assert MetaQModel.load_query_data(query, model).new_conditions == {"batch": ["new"]}


def test_without_conditions_there_are_no_embeddings(model):
    with pytest.raises(ValueError, match="batch_key.*categorical_covariate_keys"):
        model.get_condition_embeddings()


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_conditions_of_several_modalities(fit, toy_mdata, recipe):
    toy_mdata.obs["batch"] = np.array(["x", "y"])[np.arange(150) % 2]
    toy_mdata["rna"].obs["lane"] = np.array(["l1", "l2", "l3"])[np.arange(150) % 3]
    setup = {
        "batch_key": "batch",
        "categorical_covariate_keys": ["lane"],
        "modalities": {"rna_layer": "rna", "adt_layer": "adt", "categorical_covariate_keys": "rna"},
    }
    model = fit(toy_mdata, setup=setup, recipe=recipe)
    assert model.get_assignments()["metacell"].nunique() == 6
    assert list(model.get_condition_embeddings()) == ["batch", "lane"]
    assert np.isfinite(list(model.get_quantization_report().values())).all()
