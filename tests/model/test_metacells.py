import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scmetaq


@pytest.fixture(scope="module")
def metacells(model):
    return model.get_metacells()


def test_counts_are_conserved(metacells, blood):
    np.testing.assert_array_equal(
        np.asarray(metacells.layers["counts"].sum(0)).ravel(), np.asarray(blood.X.sum(0)).ravel()
    )
    assert metacells.layers["counts"].sum() == blood.X.sum()


def test_each_metacell_is_the_sum_and_the_mean_of_its_cells(metacells, assignments, blood):
    for name in metacells.obs_names:
        rows = blood.X[(assignments["metacell"] == name).to_numpy()].toarray().astype(float)
        np.testing.assert_array_equal(metacells[name].layers["counts"].toarray()[0], rows.sum(0))
        np.testing.assert_allclose(metacells[name].X.toarray()[0], rows.mean(0), rtol=1e-6)


def test_names_and_sizes_are_those_of_the_assignments(metacells, assignments, model):
    sizes = assignments["metacell"].value_counts()
    assert metacells.obs_names.tolist() == model.metacell_names
    np.testing.assert_array_equal(metacells.obs["n_cells"], sizes.loc[metacells.obs_names])


def test_equals_aggregating_by_the_assignments(metacells, model, assignments, blood):
    expected = scmetaq.tl.aggregate(blood, assignments["metacell"])
    assert abs(metacells.X - expected.X).max() == 0
    pd.testing.assert_frame_equal(metacells.obs, expected.obs)


def test_labels_are_majorities(metacells, assignments, blood):
    shares = pd.crosstab(assignments["metacell"], blood.obs["cell_type"], normalize="index")
    np.testing.assert_allclose(metacells.obs["cell_type_fraction"], shares.max(axis=1))
    found = metacells.obs["cell_type"].astype(str)
    assert all(shares.loc[name, found[name]] == shares.loc[name].max() for name in found.index)


def test_all_features_are_kept(metacells, blood):
    pd.testing.assert_frame_equal(metacells.var, blood.var)
    assert sparse.issparse(metacells.X)


def test_provenance(metacells, model):
    told = metacells.uns["metaq"]
    assert told["function"] == "scmetaq.MetaQModel.get_metacells"
    assert told["settings"]["n_metacells"] == 10
    assert told["settings"]["recipe"] == "default"
    assert (told["modality"], told["layer"]) == ("rna", "X")
    assert (told["n_cells"], told["n_metacells"]) == (400, 10)
    assert told["scmetaq_version"] == scmetaq.__version__


def test_round_trip_through_h5ad(metacells, tmp_path):
    metacells.write_h5ad(tmp_path / "metacells.h5ad")
    read = anndata.read_h5ad(tmp_path / "metacells.h5ad")
    pd.testing.assert_frame_equal(read.obs, metacells.obs)
    assert abs(read.X - metacells.X).max() == 0
    assert dict(read.uns["metaq"]["settings"]) == metacells.uns["metaq"]["settings"]


def test_of_other_cells_only_those_metacells_that_have_some(model, assignments, again):
    wanted = ["mc0002", "mc0004"]
    chosen = np.flatnonzero(assignments["metacell"].isin(wanted))
    found = model.get_metacells(again(index=chosen))
    assert found.obs_names.tolist() == wanted
    assert found.obs["n_cells"].sum() == len(chosen)
    assert found.uns["metaq"]["n_metacells"] == 2


def test_counts_of_a_layer(fit, toy):
    expected = toy.X.sum()
    toy.layers["raw"] = toy.X.copy()
    toy.X = sparse.csr_matrix(toy.shape, dtype=np.float32)
    metacells = fit(toy, setup={"layer": "raw"}).get_metacells()
    assert metacells.layers["counts"].sum() == expected
    assert metacells.uns["metaq"]["layer"] == "raw"


def test_the_cells_are_not_changed(model, blood):
    model.get_metacells()
    np.testing.assert_array_equal(model.adata.X.toarray(), blood.X.toarray())
    pd.testing.assert_frame_equal(model.adata.obs, blood.obs)
    assert all(key.startswith("_scvi") for key in model.adata.uns)


def test_a_column_of_metacells_is_not_carried_along(toy, fit):
    """Their own name, or that of other metacells: both say nothing of them."""
    toy.obs["metacell"] = np.where(np.arange(toy.n_obs) % 3 == 0, "old", "older")
    model = fit(toy)
    assert not [name for name in model.get_metacells().obs if str(name).startswith("metacell")]
    pieces = model.get_metacells(within="state").obs
    assert set(pieces["metacell"]) == set(model.get_assignments()["metacell"])
    assert "metacell_fraction" not in pieces


def test_columns_registered_with_numbers_have_a_majority(toy, fit):
    toy.obs["kind"] = toy.obs["state"].cat.codes.to_numpy() + 7
    toy.obs["lane"] = np.arange(toy.n_obs) % 2
    setup = {"labels_key": "kind", "batch_key": "lane"}
    model = fit(toy, setup=setup)
    obs, of_cell = model.get_metacells().obs, model.get_assignments()["metacell"]
    for name in ("kind", "lane"):
        shares = pd.crosstab(of_cell, toy.obs[name], normalize="index").loc[obs.index]
        np.testing.assert_allclose(obs[f"{name}_fraction"], shares.max(axis=1))
        assert set(obs[name]) <= set(toy.obs[name])
