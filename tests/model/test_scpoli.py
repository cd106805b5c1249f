"""SCPoli: setting up, training, reading and saving."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq import SCPoli

SETUP = {
    "batch_key": "donor",
    "categorical_covariate_keys": ["lane"],
    "labels_key": ["state", "half"],
    "unlabeled_category": "?",
}


@pytest.fixture(scope="module")
def fit(fit_as):
    return lambda cells, max_epochs=12, setup=SETUP, options=None, **kwargs: fit_as(
        SCPoli, cells, max_epochs=max_epochs, setup=setup, train=options, **kwargs
    )


def with_donors(adata):
    """Two donors, one of which has ten genes six times as high; some cells without a label."""
    is_second = np.arange(150) % 2 == 1
    factor = np.ones((150, 60))
    factor[np.ix_(is_second, np.arange(10, 20))] = 6
    cells = AnnData(sparse.csr_matrix(adata.X.multiply(factor)), adata.obs.copy(), adata.var)
    cells.obs["donor"] = np.where(is_second, "second", "first")
    cells.obs["lane"] = np.where(np.arange(150) % 3 == 0, "one", "two")
    cells.obs["state"] = cells.obs["state"].astype(object)
    cells.obs["half"] = cells.obs["state"].replace({"b": "a"})
    cells.obs.loc[cells.obs_names[:20], "half"] = np.nan
    cells.obs.loc[cells.obs_names[140:], ["state", "half"]] = "?"
    return cells


@pytest.fixture(scope="module")
def cells(_toy):
    return with_donors(_toy)


@pytest.fixture(scope="module")
def scpoli(cells, fit):
    """Trained on 150 cells in three states of two donors, read only."""
    return fit(cells.copy(), 40, options={"batch_size": 50})


def test_latents_tell_states_and_not_donors_which_stay_apart_without_conditions(scpoli, cells, fit):
    z = scpoli.get_latent_representation()
    assert z.shape == (150, 10)
    state, donor = np.repeat([0, 1, 2], 50), cells.obs["donor"].to_numpy()
    means = np.stack([z[state == i].mean(0) for i in range(3)])
    assert (np.linalg.norm(z[:, None] - means, axis=2).argmin(1) == state).mean() > 0.95
    of_donor = [z[donor == name].mean(0) for name in ("first", "second")]
    between_states = np.linalg.norm(means[:, None] - means, axis=2)[np.triu_indices(3, 1)].min()
    assert np.linalg.norm(of_donor[0] - of_donor[1]) < between_states / 4
    alone = fit(cells.copy(), 40, setup={}, options={"batch_size": 50})
    apart = []
    for model in (scpoli, alone):
        z, is_second = model.get_latent_representation(), cells.obs["donor"] == "second"
        apart.append(np.linalg.norm(z[is_second].mean(0) - z[~is_second].mean(0)) / z.std())
    assert apart[0] < apart[1]


def test_latents_do_not_depend_on_order_company_and_mode(scpoli, cells):
    z = scpoli.get_latent_representation()
    some = np.array([140, 3, 77])
    np.testing.assert_array_equal(scpoli.get_latent_representation(cells[some].copy()), z[some])
    np.testing.assert_array_equal(scpoli.get_latent_representation(), z)
    reverse = cells[:, ::-1].copy()
    np.testing.assert_array_equal(scpoli.get_latent_representation(reverse), z)
    # No dropout and no draw of latents; the mode stays as it was
    scpoli.module.train()
    np.testing.assert_array_equal(scpoli.get_latent_representation(), z)
    assert scpoli.module.training
    scpoli.module.eval()


def test_conditions_are_those_of_the_key_and_others_are_refused(scpoli, cells):
    found = scpoli.get_condition_embeddings()
    assert list(found) == ["donor", "lane"]
    assert found["donor"].obs_names.tolist() == ["first", "second"]
    assert found["donor"].shape == (2, 10)
    assert (np.linalg.norm(found["donor"].X, axis=1) <= 1 + 1e-5).all()
    assert found["lane"].obs["n_cells"].tolist() == [50, 100]
    assert abs(scpoli.adata.X - cells.X).max() == 0
    assert {name for name in scpoli.adata.obs if not name.startswith("_")} == set(cells.obs)
    query = cells.copy()
    query.obs["donor"] = "third"
    with pytest.raises(ValueError, match="'donor' of new cells to be one of the 2 .*'third'"):
        scpoli.get_latent_representation(query)


def test_saved_and_loaded_it_is_the_same_and_finite(scpoli, cells, tmp_path):
    scpoli.save(tmp_path / "model")
    loaded = SCPoli.load(tmp_path / "model", cells.copy(), accelerator="cpu")
    z = scpoli.get_latent_representation()
    np.testing.assert_array_equal(loaded.get_latent_representation(), z)
    without = SCPoli.load(tmp_path / "model", False, accelerator="cpu")
    np.testing.assert_array_equal(without.get_latent_representation(cells[20:60].copy()), z[20:60])
    for key, found in scpoli.get_condition_embeddings().items():
        np.testing.assert_array_equal(without.get_condition_embeddings()[key].X, found.X)
    pd.testing.assert_frame_equal(without.predict_labels(cells.copy()), scpoli.predict_labels())
    assert all(torch.isfinite(v.float()).all() for v in scpoli.module.state_dict().values())


def test_the_same_seed_gives_the_same_latents(cells, fit):
    first, again = (fit(cells.copy(), 2).get_latent_representation() for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_history_has_every_loss_and_the_last_tenth_of_the_epochs_is_fine_tuning(scpoli):
    history = scpoli.history
    always = ["train_loss", "elbo_train", "kl_local_train", "reconstruction_loss_train"]
    values = {n: history[n].to_numpy(dtype=float).ravel() for n in [*always, "kl_weight"]}
    assert all(np.isfinite(v).all() and len(v) == 40 for v in values.values())
    assert values["elbo_train"][-1] < values["elbo_train"][0]
    assert values["kl_weight"][0] < values["kl_weight"][-1] == pytest.approx(1)
    total = values["reconstruction_loss_train"] + values["kl_local_train"]
    np.testing.assert_allclose(values["elbo_train"], total, rtol=1e-4)
    held = scpoli.history["prototype_loss_train"]
    assert held.index.tolist() == [36, 37, 38, 39]
    values = held.to_numpy(dtype=float)
    assert values[-1] < values[0]


def test_prototypes_draw_the_cells_of_a_label_together(cells, fit):
    """Labels that the counts know nothing of: what holds their cells together are prototypes."""
    halves = cells.copy()
    halves.obs["random"] = np.where(np.random.default_rng(0).random(150) < 0.5, "a", "b")
    apart, is_a = {}, (halves.obs["random"] == "a").to_numpy()
    options = {"pretraining_fraction": 0.2, "batch_size": 50, "plan_kwargs": {"max_kl_weight": 0.1}}
    for eta in (0, 1000):
        model = fit(
            halves.copy(), 15, setup={"labels_key": "random"}, options={"eta": eta, **options}
        )
        z = model.get_latent_representation()
        within = (z[is_a].std(0) + z[~is_a].std(0)).mean()
        apart[eta] = within / 2
        assert ("prototype_loss_train" in model.history) == (eta > 0)
    assert apart[1000] < 0.7 * apart[0]


def test_without_labels_there_are_no_fine_tuning_and_no_prototypes(cells, fit):
    model = fit(cells.copy(), 3, setup={"batch_key": "donor"})
    assert "prototype_loss_train" not in model.history
    with pytest.raises(ValueError, match="The model knows no labels"):
        model.predict_labels()


def test_labels_of_cells_at_all_levels(scpoli, cells):
    found = scpoli._labels()
    expected = {
        "state": np.where(np.arange(150) < 140, np.repeat([0, 1, 2], 50), -1),
        "half": np.where(np.arange(150) < 140, np.repeat([0, 0, 1], 50), -1),
    }
    expected["half"][:20] = -1
    np.testing.assert_array_equal(found, np.stack(list(expected.values()), 1))


def test_training_obeys_scvi_tools(cells, fit):
    plan = {"max_kl_weight": 0.3, "kl_warmup_fraction": 0.1}
    options = {"early_stopping": True, "batch_size": 50, "plan_kwargs": plan}
    model = fit(cells.copy(), 3, options=options)
    assert len(model.validation_indices) == 15
    assert "elbo_validation" in model.history
    assert model.history["kl_weight"].to_numpy(dtype=float).max() == pytest.approx(0.3)


def test_training_goes_on(cells, fit, train):
    model = fit(cells.copy(), 2)
    scale = model.module.parts["rna"].feature_scaling.scale.clone()
    weight = model.module.parts["rna"].encoder[0].weight.detach().clone()
    train(model, 1)
    part = model.module.parts["rna"]
    assert torch.equal(part.feature_scaling.scale, scale)
    assert 0 < (part.encoder[0].weight - weight).abs().max() < 0.1


def test_two_modalities_of_which_cells_may_lack_one(paired, fit):
    adt = paired["adt"][50:].copy()
    mdata = MuData({"rna": paired["rna"].copy(), "adt": adt})
    mdata.obs["donor"] = np.where(np.arange(150) % 2, "x", "y")
    model = fit(mdata, 20, setup={"batch_key": "donor"}, options={"batch_size": 50})
    parts = model.module.parts
    assert {k: len(p.feature_scaling.features) for k, p in parts.items()} == {"rna": 60, "adt": 8}
    z, state = model.get_latent_representation(), np.repeat([0, 1, 2], 50)
    means = np.stack([z[state == i].mean(0) for i in range(3)])
    assert (np.linalg.norm(z[:, None] - means, axis=2).argmin(1) == state).mean() > 0.95
    for kind in ("rna", "adt"):
        losses = model.history[f"reconstruction_loss_{kind}_train"].to_numpy(dtype=float)
        assert np.isfinite(losses).all()


def test_chromatin_is_poisson(paired, fit):
    atac = paired["atac"].copy()
    model = fit(atac, 1, setup={"modality": "atac"}, n_top_features=30)
    part = model.module.parts["atac"]
    assert part.decoder.likelihood == "poisson"
    assert part.decoder.log_dispersion is None
    counts = np.asarray((atac.X > 0).sum(0)).ravel()
    chosen = part.feature_scaling.features.numpy()
    assert counts[chosen].min() >= np.sort(counts)[-30]


@pytest.mark.parametrize(
    ("arguments", "training", "message"),
    [
        ({"n_latent": 0}, {}, "n_latent to be at least 1"),
        ({"likelihood": "zip"}, {}, "Unknown likelihood 'zip'"),
        ({"likelihood": {"adt": "nb"}}, {}, "Unknown modality in likelihood 'adt'"),
        ({"n_top_features": 0}, {}, "n_top_features to be at least 1"),
        ({"dropout": 1.0}, {}, "dropout between 0 and 1, but not 1, found 1.0"),
        ({}, {"eta": -1}, "eta >= 0, found -1"),
        ({}, {"pretraining_fraction": 1.5}, "pretraining_fraction between 0 and 1, found 1.5"),
        ({}, {"batch_size": 0}, "batch_size to be at least 1"),
    ],
)
def test_bad_arguments_and_reading_before_training_are_refused(toy, arguments, training, message):
    SCPoli.setup_anndata(toy)
    with pytest.raises(ValueError, match=message):
        SCPoli(toy, **arguments).train(1, **training)
    with pytest.raises(RuntimeError, match="train"):
        SCPoli(toy).get_latent_representation()


def test_labels_are_predicted_by_prototypes_the_class_means(scpoli, cells):
    found = scpoli.predict_labels()
    parts = ("", "_uncertainty", "_distance", "_unknown")
    assert found.columns.tolist() == [f"{key}{part}" for key in ("state", "half") for part in parts]
    assert (found[["state", "half"]][140:150] == "c").all(axis=None)
    known = cells.obs["state"] != "?"
    assert (found["state"][known] == cells.obs["state"][known]).mean() > 0.95
    z, state = scpoli.get_latent_representation(), cells.obs["state"].to_numpy()
    found = scpoli.get_prototypes()
    of_state = found[found.obs["labels_key"] == "state"]
    expected = np.stack([z[state == k].mean(0) for k in of_state.obs["label"]])
    np.testing.assert_allclose(of_state.X, expected, atol=1e-5)
    assert of_state.obs["n_cells"].tolist() == [50, 50, 40]


@pytest.fixture(scope="module")
def query(cells):
    """A third donor, with five genes ten times as high, of which five other genes are missing."""
    found = cells[::3].copy()
    factor = np.ones(60)
    factor[30:35] = 10
    found.X = sparse.csr_matrix(found.X.multiply(factor))
    found.obs["donor"] = "third"
    found.obs[["state", "half"]] = "?"
    return found[:, 5:].copy()


@pytest.fixture(scope="module")
def mapped(scpoli, query, train):
    scvi.settings.seed = 0
    return train(SCPoli.load_query_data(query.copy(), scpoli), 8, batch_size=25)


def test_all_but_the_new_donor_is_that_of_the_reference(mapped, scpoli, cells):
    known = scpoli.module.state_dict()
    found = mapped.module.state_dict()
    others = [n for n in known if not n.startswith("condition_embedding") and "coverage" not in n]
    assert all(torch.equal(found[name], known[name]) for name in others)
    donors = mapped.get_condition_embeddings()["donor"]
    assert donors.obs_names.tolist() == ["first", "second", "third"]
    np.testing.assert_array_equal(donors.X[:2], scpoli.get_condition_embeddings()["donor"].X)
    assert abs(donors.X[2] - donors.X[:2].mean(0)).max() > 0.01


def test_cells_of_the_new_donor_get_their_labels(mapped, query):
    assert mapped.missing_features["rna"].tolist() == [f"gene{i}" for i in range(5)]
    found = mapped.predict_labels()
    state = np.repeat(["a", "b", "c"], 50)[::3]
    assert (found["state"] == state).mean() > 0.9
    losses = mapped.history["train_loss"].to_numpy(dtype=float)
    assert losses[-1] < losses[0]


def test_labelled_cells_of_a_query_are_drawn_to_the_prototypes_of_the_reference(
    scpoli, query, train
):
    def trained(state, **options):
        scvi.settings.seed = 0
        adata = query.copy()
        adata.obs["state"] = state
        model = train(SCPoli.load_query_data(adata, scpoli), 8, batch_size=25, **options)
        z = torch.from_numpy(model.get_latent_representation())
        means = scpoli._prototypes["state"].means[label]
        away = torch.linalg.vector_norm(z - means, dim=1)
        return model, float(away.mean()), model.get_condition_embeddings()["donor"].X[2]

    label = torch.arange(150)[::3] // 50
    state = np.array(["a", "b", "c"])[label]
    model, near, embedding = trained(state, eta=1e4)
    without, far, other = trained("?", eta=1e4)
    assert near < far
    assert "prototype_loss_train" in model.history
    assert "prototype_loss_train" not in without.history
    some = np.where(np.arange(50) % 2, state, "?")  # those without a label follow
    assert trained(some, eta=1e4)[1] < far
    for given, eta in ((state, 0), (np.char.add(state, " that is new"), 1e4)):
        np.testing.assert_array_equal(trained(given, eta=eta)[2], other)
    assert abs(embedding - other).max() > 0.02 > abs(trained(state)[2] - other).max() > 0
    known, found = scpoli.module.state_dict(), model.module.state_dict()
    frozen = [n for n in known if n.startswith(("parts.rna.encoder", "prototypes"))]
    assert all(torch.equal(found[name], known[name]) for name in frozen)


def test_a_query_is_saved_and_trained_without_a_logger(scpoli, query, train, mapped, tmp_path):
    model = train(SCPoli.load_query_data(query.copy(), scpoli), 1, logger=False)
    assert model.history == {}
    mapped.save(tmp_path / "model")
    loaded = SCPoli.load(tmp_path / "model", query.copy(), accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), mapped.get_latent_representation()
    )


def test_sizes_of_networks_and_embeddings_can_be_chosen(blood, tmp_path):
    adata = blood.copy()
    adata.obs["batch"] = np.array(["a", "b"])[np.arange(adata.n_obs) % 2]
    SCPoli.setup_anndata(adata, batch_key="batch")
    model = SCPoli(adata, n_embedding=3, n_hidden=17, n_layers=2)
    part = model.module.parts["rna"]
    widths = [w.shape for name, w in part.encoder.named_parameters() if w.ndim == 2]
    assert widths == [(17, 500 + 3), (17, 17)]
    assert [w.shape for w in part.decoder.hidden.parameters() if w.ndim == 2] == [
        (17, 13),
        (17, 17),
    ]
    model.train(2, accelerator="cpu", enable_progress_bar=False)
    assert model.get_condition_embeddings()["batch"].shape == (2, 3)
    model.save(tmp_path / "model")
    query = blood[:100].copy()
    query.obs["batch"] = "c"
    mapped = SCPoli.load_query_data(query, tmp_path / "model")
    assert mapped.get_condition_embeddings()["batch"].shape == (3, 3)
    with pytest.raises(ValueError, match="n_layers to be at least 1"):
        SCPoli(adata, n_layers=0)
