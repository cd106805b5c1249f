"""COEM: setting up, training, reading and saving."""

import numpy as np
import pandas as pd
import pytest
import torch
from mudata import MuData

from scmetaq import COEM, metrics

SMALL = {"n_latent": 5, "n_hidden": 32, "n_components": 4}


@pytest.fixture(scope="module")
def fit(fit_as):
    return lambda cells, max_epochs=12, **kw: fit_as(
        COEM, cells, max_epochs=max_epochs, **{**SMALL, **kw}
    )


@pytest.fixture(scope="module")
def coem(paired, fit):
    """Trained on 150 cells with RNA and ATAC in three states, read only."""
    return fit(paired.copy())


def test_latents_and_as_many_metacells_as_asked_for_tell_the_states_apart(coem, paired):
    z = coem.get_latent_representation()
    assert z.shape == (150, 5)
    state = paired.obs["state"].cat.codes.to_numpy()
    means = np.stack([z[state == i].mean(0) for i in range(3)])
    nearest = np.linalg.norm(z[:, None] - means, axis=2).argmin(1)
    assert (nearest == state).mean() > 0.95
    for n in (3, 9):
        found = coem.get_assignments(n_metacells=n)
        pd.testing.assert_index_equal(found.index, paired.obs_names)
        assert found.columns.tolist() == ["metacell"]
        assert sorted(found["metacell"].unique()) == [f"mc{i:04d}" for i in range(n)]
        assert metrics.purity(found["metacell"], paired.obs["state"]).mean() > 0.9


def test_a_modality_of_noise_is_read_for_little(fit, toy_mdata, rng):
    mean = toy_mdata["atac"].X.toarray().mean(0)
    toy_mdata["atac"].X = rng.poisson(mean, size=(150, len(mean))).astype(np.float32) + 1
    parts = fit(toy_mdata, max_epochs=2).module.parts
    assert parts["rna"].scale ** 2 > 3 * parts["atac"].scale ** 2


def test_latents_and_metacells_do_not_depend_on_order_and_company(coem, paired):
    z = coem.get_latent_representation()
    some = np.array([140, 3, 77])
    np.testing.assert_array_equal(coem.get_latent_representation(paired[some].copy()), z[some])
    np.testing.assert_array_equal(coem.get_latent_representation(), z)
    found = coem.get_assignments(paired[::-1].copy(), n_metacells=9)["metacell"]
    expected = coem.get_assignments(n_metacells=9)["metacell"]
    pd.testing.assert_series_equal(found.loc[expected.index], expected)
    parts = {kind: paired[kind][:, ::-1].copy() for kind in ("rna", "atac")}
    z = coem.get_latent_representation(MuData(parts))
    np.testing.assert_array_equal(z, coem.get_latent_representation())


def test_metacells_are_paired_sums_and_go_to_disk(coem, paired, tmp_path):
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
    metacells.write_h5mu(tmp_path / "metacells.h5mu")


def test_saved_and_loaded_it_is_the_same_and_finite(coem, paired, tmp_path):
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
    assert bool(coem.module.state_dict()["prior.fitted"])
    assert all(torch.isfinite(v.float()).all() for v in coem.module.state_dict().values())


def test_the_same_seed_gives_the_same_latents(coem, paired, fit):
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


def test_training_obeys_scvi_tools(paired, fit):
    options = {"early_stopping": True, "batch_size": 50, "plan_kwargs": {"max_kl_weight": 0.5}}
    model = fit(paired.copy(), 3, train=options)
    assert len(model.validation_indices) == 15
    assert "elbo_validation" in model.history
    assert model.history["kl_weight"].to_numpy(dtype=float).max() == 0.5


def test_training_goes_on(coem, paired, fit):
    model = fit(paired.copy(), 2)
    means, features = (
        model.module.prior.means.detach().clone(),
        model.module.parts["rna"].feature_scaling.features.clone(),
    )
    model.train(1, accelerator="cpu", enable_progress_bar=False)
    assert (model.module.parts["rna"].feature_scaling.features == features).all()
    change = (model.module.prior.means - means).abs().max()
    assert 0 < change < 0.5  # learns on, and is not fitted anew


def test_features_and_likelihoods_of_each_modality_and_by_default(paired, fit, coem):
    model = fit(
        paired.copy(), 1, n_top_features={"rna": 20, "atac": 30}, likelihood={"atac": "poisson"}
    )
    parts = model.module.parts
    assert [len(p.feature_scaling.features) for p in parts.values()] == [20, 30]
    assert parts["atac"].decoder.likelihood == "poisson"
    counts = np.asarray((paired["atac"].X > 0).sum(0)).ravel()
    chosen = parts["atac"].feature_scaling.features.numpy()
    assert counts[chosen].min() >= np.sort(counts)[-30]
    parts = coem.module.parts
    assert {kind: p.decoder.likelihood for kind, p in parts.items()} == {"rna": "nb", "atac": "zip"}


def test_modalities_under_other_names_and_layers(paired, fit):
    gex, peaks = paired["rna"].copy(), paired["atac"].copy()
    gex.layers["raw"] = gex.X.copy()
    gex.X = np.log1p(gex.X.toarray())
    names = {"rna_layer": "one", "atac_layer": "two"}
    setup = {"modalities": names, "rna_layer": "raw"}
    model = fit(MuData({"one": gex, "two": peaks}), 1, setup=setup)
    sums = model.get_metacells(n_metacells=4)["one"].layers["counts"].sum()
    assert sums == paired["rna"].X.sum()


def test_cells_are_not_changed_and_mosaic_ones_refused(coem, paired, mosaic):
    for kind in ("rna", "atac"):
        assert abs(coem.adata[kind].X - paired[kind].X).max() == 0
    assert set(coem.adata.obs) - set(paired.obs) <= {"_indices", "_scvi_batch", "_scvi_labels"}
    message = r"all have mdata\['rna'\] and mdata\['atac'\], found 100 of 150 .*intersect_obs"
    with pytest.raises(ValueError, match=message):
        COEM.setup_mudata(mosaic)
    with pytest.raises(ValueError, match=message):
        coem.get_latent_representation(mosaic)


def test_one_modality_others_and_conditions_are_refused(toy, toy_mdata):
    with pytest.raises(NotImplementedError, match="COEM.setup_mudata"):
        COEM.setup_anndata(toy)
    lacks_atac = MuData({kind: toy_mdata[kind] for kind in ("rna", "adt")})
    for data, options, error, message in (
        (toy, {}, TypeError, "Expected a MuData, found AnnData"),
        (lacks_atac, {}, ValueError, "needs counts of RNA and ATAC, found no ATAC"),
        (toy_mdata, {"adt_layer": "counts"}, ValueError, "found a layer of ADT"),
        (toy_mdata, {"batch_key": "donor"}, ValueError, "knows no conditions, found batch_key='d"),
        (toy_mdata, {"categorical_covariate_keys": ["donor"]}, ValueError, r"keys=\['donor'\]"),
    ):
        with pytest.raises(error, match=message):
            COEM.setup_mudata(data, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_hidden": 40}, ValueError, "multiple of 32, found 40"),
        ({"n_hidden": "32"}, TypeError, "n_hidden to be an int, found '32'"),
        ({"n_latent": 0}, ValueError, "n_latent to be at least 1"),
        ({"likelihood": "normal"}, ValueError, "Unknown likelihood 'normal'"),
        ({"likelihood": {"adt": "nb"}}, ValueError, "Unknown modality in likelihood 'adt'"),
        ({"n_top_features": {"rna": 0}}, ValueError, "n_top_features to be at least 1"),
        *(
            ({"consistency_weight": value}, ValueError, f"number of at least 0, found {value!r}")
            for value in (-1, np.nan, "a")
        ),
    ],
)
def test_bad_arguments_are_refused(toy_mdata, arguments, error, message):
    COEM.setup_mudata(toy_mdata)
    with pytest.raises(error, match=message):
        COEM(toy_mdata, **arguments)


def test_arguments_of_no_plan_and_more_components_than_cells_are_refused(toy_mdata, fit):
    COEM.setup_mudata(toy_mdata)
    model = COEM(toy_mdata)
    with pytest.raises(TypeError, match="arguments of scmetaq.train.CoemTraining.*'lrr'"):
        model.train(plan_kwargs={"lrr": 1})
    assert not model.is_trained_
    with pytest.raises(ValueError, match="found 200 and 150.*n_components=3"):
        fit(toy_mdata, 1, n_components=200)


def test_bad_numbers_of_metacells_and_other_cells_are_refused(coem, toy, toy_mdata):
    COEM.setup_mudata(toy_mdata)
    for model, options, error, message in (
        (coem, {"n_metacells": 150}, ValueError, "fewer than the 150 cells"),
        (coem, {"n_metacells": 5, "n_neighbors": 0}, ValueError, "n_neighbors to be at least 1"),
        (coem, {}, TypeError, "n_metacells"),
        (coem, {"adata": toy, "n_metacells": 5}, TypeError, "found an AnnData"),
        (COEM(toy_mdata), {"n_metacells": 5}, RuntimeError, "train"),
    ):
        with pytest.raises(error, match=message):
            model.get_assignments(**options)
