import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scvi.model import SCVI
from scvi.train import SaveCheckpoint

from scmetaq import MetaQModel


def load(folder, adata):
    return MetaQModel.load(folder, adata, accelerator="cpu")


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


def test_all_comes_back_bit_identical(saved, assignments, again, model):
    loaded = load(saved, again())
    pd.testing.assert_frame_equal(loaded.get_assignments(), assignments, check_exact=True)
    latents = loaded.get_latent_representation()
    np.testing.assert_array_equal(latents, model.get_latent_representation())
    pd.testing.assert_frame_equal(loaded.get_codebook(), model.get_codebook(), check_exact=True)
    assert loaded.get_quantization_report() == model.get_quantization_report()
    assert abs(loaded.get_metacells().X - model.get_metacells().X).max() == 0
    for name in ("reconstruction_loss_train", "perplexity_train"):
        pd.testing.assert_frame_equal(loaded.history[name], model.history[name])
    assert repr(loaded) == repr(model)


def test_without_data_it_waits_for_some(saved, assignments, again, model):
    loaded = load(saved, False)
    with pytest.raises((ValueError, RuntimeError), match="(?i)adata"):
        loaded.get_assignments()
    with pytest.raises(ValueError, match="loaded without cells"):
        loaded.train()
    pd.testing.assert_frame_equal(loaded.get_codebook(), model.get_codebook())
    pd.testing.assert_frame_equal(loaded.get_assignments(again()), assignments)
    pd.testing.assert_frame_equal(loaded.get_assignments(), assignments)


def test_fewer_cells_or_features_in_another_order_may_come_later(saved, assignments, again, blood):
    found = load(saved, again(index=slice(5))).get_assignments()
    pd.testing.assert_series_equal(found["metacell"], assignments["metacell"][:5])
    turned = blood[:, ::-1].copy()
    names = list(turned.var_names)
    loaded = load(saved, turned)
    pd.testing.assert_frame_equal(loaded.get_assignments(), assignments, check_exact=True)
    assert list(turned.var_names) == names


def test_training_goes_on_after_loading(saved, train, again):
    loaded = load(saved, again())
    before = loaded.get_quantization_report()["reconstruction_loss"]
    train(loaded)
    assert loaded.get_quantization_report()["reconstruction_loss"] < before
    assert loaded.get_assignments()["metacell"].nunique() == 10
    assert not loaded.module.codebook.codes.requires_grad  # codes move by refinement only


def test_data_may_come_along(fit, toy, tmp_path):
    model = fit(toy)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = MetaQModel.load(tmp_path / "model", accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_assignments(), model.get_assignments())


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_all_choices_come_back(fit, toy, tmp_path, recipe):
    options = {
        "recipe": recipe,
        "n_latent": 7,
        "n_top_features": 20,
        "likelihood": "poisson",
        "distance": "euclidean",
        "codebook_init": "random",
        "evenness": 0.1,
    }
    toy.layers["raw"] = toy.X.copy()
    model = fit(toy, setup={"layer": "raw", "labels_key": "state"}, **options)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model", toy.copy())
    told = loaded.get_metacells().uns["metaq"]
    assert {name: told["settings"][name] for name in options} == options
    assert told["layer"] == "raw"
    pd.testing.assert_frame_equal(loaded.get_assignments(), model.get_assignments())
    part = model.module.parts["rna"]
    assert part.decoder.log_dispersion is None
    n_components = part.linear_path.profile.axes.shape[1] if part.linear_path else 0
    assert model.get_latent_representation().shape[1] == 7 + n_components


def test_new_data_that_are_not_counts_of_its_features_are_refused(saved, again):
    cells = again()
    cells.X = cells.X * 0.5
    with pytest.raises(ValueError, match="non-integer"):
        load(saved, cells)
    with pytest.raises(ValueError, match="(?s)500.*499"):
        load(saved, again(index=(slice(None), slice(499))))


def test_nothing_is_overwritten_unasked_and_a_folder_needs_a_model(saved, model, tmp_path, again):
    with pytest.raises(ValueError, match="already exists"):
        model.save(saved)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="saved model in .*no model.pt there"):
            load(folder, again())


def test_a_broken_file_is_refused(saved, tmp_path, again):
    whole, start = (saved / "model.pt").read_bytes(), (saved / "model.pt").stat().st_size // 4
    damaged = whole[:start] + bytes(3_000) + whole[start + 3_000 :]
    for content, message in (
        (b"", "model.pt"),
        (whole[: 2 * start], "model.pt"),
        (damaged, r"model\.pt cannot be read: .* damaged"),
    ):
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(tmp_path, again())
    whole = torch.load(saved / "model.pt", weights_only=True)
    state = {k: v for k, v in whole["model_state_dict"].items() if "encoder" not in k}
    for content in ({"a": 1}, whole | {"model_state_dict": state}):
        torch.save(content, tmp_path / "model.pt")
        for cells in (again(), False):
            with pytest.raises(ValueError, match=rf"{tmp_path.name}.* cannot be read"):
                MetaQModel.load(tmp_path, cells, trust=True)


def test_a_model_of_another_class(saved, toy, again, tmp_path):
    SCVI.setup_anndata(toy)
    SCVI(toy, n_hidden=4, n_latent=2).save(tmp_path / "scvi")
    for options in ({}, {"trust": True}):
        with pytest.raises(ValueError, match="MetaQModel in .*scvi, found .* different class"):
            MetaQModel.load(tmp_path / "scvi", again(), **options)
    with pytest.raises(ValueError, match="different class"):
        SCVI.load(saved, again())


@pytest.mark.slow
def test_a_fresh_process_gives_the_same(saved, assignments, again, tmp_path):
    again().write_h5ad(tmp_path / "cells.h5ad")
    code = (
        "import sys, anndata\n"
        "from scmetaq import MetaQModel\n"
        "adata = anndata.read_h5ad(sys.argv[2])\n"
        "model = MetaQModel.load(sys.argv[1], adata, accelerator='cpu')\n"
        "model.get_assignments().to_pickle(sys.argv[3])\n"
    )
    paths = [str(saved), str(tmp_path / "cells.h5ad"), str(tmp_path / "found.pkl")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True)
    found = pd.read_pickle(paths[2])
    pd.testing.assert_frame_equal(found, assignments, check_exact=True)


@pytest.fixture
def checkpointed(fit, toy, tmp_path):
    """Train with a checkpoint at the epoch that the monitored value likes best."""

    def run(**kwargs):
        options = {"monitor": "reconstruction_loss_validation", **kwargs}
        keep = SaveCheckpoint(dirpath=str(tmp_path / "kept"), **options)
        train = {"enable_checkpointing": True, "train_size": 0.8, "callbacks": [keep]}
        model = fit(toy, 30, 6, train={**train, "check_val_every_n_epoch": 1})
        return model, keep.best_model_path

    return run


@pytest.mark.parametrize("mode", ["min", "max"])
def test_checkpoints_are_written_and_loaded_and_training_goes_on(checkpointed, toy, mode):
    model, path = checkpointed(mode=mode)
    assert model.get_assignments()["metacell"].nunique() == 30
    assert len(load(path, toy.copy()).get_assignments()) == 150


@pytest.mark.parametrize("mode", ["min", "max"])
def test_every_metacell_of_the_best_epoch_has_cells(checkpointed, mode):
    """With ``mode="max"`` the best epoch is the first one, before there are codes."""
    model, _ = checkpointed(mode=mode, load_best_on_end=True)
    assert model.module.codebook.fitted
    assert model.get_assignments()["metacell"].nunique() == 30


def test_cells_that_were_changed_since_are_refused(fit, toy):
    model = fit(toy)
    kept = toy.X
    toy.X = np.log1p(kept)
    with pytest.raises(ValueError, match=r"raw counts.*adata\.X, as.*normalised, since.*layer"):
        model.get_metacells()
    toy.X = kept
    toy._inplace_subset_var(np.arange(toy.n_vars) > 2)
    with pytest.raises(ValueError, match="the 60 features that adata had when it was set up"):
        model.get_assignments()
