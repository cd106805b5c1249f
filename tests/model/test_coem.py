"""COEM: setting up, training, reading and saving."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import COEM, metrics

SMALL = {"n_latent": 5, "n_hidden": 32, "n_components": 4}


def fit(mdata, max_epochs=12, *, setup=None, train=None, seed=0, **kwargs):
    scvi.settings.seed = seed
    COEM.setup_mudata(mdata, **(setup or {}))
    model = COEM(mdata, **{**SMALL, **kwargs})
    options = {"accelerator": "cpu", "enable_progress_bar": False, **(train or {})}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        model.train(max_epochs, **options)
    return model


@pytest.fixture(scope="module")
def coem(paired):
    """Trained on 150 cells with RNA and ATAC in three states, read only."""
    return fit(paired.copy())


def test_latents_tell_the_states_apart(coem, paired):
    z = coem.get_latent_representation()
    assert z.shape == (150, 5)
    state = paired.obs["state"].cat.codes.to_numpy()
    means = np.stack([z[state == i].mean(0) for i in range(3)])
    nearest = np.linalg.norm(z[:, None] - means, axis=2).argmin(1)
    assert (nearest == state).mean() > 0.95


def test_as_many_metacells_as_asked_for_and_pure(coem, paired):
    for n in (3, 9):
        found = coem.get_assignments(n_metacells=n)
        pd.testing.assert_index_equal(found.index, paired.obs_names)
        assert found.columns.tolist() == ["metacell"]
        assert sorted(found["metacell"].unique()) == [f"mc{i:04d}" for i in range(n)]
        assert metrics.purity(found["metacell"], paired.obs["state"]).mean() > 0.9


def test_latents_do_not_depend_on_order_and_company(coem, paired):
    z = coem.get_latent_representation()
    some = np.array([140, 3, 77])
    np.testing.assert_array_equal(coem.get_latent_representation(paired[some].copy()), z[some])
    np.testing.assert_array_equal(coem.get_latent_representation(), z)


def test_metacells_do_not_depend_on_the_order_of_cells(coem, paired):
    found = coem.get_assignments(paired[::-1].copy(), n_metacells=9)["metacell"]
    expected = coem.get_assignments(n_metacells=9)["metacell"]
    pd.testing.assert_series_equal(found.loc[expected.index], expected)


def test_features_of_new_cells_are_put_in_order(coem, paired):
    parts = {kind: paired[kind][:, ::-1].copy() for kind in ("rna", "atac")}
    z = coem.get_latent_representation(MuData(parts))
    np.testing.assert_array_equal(z, coem.get_latent_representation())


def test_metacells_are_paired_sums(coem, paired):
    metacells = coem.get_metacells(n_metacells=6)
    of_cell = coem.get_assignments(n_metacells=6)["metacell"]
    assert list(metacells.mod) == ["rna", "atac"]
    for kind in ("rna", "atac"):
        part = metacells[kind]
        cells = pd.DataFrame(paired[kind].X.toarray(), paired.obs_names)
        expected = cells.groupby(of_cell).sum().loc[part.obs_names].to_numpy()
        np.testing.assert_allclose(part.layers["counts"].toarray(), expected)
    assert {"n_cells", "state", "state_fraction"} <= set(metacells.obs)
    told = metacells.uns["metaq"]
    assert told["function"] == "scmetaq.COEM.get_metacells"
    assert told["settings"]["n_metacells"] == told["n_metacells"] == 6
    assert told["settings"]["n_latent"] == 5


def test_metacells_go_to_disk(coem, tmp_path):
    coem.get_metacells(n_metacells=6).write_h5mu(tmp_path / "metacells.h5mu")
    assert (tmp_path / "metacells.h5mu").exists()


def test_saved_and_loaded_it_is_the_same(coem, paired, tmp_path):
    coem.save(tmp_path / "model")
    loaded = COEM.load(tmp_path / "model", paired.copy(), accelerator="cpu")
    z = coem.get_latent_representation()
    np.testing.assert_array_equal(loaded.get_latent_representation(), z)
    pd.testing.assert_frame_equal(
        loaded.get_assignments(n_metacells=6), coem.get_assignments(n_metacells=6)
    )
    assert loaded.module.prior.is_fitted
    without = COEM.load(tmp_path / "model", False, accelerator="cpu")
    new = paired[20:60].copy()
    np.testing.assert_array_equal(without.get_latent_representation(new), z[20:60])


def test_the_same_seed_gives_the_same_latents(coem, paired):
    again = fit(paired.copy())
    np.testing.assert_array_equal(
        again.get_latent_representation(), coem.get_latent_representation()
    )


def test_history_has_every_loss(coem):
    names = ["train_loss", "elbo_train", "kl_local_train", "consistency_loss_train", "kl_weight"]
    names += [f"reconstruction_loss_{kind}_train" for kind in ("rna", "atac")]
    values = {n: coem.history[n].to_numpy(dtype=float).ravel() for n in names}
    assert all(np.isfinite(v).all() and len(v) == 12 for v in values.values())
    assert values["elbo_train"][-1] < values["elbo_train"][0]
    assert values["kl_weight"][0] < values["kl_weight"][-1] == pytest.approx(0.1)
    total = sum(values[f"reconstruction_loss_{kind}_train"] for kind in ("rna", "atac"))
    np.testing.assert_allclose(values["elbo_train"], total + values["kl_local_train"], rtol=1e-4)


def test_training_obeys_scvi_tools(paired):
    options = {"early_stopping": True, "batch_size": 50, "plan_kwargs": {"max_kl_weight": 0.5}}
    model = fit(paired.copy(), 3, train=options)
    assert len(model.validation_indices) == 15
    assert "elbo_validation" in model.history
    assert model.history["kl_weight"].to_numpy(dtype=float).max() == 0.5


def test_training_goes_on(coem, paired):
    model = fit(paired.copy(), 2)
    means, features = (
        model.module.prior.means.detach().clone(),
        model.module.parts["rna"].feature_scaling.features.clone(),
    )
    model.train(1, accelerator="cpu", enable_progress_bar=False)
    assert (model.module.parts["rna"].feature_scaling.features == features).all()
    change = (model.module.prior.means - means).abs().max()
    assert 0 < change < 0.5  # learns on, and is not fitted anew


def test_features_and_likelihoods_of_each_modality(paired):
    model = fit(
        paired.copy(), 1, n_top_features={"rna": 20, "atac": 30}, likelihood={"atac": "poisson"}
    )
    parts = model.module.parts
    assert [len(p.feature_scaling.features) for p in parts.values()] == [20, 30]
    assert parts["atac"].decoder.likelihood == "poisson"
    counts = np.asarray((paired["atac"].X > 0).sum(0)).ravel()
    chosen = parts["atac"].feature_scaling.features.numpy()
    assert counts[chosen].min() >= np.sort(counts)[-30]


def test_default_likelihoods(coem):
    parts = coem.module.parts
    assert {kind: p.decoder.likelihood for kind, p in parts.items()} == {"rna": "nb", "atac": "zip"}


def test_modalities_under_other_names_and_layers(paired):
    gex, peaks = paired["rna"].copy(), paired["atac"].copy()
    gex.layers["raw"] = gex.X.copy()
    gex.X = np.log1p(gex.X.toarray())
    names = {"rna_layer": "one", "atac_layer": "two"}
    setup = {"modalities": names, "rna_layer": "raw"}
    model = fit(MuData({"one": gex, "two": peaks}), 1, setup=setup)
    sums = model.get_metacells(n_metacells=4)["one"].layers["counts"].sum()
    assert sums == paired["rna"].X.sum()


def test_cells_are_not_changed(coem, paired):
    for kind in ("rna", "atac"):
        assert abs(coem.adata[kind].X - paired[kind].X).max() == 0
    assert set(coem.adata.obs) - set(paired.obs) <= {"_indices", "_scvi_batch", "_scvi_labels"}


def test_one_modality_is_refused(toy):
    with pytest.raises(NotImplementedError, match="COEM.setup_mudata"):
        COEM.setup_anndata(toy)
    with pytest.raises(TypeError, match="Expected a MuData, found AnnData"):
        COEM.setup_mudata(toy)


def test_a_missing_modality_is_named(toy_mdata):
    mdata = MuData({kind: toy_mdata[kind] for kind in ("rna", "adt")})
    with pytest.raises(ValueError, match="needs counts of RNA and ATAC, found no ATAC"):
        COEM.setup_mudata(mdata)
    with pytest.raises(ValueError, match="found a layer of ADT"):
        COEM.setup_mudata(toy_mdata, adt_layer="counts")


def test_conditions_are_refused(toy_mdata):
    with pytest.raises(ValueError, match="COEM knows no conditions, found batch_key='donor'"):
        COEM.setup_mudata(toy_mdata, batch_key="donor")
    with pytest.raises(ValueError, match=r"categorical_covariate_keys=\['donor'\]"):
        COEM.setup_mudata(toy_mdata, categorical_covariate_keys=["donor"])


def test_mosaic_cells_are_refused(coem, mosaic):
    message = r"all have mdata\['rna'\] and mdata\['atac'\], found 100 of 150 .*intersect_obs"
    with pytest.raises(ValueError, match=message):
        COEM.setup_mudata(mosaic)
    with pytest.raises(ValueError, match=message):
        coem.get_latent_representation(mosaic)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_hidden": 40}, "multiple of 32, found 40"),
        ({"n_latent": 0}, "n_latent to be at least 1"),
        ({"likelihood": "normal"}, "Unknown likelihood 'normal'"),
        ({"likelihood": {"adt": "nb"}}, "Unknown modality in likelihood 'adt'"),
        ({"n_top_features": {"rna": 0}}, "n_top_features to be at least 1"),
        ({"consistency_weight": -1}, "consistency_weight to be a number of at least 0, found -1"),
        ({"consistency_weight": np.nan}, "consistency_weight to be .* at least 0, found nan"),
        ({"consistency_weight": "a"}, "consistency_weight to be .* at least 0, found 'a'"),
    ],
)
def test_bad_arguments_are_refused(toy_mdata, arguments, message):
    COEM.setup_mudata(toy_mdata)
    with pytest.raises(ValueError, match=message):
        COEM(toy_mdata, **arguments)


def test_text_is_no_number_of_hidden_units(toy_mdata):
    COEM.setup_mudata(toy_mdata)
    with pytest.raises(TypeError, match="n_hidden to be an int, found '32'"):
        COEM(toy_mdata, n_hidden="32")


def test_arguments_of_no_plan_are_refused_before_any_work(toy_mdata):
    COEM.setup_mudata(toy_mdata)
    model = COEM(toy_mdata)
    with pytest.raises(TypeError, match="arguments of scmetaq.train.CoemTraining.*'lrr'"):
        model.train(plan_kwargs={"lrr": 1})
    assert not model.is_trained_


def test_more_components_than_cells_are_refused(toy_mdata):
    with pytest.raises(ValueError, match="found 200 and 150.*n_components=3"):
        fit(toy_mdata, 1, n_components=200)


def test_bad_numbers_of_metacells_are_refused(coem):
    with pytest.raises(ValueError, match="fewer than the 150 cells"):
        coem.get_assignments(n_metacells=150)
    with pytest.raises(ValueError, match="n_neighbors to be at least 1, found 0"):
        coem.get_assignments(n_metacells=5, n_neighbors=0)
    with pytest.raises(TypeError, match="n_metacells"):
        coem.get_assignments()


def test_reading_before_training_is_refused(toy_mdata):
    COEM.setup_mudata(toy_mdata)
    with pytest.raises(RuntimeError, match="train"):
        COEM(toy_mdata).get_latent_representation()


def test_an_anndata_is_no_query_of_it(coem, toy):
    assert isinstance(toy, AnnData)
    with pytest.raises(TypeError, match="Expected a MuData, found AnnData"):
        coem.get_latent_representation(toy)


def test_all_that_was_learnt_is_in_the_state(coem):
    assert bool(coem.module.state_dict()["prior.fitted"])
    assert all(torch.isfinite(v.float()).all() for v in coem.module.state_dict().values())
