import inspect

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
import torch
from lightning.pytorch.loggers import CSVLogger
from scipy import sparse
from scvi.train import SaveCheckpoint

from scmetaq import COEM, MetaQModel, SCPoli

GETTERS = [
    "get_assignments",
    "get_latent_representation",
    "get_codebook",
    "get_metacells",
    "get_quantization_report",
]


def names(model):
    return model.get_assignments()["metacell"]


def fingerprint(adata):
    """Everything of an object that a refused or a reading call may not touch."""
    return {
        "X": None if adata.X is None else sparse.csr_matrix(adata.X).toarray().tobytes(),
        "obs": adata.obs.to_csv(),
        "var": adata.var.to_csv(),
        "uns": sorted(adata.uns),
        "layers": sorted(str(name) for name in adata.layers),
        "obsm": sorted(adata.obsm),
    }


# --- setup -------------------------------------------------------------------


def spoil_fraction(adata):
    adata.X.data[:2] = 0.5


def spoil_log(adata):
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]


def spoil_empty_cell(adata):
    X = adata.X.toarray()
    X[4] = 0
    adata.X = sparse.csr_matrix(X)


def spoil_names(adata):
    adata.obs_names = ["twin"] * 2 + list(adata.obs_names[2:])


def nothing(adata):
    adata.obs["none"] = np.nan


REFUSED = {
    "not whole": (spoil_fraction, {}, ValueError, "non-integer"),
    "log1p": (spoil_log, {}, ValueError, r"log-normalised \(log1p\)"),
    "empty cell": (spoil_empty_cell, {}, ValueError, "filter_cells"),
    "barcodes": (spoil_names, {}, ValueError, "obs_names_make_unique"),
    "layer": (nothing, {"layer": "raw"}, KeyError, "Layers there: none"),
    "label": (nothing, {"labels_key": "type"}, KeyError, "Columns there: 'state'"),
    "labels": (nothing, {"labels_key": ["state", "type"]}, KeyError, "No column 'type'"),
    "no labels": (nothing, {"labels_key": "none"}, ValueError, "are missing"),
    "modality": (nothing, {"modality": "protein"}, ValueError, "'rna', 'adt', 'atac'"),
    "batch": (nothing, {"batch_key": "donor"}, KeyError, "No column 'donor'"),
    "covariate": (
        nothing,
        {"categorical_covariate_keys": ["depth"]},
        ValueError,
        "choose a column with categories",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_setup_leaves_the_data_alone(toy, case):
    spoil, options, error, message = REFUSED[case]
    spoil(toy)
    before = fingerprint(toy)
    with pytest.raises(error, match=f"(?s){message}"):
        MetaQModel.setup_anndata(toy, **options)
    assert fingerprint(toy) == before


def test_labels_that_are_all_unlabeled_are_missing(toy):
    toy.obs["type"] = "Unknown"
    with pytest.raises(ValueError, match="missing|unlabel"):
        MetaQModel.setup_anndata(toy, labels_key="type")


def test_other_objects_are_refused(toy):
    with pytest.raises(TypeError, match="found MuData"):
        MetaQModel.setup_anndata(mudata.MuData({"rna": toy}))
    with pytest.raises(TypeError, match="found str"):
        MetaQModel.setup_anndata("cells.h5ad")
    with pytest.raises(ValueError, match=r"adata\.copy\(\)"):
        MetaQModel.setup_anndata(toy[:50])


def test_setup_writes_nothing_but_scvi_tools_bookkeeping(toy):
    toy.obs["type"], toy.uns["colors"] = toy.obs["state"], [1]
    before = fingerprint(toy)
    MetaQModel.setup_anndata(toy, labels_key="type")
    after = fingerprint(toy)
    after["uns"] = [key for key in after["uns"] if not key.startswith("_scvi")]
    assert after == before


def test_features_without_counts_warn_at_the_callers_line(toy):
    X = toy.X.toarray()
    X[:, 3] = 0
    toy.X = sparse.csr_matrix(X)
    with pytest.warns(UserWarning, match="1 of 60 features have no counts") as caught:
        MetaQModel.setup_anndata(toy)
    assert [w.filename for w in caught if "no counts" in str(w.message)] == [__file__]


def test_features_without_counts_do_no_harm(fit, toy):
    X = toy.X.toarray()
    X[:, :20] = 0
    X[:, 20] += 1
    toy.X = sparse.csr_matrix(X)
    with pytest.warns(UserWarning, match="20 of 60 features have no counts"):
        model = fit(toy)
    assert names(model).nunique() == 6
    assert np.isfinite(model.get_latent_representation()).all()


# --- construction ------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 0, 150, 1000])
def test_impossible_numbers_of_metacells(toy, n):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(ValueError, match=f"between 2 and 149 .*found {n}. .*n_metacells=3"):
        MetaQModel(toy, n)


def test_the_number_of_metacells_is_asked_for(toy):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(TypeError, match="n_metacells is missing.*n_metacells=3"):
        MetaQModel(toy)
    with pytest.raises(TypeError, match="int, found 7.0"):
        MetaQModel(toy, 7.0)


def test_data_must_be_set_up(toy):
    with pytest.raises(ValueError, match="MetaQModel.setup_anndata first"):
        MetaQModel(toy, 6)


@pytest.mark.parametrize(
    "choice",
    [
        {"recipe": "best"},
        *(
            choice
            for choice in ({"distance": "l1"}, {"codebook_init": "best"}, {"likelihood": "zinb"})
        ),
    ],
    ids=str,
)
def test_unknown_choices_are_told_those_there_are(toy, choice):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(ValueError, match=f"{next(iter(choice.values()))}.*expected one of"):
        MetaQModel(toy, 6, **choice)


def test_an_untrained_model_can_be_looked_at_but_not_read(toy):
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6)
    inspect.getmembers(model)
    assert not model.is_trained
    assert "6 metacells of rna counts" in str(model._model_summary_string)
    for getter in GETTERS:
        with pytest.raises(RuntimeError, match="train the model first"):
            getattr(model, getter)()


def test_numpy_numbers_of_metacells_are_numbers(fit, toy, tmp_path):
    model = fit(toy, np.int64(6))
    model.get_metacells().write_h5ad(tmp_path / "metacells.h5ad")
    assert type(model.n_metacells) is int


# --- training ----------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("n_metacells", [2, 30, 149])
def test_as_many_metacells_as_asked_for(fit, toy, recipe, n_metacells):
    model = fit(toy, n_metacells, recipe=recipe)
    assert names(model).nunique() == n_metacells
    assert model.get_metacells().n_obs == n_metacells
    assert model.get_quantization_report()["n_empty"] == 0


@pytest.mark.parametrize("evenness", [-1, 1.5, "high"])
def test_evenness_is_a_share(toy, evenness):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(ValueError, match=f"evenness between 0 and 1, found {evenness!r}"):
        MetaQModel(toy, 6, evenness=evenness)


def test_evenness_makes_sizes_even(fit, toy):
    spread = [names(fit(toy, 12, evenness=e)).value_counts().std() for e in (0, 1)]
    assert spread[1] < spread[0]


@pytest.mark.parametrize("codebook_init", ["kmeans", "random", "geometric"])
@pytest.mark.parametrize("recipe", ["default", "published"])
def test_every_initialisation(fit, toy, codebook_init, recipe):
    assert names(fit(toy, codebook_init=codebook_init, recipe=recipe)).nunique() == 6


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("distance", [None, "euclidean", "cosine"])
def test_cells_are_assigned_by_the_distance(fit, toy, recipe, distance):
    model = fit(toy, recipe=recipe, distance=distance)
    z = model.get_latent_representation().astype(float)
    codes = model.get_codebook().drop(columns="usage").to_numpy(dtype=float)
    if (distance or {"published": "cosine"}.get(recipe)) == "cosine":
        z, codes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, codes))
    squared = np.square(z[:, None] - codes[None]).sum(2)
    second = np.sort(squared, axis=1)[:, 1]
    clear = second - squared.min(1) > 1e-4 * second
    found = names(model).to_numpy()[clear]
    np.testing.assert_array_equal(found, [f"mc{i:04d}" for i in squared.argmin(1)[clear]])
    assert names(model).nunique() == 6


def test_states_are_told_apart(toy_model, toy):
    table = pd.crosstab(names(toy_model), toy.obs["state"])
    assert table.max(axis=1).sum() / 150 > 0.9


def test_one_seed_one_result(fit, toy):
    first, again, other = (fit(toy.copy(), seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.get_assignments(), again.get_assignments())
    pd.testing.assert_frame_equal(first.get_codebook(), again.get_codebook())
    assert not np.array_equal(first.get_codebook(), other.get_codebook())


@pytest.mark.parametrize(
    "make",
    [
        sparse.csc_matrix,
        sparse.csr_array,
        lambda X: X.toarray(),
        lambda X: X.astype(np.int64),
        lambda X: X.astype(np.float64),
    ],
    ids=["csc", "csr_array", "dense", "int64", "float64"],
)
def test_the_form_of_counts_does_not_matter(fit, toy, toy_model, make):
    toy.X = make(toy.X)
    found = fit(toy).get_assignments()
    expected = toy_model.get_assignments()
    pd.testing.assert_series_equal(found["metacell"], expected["metacell"])
    np.testing.assert_allclose(found["margin"], expected["margin"], atol=1e-5)


def test_a_layer_gives_the_same_as_x(fit, toy, toy_model):
    toy.layers["raw"] = toy.X
    toy.X = None
    found = fit(toy, setup={"layer": "raw"}).get_assignments()
    pd.testing.assert_frame_equal(found, toy_model.get_assignments())


def test_counts_on_disk_give_the_same_as_in_memory(fit, toy, toy_model, tmp_path):
    toy.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    pd.testing.assert_frame_equal(
        toy_model.get_assignments(backed), toy_model.get_assignments(toy), atol=1e-5
    )
    pd.testing.assert_frame_equal(
        fit(backed).get_assignments(), toy_model.get_assignments(toy), atol=1e-5
    )


def test_features_on_disk_in_another_order(toy, toy_model, tmp_path):
    toy[:, ::-1].copy().write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    pd.testing.assert_frame_equal(
        toy_model.get_assignments(backed), toy_model.get_assignments(toy), atol=1e-5
    )


def broken(graph, inputs):
    """A compiler that cannot."""
    raise RuntimeError("no compiler here")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", broken])
def test_compiling_changes_nothing_and_falls_back(fit, toy, toy_model, backend):
    options = {"compile": True, "compile_kwargs": {"backend": backend}}
    found = fit(toy, train={"plan_kwargs": options})
    pd.testing.assert_frame_equal(found.get_assignments(), toy_model.get_assignments())


def test_the_first_arguments_of_train_are_those_of_scvi_tools():
    for cls in (MetaQModel, SCPoli, COEM):
        found, expected = (
            list(inspect.signature(c.train).parameters)[:4] for c in (cls, scvi.model.SCVI)
        )
        assert found[:4] == expected[:4]


def test_training_leaves_the_data_alone(fit, toy):
    before = fingerprint(toy)
    model = fit(toy)
    model.get_metacells()
    after = fingerprint(toy)
    after["uns"] = [key for key in after["uns"] if not key.startswith("_scvi")]
    assert after == before


def test_unsorted_counts_stay_as_they_are(fit, toy, toy_model):
    X = toy.X
    for row in range(150):
        part = slice(X.indptr[row], X.indptr[row + 1])
        X.indices[part], X.data[part] = X.indices[part][::-1].copy(), X.data[part][::-1].copy()
    toy.X = sparse.csr_matrix((X.data, X.indices, X.indptr), shape=X.shape)
    kept = toy.X.indices.copy()
    found = fit(toy).get_assignments()
    np.testing.assert_array_equal(toy.X.indices, kept)
    pd.testing.assert_series_equal(found["metacell"], names(toy_model))


def test_counts_stored_in_pieces_add_up(fit, toy, toy_model):
    X = toy.X.tocoo()
    rows, columns = np.tile(X.row, 2), np.tile(X.col, 2)
    halves = np.concatenate([np.floor(X.data / 2), np.ceil(X.data / 2)])
    order = np.argsort(rows, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=150))])
    toy.X = sparse.csr_matrix((halves[order], columns[order], ends), shape=X.shape)
    assert not toy.X.has_canonical_format
    assert toy.X.nnz == 2 * X.nnz
    pd.testing.assert_frame_equal(fit(toy).get_assignments(), toy_model.get_assignments())
    assert toy.X.nnz == 2 * X.nnz


def test_early_stopping_needs_cells_held_out(toy):
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6)
    with pytest.raises(ValueError, match="(?s)held out.*train_size=1"):
        model.train(3, early_stopping=True, train_size=1.0, accelerator="cpu")


@pytest.mark.parametrize(
    "options",
    [
        {"check_val_every_n_epoch": 1},
        {"enable_checkpointing": True},
        {"callbacks": [SaveCheckpoint(monitor="reconstruction_loss_validation")]},
    ],
)
def test_cells_are_held_out_where_they_are_looked_at(fit, toy, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    model = fit(toy, train=options)
    assert len(model.validation_indices) == 15
    assert "reconstruction_loss_validation" in model.history


@pytest.mark.parametrize(
    "options",
    [
        {"check_val_every_n_epoch": 1, "train_size": 1.0},
        {"callbacks": [SaveCheckpoint(monitor="reconstruction_loss_train")]},
    ],
)
def test_without_cells_held_out_all_are_trained_on(fit, toy, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert len(fit(toy, train=options).train_indices) == 150


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_epochs": 1.5}, TypeError, "max_epochs to be an int, found 1.5"),
        ({"batch_size": 2.5}, TypeError, "batch_size to be an int, found 2.5"),
        ({"train_size": 0.0}, ValueError, "train_size between 0 and 1, but not 0, found 0.0"),
        ({"train_size": 1.5}, ValueError, "train_size between 0 and 1, but not 0, found 1.5"),
    ],
)
def test_arguments_of_training_are_checked_first(toy, options, error, message):
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6)
    with pytest.raises(error, match=message):
        model.train(**options, accelerator="cpu")
    assert not model.is_trained


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_latent": 2.5}, TypeError, "n_latent to be an int, found 2.5"),
        ({"n_top_features": 1.5}, TypeError, "n_top_features to be an int, found 1.5"),
        ({"evenness": "a"}, ValueError, "evenness between 0 and 1, found 'a'"),
        ({"evenness": 1.5}, ValueError, "evenness between 0 and 1, found 1.5"),
    ],
)
def test_numbers_of_the_model_are_checked(toy, options, error, message):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(error, match=message):
        MetaQModel(toy, 6, **options)


def test_cells_to_train_on_can_be_named(fit, toy):
    chosen = [np.arange(0, 150, 2), np.arange(1, 150, 2)]
    model = fit(toy, train={"datasplitter_kwargs": {"external_indexing": chosen}})
    assert set(model.train_indices) == set(chosen[0])
    assert set(model.validation_indices) == set(chosen[1])


def test_training_can_be_continued(fit, train, toy):
    model = fit(toy)
    n_epochs = len(model.history["reconstruction_loss_train"])
    before = model.get_quantization_report()["reconstruction_loss"]
    train(model, 6)
    assert len(model.history["reconstruction_loss_train"]) == n_epochs + 6
    assert model.get_quantization_report()["reconstruction_loss"] < before
    assert names(model).nunique() == 6


@pytest.mark.parametrize("n_metacells", [6, 40])
def test_early_stopping(fit, toy, n_metacells):
    """Even where it stops before there are codes, every metacell has cells."""
    stopping = {
        "early_stopping": True,
        "early_stopping_patience": 1,
        "early_stopping_min_delta": 1e9,
    }
    model = fit(toy, n_metacells, 30, train=stopping)
    assert len(model.history["reconstruction_loss_validation"]) < 30
    assert len(model.validation_indices) == 15
    assert names(model).nunique() == n_metacells


def test_all_cells_are_trained_on_unless_told_otherwise(fit, toy, toy_model):
    assert len(toy_model.train_indices) == 150
    assert len(fit(toy, train={"train_size": 0.5}).train_indices) == 75


def test_arguments_reach_the_plan_and_the_trainer(fit, toy):
    options = {"plan_kwargs": {"lr": 0.05, "one_cycle": False}, "gradient_clip_val": 0.5}
    model = fit(toy, train={**options, "batch_size": 50})
    assert model.trainer.optimizers[0].defaults["lr"] == 0.05
    assert model.trainer.gradient_clip_val == 0.5
    assert model.trainer.num_training_batches == 3


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_mixed_precision(fit, toy, recipe):
    model = fit(toy, recipe=recipe, train={"precision": "bf16-mixed", "batch_size": 50})
    assert model.module.codebook.codes.dtype is torch.float32
    assert model.get_assignments()["metacell"].nunique() == 6
    exact = fit(toy.copy(), recipe=recipe, train={"batch_size": 50})
    exact = exact.get_quantization_report()["reconstruction_loss"]
    found = model.get_quantization_report()["reconstruction_loss"]
    assert found == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("batch_size", [1, 149, 1000])
def test_any_batch_size(fit, toy, batch_size):
    cells = toy[:150:5].copy() if batch_size == 1 else toy
    assert names(fit(cells, train={"batch_size": batch_size})).nunique() == 6


def test_the_published_recipe_has_batches_of_512_cells_and_drops_the_rest(fit, toy):
    many = anndata.concat([toy] * 8, index_unique="-")
    trainer = fit(many, max_epochs=1, recipe="published").trainer
    assert trainer.num_training_batches == 2  # of 1,200 cells; the other 176 are left out
    few = fit(toy, max_epochs=1, recipe="published").trainer
    assert few.num_training_batches == 1  # of 150 cells: none is dropped


@pytest.mark.parametrize(("recipe", "share"), [("default", 0.25), ("published", 1.0)])
def test_the_share_of_a_batch_that_is_decoded_in_training(toy, recipe, share):
    MetaQModel.setup_anndata(toy)
    module = MetaQModel(toy, 6, recipe=recipe).module.train()
    z = torch.zeros(100, module.codebook.codes.shape[1])
    decoded = module.generative(z, torch.zeros(100, 0, dtype=torch.long))["plain"]["rna"]
    assert len(decoded.log_rate) == 100 * share


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_the_bias_of_the_rates_starts_at_the_average_profile_but_as_published(toy, recipe):
    scvi.settings.seed = 0
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6, recipe=recipe)
    model._prepare()
    counts = toy.X.toarray()
    average = np.log(counts.sum(0) / counts.sum() * 1e4)
    decoder = model.module.parts["rna"].decoder
    bias = decoder.log_rate.bias.detach().numpy()
    if recipe == "published":
        assert np.abs(bias).max() <= 1 / np.sqrt(decoder.log_rate.in_features)  # torch's default
    else:
        np.testing.assert_allclose(bias, average, rtol=1e-5, atol=1e-5)


def test_the_published_recipe_takes_a_last_batch_of_one_cell(fit, toy):
    assert names(fit(toy, recipe="published", train={"batch_size": 149})).nunique() == 6


def test_history_is_kept_by_scvi_tools_logger(toy_model):
    logger = toy_model.trainer.logger
    assert type(logger).__name__ == "SimpleLogger"
    for name in ("reconstruction_loss_train", "codebook_loss_train", "perplexity_train"):
        pd.testing.assert_frame_equal(toy_model.history[name], logger.history[name])
        assert toy_model.history[name].index.name == "epoch"


def test_a_logger_of_ones_own(fit, toy, tmp_path):
    fit(toy, train={"logger": CSVLogger(tmp_path)})
    logged = pd.read_csv(next(tmp_path.rglob("metrics.csv")))
    assert {"reconstruction_loss_train", "codebook_loss_train"} <= set(logged.columns)


def test_default_epochs(toy):
    MetaQModel.setup_anndata(toy)
    assert MetaQModel(toy, 6, recipe="published")._prepare().n_epochs(512) == 300
    prepared = MetaQModel(toy, 6)._prepare()
    epochs = [prepared.n_epochs(batch_size) for batch_size in (256, 32, 8, 1)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == 100
    assert epochs[-1] >= 1


def test_no_epochs_are_not_the_default_number(fit, toy):
    with pytest.raises(ValueError, match="max_epochs"):
        fit(toy, max_epochs=0)


# --- kinds of data -----------------------------------------------------------


def counts_of_few_proteins(rng, n_cells=120, n_features=12):
    state = np.repeat([0, 1, 2], n_cells // 3)
    rate = rng.gamma(0.7, 100, size=(3, n_features))[state]
    return anndata.AnnData(sparse.csr_matrix(rng.poisson(rate + 1).astype(np.float32)))


def peaks(rng, n_cells=120, n_features=400):
    state = np.repeat([0, 1, 2], n_cells // 3)
    rate = rng.beta(0.3, 2, size=(3, n_features))[state]
    return anndata.AnnData(sparse.csr_matrix(rng.poisson(rate + 0.01).astype(np.float32)))


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize(
    ("modality", "make", "likelihood"),
    [("adt", counts_of_few_proteins, "nb"), ("atac", peaks, "poisson")],
)
def test_other_modalities(fit, rng, modality, make, likelihood, recipe):
    model = fit(make(rng), setup={"modality": modality}, recipe=recipe)
    assert model.module.parts[modality].decoder.likelihood == likelihood
    assert names(model).nunique() == 6
    assert model.get_metacells().uns["metaq"]["modality"] == modality
    assert np.isfinite(list(model.get_quantization_report().values())).all()


def test_the_encoder_reads_at_most_so_many_features(fit, rng):
    cells = peaks(rng)
    model = fit(cells, setup={"modality": "atac"}, n_top_features=100)
    assert len(model.module.parts["atac"].feature_scaling.features) == 100
    n_cells = np.asarray((cells.X > 0).sum(0)).ravel()
    chosen = model.module.parts["atac"].feature_scaling.features.numpy()
    assert n_cells[chosen].min() >= np.delete(n_cells, chosen).max()
    assert model.get_metacells().n_vars == 400


def test_a_likelihood_of_ones_own(fit, toy):
    model = fit(toy, likelihood="poisson")
    assert model.module.parts["rna"].decoder.log_dispersion is None
    assert names(model).nunique() == 6


@pytest.mark.parametrize(
    ("n_cells", "n_features", "n_metacells"), [(60, 50, 5), (60, 50, 59), (10, 5, 3), (3, 4, 2)]
)
def test_tiny_data(fit, toy, n_cells, n_features, n_metacells):
    X = toy.X[:n_cells, :n_features].toarray() + np.eye(n_cells, n_features)
    X[:, 0] += 1
    model = fit(anndata.AnnData(sparse.csr_matrix(X)), n_metacells)
    assert names(model).nunique() == n_metacells
    assert np.isfinite(model.get_latent_representation()).all()


def test_duplicate_cells(fit, toy):
    twice = anndata.concat([toy[:40], toy[:40]], keys=["a", "b"], index_unique="-")
    found = names(fit(twice))
    assert found.nunique() == 6
    np.testing.assert_array_equal(found[:40], found[40:])


def test_a_latent_of_another_size(fit, toy):
    small, large = (fit(toy.copy(), n_latent=n) for n in (2, 100))
    n_components = small.module.parts["rna"].linear_path.profile.axes.shape[1]
    assert small.get_latent_representation().shape[1] == 2 + n_components
    assert large.get_latent_representation().shape[1] == 100 + n_components


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recipe", ["default", "published"])
def test_on_a_gpu(fit, toy, recipe, tmp_path):
    model = fit(toy, train={"accelerator": "gpu", "devices": 1}, recipe=recipe)
    assert model.device.type == "cuda"
    assert names(model).nunique() == 6
    on_gpu = model.get_assignments()
    model.save(tmp_path / "model")
    on_cpu = MetaQModel.load(tmp_path / "model", toy, accelerator="cpu").get_assignments()
    assert (on_cpu["metacell"] == on_gpu["metacell"]).mean() > 0.99
    again = fit(toy.copy(), train={"accelerator": "gpu", "devices": 1}, recipe=recipe)
    assert (names(again) == on_gpu["metacell"]).mean() > 0.95


def test_the_global_seed_is_the_seed(fit, toy):
    model = fit(toy, seed=5)
    assert scvi.settings.seed == 5
    pd.testing.assert_series_equal(names(model), names(fit(toy.copy(), seed=5)))


def test_fewer_distinct_cells_than_metacells_are_told(fit, toy):
    few = toy[np.arange(60) % 12].copy()
    few.obs_names_make_unique()
    with pytest.warns(UserWarning, match="20 metacells, 8 have none.*fewer distinct cells"):
        model = fit(few, 20)
    assert model.get_metacells().n_obs == 12
