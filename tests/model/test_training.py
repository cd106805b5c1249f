"""Training: what is held out, checked, logged and repeated."""

import inspect
import subprocess
import sys

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
from scmetaq.module import MetaQModule


def names(model):
    return model.get_assignments()["metacell"]


def broken(graph, inputs):
    """A compiler that cannot."""
    raise RuntimeError("no compiler here")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", broken])
def test_compiling_changes_nothing_and_falls_back(fit, toy, toy_model, backend):
    options = {"compile": True, "compile_kwargs": {"backend": backend}}
    found = fit(toy, train={"plan_kwargs": options})
    pd.testing.assert_frame_equal(found.get_assignments(), toy_model.get_assignments())


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
        ({"max_epochs": 10**19}, ValueError, "max_epochs to be at most 1,000,000, found 10,000,0"),
        ({"batch_size": 10**19}, ValueError, "batch_size to be at most"),
        ({"precision": "16-true"}, ValueError, "weights in 32 bits, .*'16-true'. .*'bf16-mixed'"),
        ({"precision": "bf16-true"}, ValueError, "weights in 32 bits, .*found 'bf16-true'"),
        ({"precision": 64}, ValueError, "weights in 32 bits, .*found 64"),
        ({"plan_kwargs": {"lr": 1e9}}, ValueError, "lr of plan_kwargs between 0 and 1, found 1000"),
        ({"plan_kwargs": {"lr": np.nan}}, ValueError, "lr of plan_kwargs between 0 and 1, found n"),
        ({"plan_kwargs": {"lr": "1"}}, ValueError, "lr of plan_kwargs between 0 and 1, found '1'"),
        ({"plan_kwargs": {"odd": 1}}, TypeError, "arguments of scmetaq.train.MetaQ.*, found 'odd'"),
        ({"max_epoch": 3}, TypeError, "arguments of train or of its Trainer, found 'max_epoch'"),
        ({"devices": 0}, ValueError, "a device of this machine, found accelerator='cpu' and 0"),
        ({"devices": 2}, ValueError, "a strategy .* for 2 devices, found none. Pass strategy="),
        ({"devices": "2", "strategy": "auto"}, ValueError, "a strategy .* for 2 devices, found"),
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
    options = {"early_stopping_patience": 1, "early_stopping_min_delta": 1e9}
    model = fit(toy, n_metacells, 30, train={"early_stopping": True, **options})
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


def test_a_training_that_diverges_is_refused(toy, train, monkeypatch):
    loss = MetaQModule.loss

    def diverging(*args, **kwargs):
        found = loss(*args, **kwargs)
        found.loss = found.loss * torch.inf
        return found

    monkeypatch.setattr(MetaQModule, "loss", diverging)
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6)
    with pytest.raises(ValueError, match="diverged.* Lower the learning rate"):
        train(model)
    assert not model.is_trained


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
    epochs = [prepared.n_epochs(batch_size) for batch_size in (256, 64, 32, 8, 1)]
    assert epochs == [24, 8, 5, 4, 4]
    each = [prepared.n_steps_each(batch_size) for batch_size in (64, 32, 8, 1)]
    assert each == [None, None, 6, 6]
    for cls in (MetaQModel, SCPoli, COEM):
        found, expected = (inspect.signature(c.train).parameters for c in (cls, scvi.model.SCVI))
        assert list(found)[:4] == list(expected)[:4]


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


IN_TWO_PROCESSES = """
import sys, pathlib, numpy, scvi, scmetaq

def main(model, recipe, folder):
    scvi.settings.seed = 0
    adata = scmetaq.data.demo()[::4].copy()
    adata.obs["batch"] = numpy.where(numpy.arange(adata.n_obs) % 2, "a", "b")
    cls = getattr(scmetaq, model)
    options = {"recipe": recipe} if recipe else {}
    cls.setup_anndata(adata, batch_key="batch")
    model = cls(adata, *([10] if options else []), **options)
    model.train(3, "cpu", 2, strategy="ddp_find_unused_parameters_true", enable_progress_bar=False)
    state = {name: value.numpy() for name, value in model.module.state_dict().items()}
    path = pathlib.Path(folder) / f"{model.trainer.global_rank}.npz"
    numpy.savez(path, latent=model.get_latent_representation(), **state)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "recipe"), [("MetaQModel", "default"), ("MetaQModel", "published"), ("SCPoli", "")]
)
def test_two_processes_train_one_model(model, recipe, tmp_path):
    """Codes, their usage and the statistics of layers are the same in both."""
    script = tmp_path / "script.py"
    script.write_text(IN_TWO_PROCESSES)
    command = [sys.executable, script, model, recipe, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_batch_normalisation_refuses_batches_of_one_cell_before_any_work(toy):
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6, recipe="published")
    with pytest.raises(ValueError, match="batch_size to be at least 2, found 1") as error:
        model.train(batch_size=1)
    assert error.value.argument == "batch_size"
    assert not model.is_trained


@pytest.mark.parametrize("spoil", [0.5, -1.0, np.nan])
def test_one_cell_that_was_changed_since_set_up_is_noticed(train, toy, spoil):
    MetaQModel.setup_anndata(toy)
    model = MetaQModel(toy, 6)
    toy.X = sparse.csr_matrix(toy.X)
    before = toy.X.data[toy.X.indptr[77]]
    toy.X.data[toy.X.indptr[77]] = spoil
    with pytest.raises(ValueError, match=r"raw counts .* in adata.X, as when it was set up"):
        train(model, 2)
    toy.X.data[toy.X.indptr[77]] = before
    train(model, 2)
    toy.X.data[toy.X.indptr[77]] = spoil
    with pytest.raises(ValueError, match=r"raw counts .* in adata.X, as when it was set up"):
        model.get_metacells()
