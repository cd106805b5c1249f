import inspect

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from lightning.pytorch.loggers import CSVLogger
from scipy import sparse
from scvi.train import SaveCheckpoint

from scmetaq import COEM, MetaQModel, SCPoli

GETTERS = """get_assignments get_latent_representation get_codebook get_metacells
get_quantization_report predict_labels"""


def names(model):
    return model.get_assignments()["metacell"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "raw"}, KeyError, "Layers there: none"),
        ({"labels_key": ["state", "type"]}, KeyError, "No column 'type'"),
        ({"modality": "protein"}, ValueError, "'rna', 'adt', 'atac'"),
        ({"batch_key": "donor"}, KeyError, "No column 'donor'"),
        ({"categorical_covariate_keys": ["depth"]}, ValueError, "choose a column with categories"),
    ],
)
def test_a_refused_setup_leaves_the_data_alone(toy, fingerprint, options, error, message):
    before = fingerprint(toy)
    with pytest.raises(error, match=f"(?s){message}"):
        MetaQModel.setup_anndata(toy, **options)
    assert fingerprint(toy) == before


def test_features_without_counts_do_no_harm_and_warn_at_the_callers_line(train, toy):
    X = toy.X.toarray()
    X[:, :20] = 0
    X[:, 20] += 1
    toy.X = sparse.csr_matrix(X)
    with pytest.warns(UserWarning, match="20 of 60 features have no counts") as caught:
        MetaQModel.setup_anndata(toy)
    assert [w.filename for w in caught if "no counts" in str(w.message)] == [__file__]
    model = train(MetaQModel(toy, 6))
    assert names(model).nunique() == 6
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        *(
            ({"n_metacells": n}, ValueError, f"between 2 and 149 .*found {n}. .*n_metacells=3")
            for n in (1, 0, -5, 150, 1000)
        ),
        *(({"n_metacells": n}, TypeError, f"an int, found {n!r}") for n in (7.0, "10", True)),
        ({"n_metacells": None}, TypeError, "n_metacells is missing.*n_metacells=3"),
        ({"recipe": "best"}, ValueError, "Unknown recipe 'best'.*'default', 'published'"),
        ({"distance": "l1"}, ValueError, "l1.*expected one of"),
        ({"codebook_init": "best"}, ValueError, "best.*expected one of"),
        ({"likelihood": "zinb"}, ValueError, "zinb.*expected one of"),
        *(
            ({"evenness": e}, ValueError, f"evenness between 0 and 1, found {e!r}")
            for e in (-1, 1.5, "high")
        ),
        ({"n_latent": 2.5}, TypeError, "n_latent to be an int, found 2.5"),
        ({"n_top_features": 1.5}, TypeError, "n_top_features to be an int, found 1.5"),
    ],
)
def test_bad_arguments_of_the_model_are_refused(toy, options, error, message):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(error, match=message):
        MetaQModel(toy, **{"n_metacells": 6, **options})


def test_an_untrained_model_can_be_looked_at_but_not_read_and_data_must_be_set_up(toy):
    with pytest.raises(ValueError, match="MetaQModel.setup_anndata first"):
        MetaQModel(toy, 6)
    MetaQModel.setup_anndata(toy, labels_key="state")
    model = MetaQModel(toy, 6)
    inspect.getmembers(model)
    assert not model.is_trained
    assert "6 metacells of rna counts" in str(model._model_summary_string)
    for getter in GETTERS.split():
        with pytest.raises(RuntimeError, match="train the model first"):
            getattr(model, getter)()


def test_numpy_numbers_of_metacells_are_numbers(fit, toy, tmp_path):
    model = fit(toy, np.int64(6))
    model.get_metacells().write_h5ad(tmp_path / "metacells.h5ad")
    assert type(model.n_metacells) is int


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("n_metacells", [2, 30, 149])
def test_as_many_metacells_as_asked_for(fit, toy, recipe, n_metacells):
    model = fit(toy, n_metacells, recipe=recipe)
    assert names(model).nunique() == n_metacells
    assert model.get_metacells().n_obs == n_metacells
    assert model.get_quantization_report()["n_empty"] == 0


@pytest.mark.parametrize("codebook_init", ["kmeans", "random", "geometric"])
@pytest.mark.parametrize("recipe", ["default", "published"])
def test_every_initialisation(fit, toy, codebook_init, recipe):
    assert names(fit(toy, codebook_init=codebook_init, recipe=recipe)).nunique() == 6


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("distance", [None, "euclidean", "cosine"])
def test_cells_are_assigned_by_the_distance_and_the_margin_is_to_the_second_code(
    fit, toy, recipe, distance
):
    model = fit(toy, recipe=recipe, distance=distance)
    z = model.get_latent_representation().astype(float)
    codes = model.get_codebook().drop(columns="usage").to_numpy(dtype=float)
    is_cosine = (distance or {"published": "cosine"}.get(recipe)) == "cosine"
    if is_cosine:
        z, codes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, codes))
    squared = np.square(z[:, None] - codes[None]).sum(2) / (2 if is_cosine else 1)
    best, second = np.sort(squared, axis=1)[:, :2].T
    clear = second - best > 1e-4 * second
    found = model.get_assignments()
    expected = [f"mc{i:04d}" for i in squared.argmin(1)[clear]]
    np.testing.assert_array_equal(found["metacell"][clear], expected)
    np.testing.assert_allclose(found["margin"], second - best, rtol=1e-4, atol=1e-4)
    assert found["metacell"].nunique() == 6


def test_states_are_told_apart_and_evenness_makes_sizes_even(toy_model, toy, fit):
    table = pd.crosstab(names(toy_model), toy.obs["state"])
    assert table.max(axis=1).sum() / 150 > 0.9
    spread = [names(fit(toy, 12, evenness=e)).value_counts().std() for e in (0, 1)]
    assert spread[1] < spread[0]


def test_one_seed_one_result_and_the_global_seed_is_the_seed(fit, toy):
    first, again, other = (fit(toy.copy(), seed=seed) for seed in (0, 0, 1))
    assert scvi.settings.seed == 1
    pd.testing.assert_frame_equal(first.get_assignments(), again.get_assignments())
    pd.testing.assert_frame_equal(first.get_codebook(), again.get_codebook())
    assert not np.array_equal(first.get_codebook(), other.get_codebook())


def test_the_form_of_counts_does_not_matter(fit, toy, toy_model, in_form):
    toy.X = in_form(toy.X)
    found = fit(toy).get_assignments()
    expected = toy_model.get_assignments()
    pd.testing.assert_series_equal(found["metacell"], expected["metacell"])
    np.testing.assert_allclose(found["margin"], expected["margin"], atol=1e-5)


def test_a_layer_gives_the_same_as_x(fit, toy, toy_model):
    toy.layers["raw"] = toy.X
    toy.X = None
    model, metacells = fit(toy, setup={"layer": "raw"}), toy_model.get_metacells()
    pd.testing.assert_frame_equal(model.get_assignments(), toy_model.get_assignments())
    assert abs(model.get_metacells().layers["counts"] - metacells.layers["counts"]).max() == 0


def test_counts_on_disk_with_features_in_any_order_give_the_same(fit, toy, toy_model, tmp_path):
    expected = toy_model.get_assignments()
    for file, cells in (("turned.h5ad", toy[:, ::-1].copy()), ("cells.h5ad", toy)):
        cells.write_h5ad(tmp_path / file)
        backed = anndata.read_h5ad(tmp_path / file, backed="r")
        pd.testing.assert_frame_equal(toy_model.get_assignments(backed), expected, atol=1e-5)
    pd.testing.assert_frame_equal(fit(backed).get_assignments(), expected, atol=1e-5)


def broken(graph, inputs):
    """A compiler that cannot."""
    raise RuntimeError("no compiler here")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", broken])
def test_compiling_changes_nothing_and_falls_back(fit, toy, toy_model, backend):
    options = {"compile": True, "compile_kwargs": {"backend": backend}}
    found = fit(toy, train={"plan_kwargs": options})
    pd.testing.assert_frame_equal(found.get_assignments(), toy_model.get_assignments())


def test_setting_up_training_and_reading_leave_the_data_alone(fit, toy, fingerprint):
    toy.obs["type"], toy.uns["colors"] = toy.obs["state"], [1]
    before = fingerprint(toy)
    fit(toy, setup={"labels_key": "type"}).get_metacells()
    assert fingerprint(toy) == before


def test_unsorted_counts_stay_as_they_are_and_pieces_add_up(fit, toy, toy_model):
    X = toy.X
    for row in range(150):
        part = slice(X.indptr[row], X.indptr[row + 1])
        X.indices[part], X.data[part] = X.indices[part][::-1].copy(), X.data[part][::-1].copy()
    toy.X = sparse.csr_matrix((X.data, X.indices, X.indptr), shape=X.shape)
    kept = toy.X.indices.copy()
    found = fit(toy).get_assignments()
    np.testing.assert_array_equal(toy.X.indices, kept)
    pd.testing.assert_series_equal(found["metacell"], names(toy_model))
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


@pytest.mark.parametrize(
    ("options", "n_held_out"),
    [
        ({"check_val_every_n_epoch": 1}, 15),
        ({"enable_checkpointing": True}, 15),
        ({"callbacks": [SaveCheckpoint(monitor="reconstruction_loss_validation")]}, 15),
        ({"check_val_every_n_epoch": 1, "train_size": 1.0}, 0),
        ({"callbacks": [SaveCheckpoint(monitor="reconstruction_loss_train")]}, 0),
        ({}, 0),
        ({"train_size": 0.5}, 75),
    ],
)
def test_cells_are_held_out_where_they_are_looked_at_or_if_told_so(
    fit, toy, tmp_path, monkeypatch, options, n_held_out
):
    monkeypatch.chdir(tmp_path)
    model = fit(toy, train=options)
    assert len(model.train_indices) == 150 - n_held_out
    assert names(model).nunique() == 6
    if n_held_out == 15:
        assert len(model.validation_indices) == 15
        assert "reconstruction_loss_validation" in model.history


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_epochs": 0}, ValueError, "max_epochs"),
        ({"max_epochs": 1.5}, TypeError, "max_epochs to be an int, found 1.5"),
        ({"batch_size": 2.5}, TypeError, "batch_size to be an int, found 2.5"),
        ({"train_size": 0.0}, ValueError, "train_size between 0 and 1, but not 0, found 0.0"),
        ({"train_size": 1.5}, ValueError, "train_size between 0 and 1, but not 0, found 1.5"),
        ({"early_stopping": True, "train_size": 1.0}, ValueError, "held out.*train_size=1"),
        ({"plan_kwargs": {"bogus": 1}}, TypeError, "of scmetaq.train.MetaQ.*, found 'bogus'"),
        ({"min_size": 26}, ValueError, "at most 25, found 26.*ask for at most 5 metacells"),
        ({"max_size": 24}, ValueError, "at least 25, found 24.*ask for at least 7 metacells"),
        ({"min_size": 0}, ValueError, "min_size to be at least 1, found 0"),
        ({"min_size": 30, "max_size": 20}, ValueError, "min_size=30 and max_size=20"),
        ({"max_size": 30.5}, TypeError, "max_size to be an int, found 30.5"),
    ],
)
def test_arguments_of_training_are_checked_first(toy, options, error, message):
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6)
    with pytest.raises(error, match=message):
        model.train(**options, accelerator="cpu")
    assert not model.is_trained


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


def test_arguments_reach_the_plan_the_trainer_and_the_splitter(fit, toy):
    chosen = [np.arange(0, 150, 2), np.arange(1, 150, 2)]
    options = {"plan_kwargs": {"lr": 0.05, "one_cycle": False}, "gradient_clip_val": 0.5}
    splitter = {"batch_size": 25, "datasplitter_kwargs": {"external_indexing": chosen}}
    model = fit(toy, train={**options, **splitter})
    assert model.trainer.optimizers[0].defaults["lr"] == 0.05
    assert model.trainer.gradient_clip_val == 0.5
    assert model.trainer.num_training_batches == 3
    assert set(model.train_indices) == set(chosen[0])
    assert set(model.validation_indices) == set(chosen[1])


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


def test_the_published_recipe_has_batches_of_512_cells_drops_the_rest_and_takes_one_cell(fit, toy):
    many = anndata.concat([toy] * 8, index_unique="-")
    trainer = fit(many, max_epochs=1, recipe="published").trainer
    assert trainer.num_training_batches == 2  # of 1,200 cells; the other 176 are left out
    few = fit(toy, max_epochs=1, recipe="published").trainer
    assert few.num_training_batches == 1  # of 150 cells: none is dropped
    assert names(fit(toy, recipe="published", train={"batch_size": 149})).nunique() == 6


@pytest.mark.parametrize(("recipe", "share"), [("default", 0.25), ("published", 1.0)])
def test_the_share_that_is_decoded_and_the_first_bias_of_rates_are_the_recipes(toy, recipe, share):
    scvi.settings.seed = 0
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6, recipe=recipe)
    assert model.module.decoded_share == share
    model._prepare()
    counts = toy.X.toarray()
    average = np.log(counts.sum(0) / counts.sum() * 1e4)
    decoder = model.module.parts["rna"].decoder
    bias = decoder.log_rate.bias.detach().numpy()
    if recipe == "published":
        assert np.abs(bias).max() <= 1 / np.sqrt(decoder.log_rate.in_features)  # torch's default
    else:
        np.testing.assert_allclose(bias, average, rtol=1e-5, atol=1e-5)


def test_history_is_kept_by_the_logger_of_scvi_tools_and_by_ones_own(toy_model, fit, toy, tmp_path):
    logger = toy_model.trainer.logger
    assert type(logger).__name__ == "SimpleLogger"
    for name in ("reconstruction_loss_train", "codebook_loss_train", "perplexity_train"):
        pd.testing.assert_frame_equal(toy_model.history[name], logger.history[name])
        assert toy_model.history[name].index.name == "epoch"
    fit(toy, train={"logger": CSVLogger(tmp_path)})
    logged = pd.read_csv(next(tmp_path.rglob("metrics.csv")))
    assert {"reconstruction_loss_train", "codebook_loss_train"} <= set(logged.columns)


def test_default_epochs_and_first_arguments_of_train(toy):
    MetaQModel.setup_anndata(toy)
    assert MetaQModel(toy, 6, recipe="published")._prepare().n_epochs(512) == 300
    prepared = MetaQModel(toy, 6)._prepare()
    epochs = [prepared.n_epochs(batch_size) for batch_size in (256, 32, 8, 1)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == 100
    assert epochs[-1] >= 1
    for cls in (MetaQModel, SCPoli, COEM):
        found, expected = (
            list(inspect.signature(c.train).parameters)[:4] for c in (cls, scvi.model.SCVI)
        )
        assert found[:4] == expected[:4]


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize(("modality", "likelihood"), [("adt", "nb"), ("atac", "poisson")])
def test_other_modalities(fit, paired, modality, likelihood, recipe):
    model = fit(paired[modality].copy(), setup={"modality": modality}, recipe=recipe)
    assert model.module.parts[modality].decoder.likelihood == likelihood
    assert names(model).nunique() == 6
    assert model.get_metacells().uns["metaq"]["modality"] == modality
    assert np.isfinite(list(model.get_quantization_report().values())).all()


def test_the_encoder_reads_at_most_so_many_features(fit, paired):
    cells = paired["atac"].copy()
    model = fit(cells, setup={"modality": "atac"}, n_top_features=30)
    chosen = model.module.parts["atac"].feature_scaling.features.numpy()
    n_cells = np.asarray((cells.X > 0).sum(0)).ravel()
    assert len(chosen) == 30
    assert n_cells[chosen].min() >= np.delete(n_cells, chosen).max()
    assert model.get_metacells().n_vars == 80


@pytest.mark.parametrize(
    ("n_cells", "n_features", "n_metacells"), [(60, 50, 5), (60, 50, 59), (10, 5, 3), (3, 4, 2)]
)
def test_tiny_data(fit, toy, n_cells, n_features, n_metacells):
    X = toy.X[:n_cells, :n_features].toarray() + np.eye(n_cells, n_features)
    X[:, 0] += 1
    model = fit(anndata.AnnData(sparse.csr_matrix(X)), n_metacells)
    assert names(model).nunique() == n_metacells
    assert np.isfinite(model.get_latent_representation()).all()


def test_duplicate_cells_go_together_and_too_few_distinct_ones_are_told(fit, toy):
    twice = anndata.concat([toy[:40], toy[:40]], keys=["a", "b"], index_unique="-")
    found = names(fit(twice))
    assert found.nunique() == 6
    np.testing.assert_array_equal(found[:40], found[40:])
    few = toy[np.arange(60) % 12].copy()
    few.obs_names_make_unique()
    with pytest.warns(UserWarning, match="20 metacells, 8 have none.*fewer distinct cells"):
        model = fit(few, 20)
    assert model.get_metacells().n_obs == 12


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
