"""Saved models execute nothing, notice damage, and are there as a whole or not at all."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import torch
from scvi.model.base import BaseModelClass

from scmetaq import COEM, MetaQModel, SCPoli
from scmetaq._errors import InputValueError
from scmetaq.model import _saving


@pytest.fixture
def folder(toy_model, tmp_path):
    toy_model.save(tmp_path / "model")
    return tmp_path / "model"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("form", ["archive", "old archive", "pickle", "sealed"])
def test_code_in_a_file_is_not_executed(folder, toy, tmp_path, run, form):
    file, touched = folder / "model.pt", tmp_path / "touched"
    content = torch.load(file, weights_only=True)
    content["attr_dict"]["run_id_"] = Payload(touched)
    if form == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        with file.open("wb") as opened:
            torch.save(content, opened, _use_new_zipfile_serialization=form != "old archive")
    if form == "sealed":
        with ZipFile(file, "a") as archive:
            archive.writestr(_saving._CHECKSUM, _saving._checksum(archive))
    toy.write_h5ad(tmp_path / "toy.h5ad")
    words = "weights_only" if form == "sealed" else "could run code .* Pass trust=True to load"
    for read in (
        lambda: MetaQModel.load(folder),
        lambda: MetaQModel.load(folder, toy),
        lambda: MetaQModel.load_query_data(toy, folder),
        lambda: MetaQModel.prepare_query_anndata(toy, folder),
        lambda: MetaQModel.load_registry(folder),
        lambda: MetaQModel.view_setup_args(folder),
    ):
        with pytest.raises(ValueError, match=words if form != "sealed" else "model.pt cannot be"):
            read()
    words = ("map", tmp_path / "toy.h5ad", "--model", folder, "--out", tmp_path / "out")
    outcome = run(*words)
    assert outcome.refuses("model.pt", "" if form == "sealed" else "Pass --trust if you"), outcome
    assert not touched.exists()
    if form != "sealed":  # the payload does work
        run(*words, "--trust")
        assert touched.exists()


def test_a_model_that_an_earlier_version_pickled_is_read_if_it_is_trusted(
    toy_model, toy, tmp_path, run
):
    BaseModelClass.save(toy_model, tmp_path / "old", save_anndata=True)
    with pytest.raises(ValueError, match="an earlier version of scmetaq .* trust=True"):
        MetaQModel.load(tmp_path / "old", toy.copy())
    for cells in (toy, None):
        found = MetaQModel.load(tmp_path / "old", cells, accelerator="cpu", trust=True)
        pd.testing.assert_frame_equal(found.get_assignments(), toy_model.get_assignments())
    words = (tmp_path / "old" / "adata.h5ad", "--model", tmp_path / "old", "--accelerator", "cpu")
    assert run("map", *words, "--out", tmp_path / "out").refuses("Pass --trust")
    assert run("map", *words, "--out", tmp_path / "out", "--trust").status == 0


@pytest.mark.parametrize("cls", [MetaQModel, SCPoli, COEM])
def test_files_hold_only_tensors_and_plain_values(cls, fit_as, toy, toy_mdata, tmp_path):
    toy.obs["when"] = pd.cut(np.arange(150) % 7, 2)
    options = {"n_latent": 4} if cls is not MetaQModel else {"n_metacells": 6}
    setup = {} if cls is COEM else {"batch_key": "when", "labels_key": ["state"]}
    model = fit_as(cls, toy_mdata if cls is COEM else toy, setup=setup, **options)
    model.save(tmp_path / "model")
    content = torch.load(tmp_path / "model" / "model.pt", weights_only=True)
    assert set(content) == {"model_state_dict", "var_names", "attr_dict"}
    found = cls.load_registry(tmp_path / "model")
    assert found["setup_args"] == model.registry["setup_args"]
    loaded = cls.load(tmp_path / "model", model.adata.copy(), accelerator="cpu")
    for before, after in zip(model._conditions, loaded._conditions, strict=True):
        assert before == after
    for name, state in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], state), name
    latents = loaded.get_latent_representation()
    np.testing.assert_array_equal(latents, model.get_latent_representation())


def test_every_flipped_byte_is_refused_or_changes_nothing(folder, toy_model, toy, rng):
    file = folder / "model.pt"
    whole, n_refused = file.read_bytes(), 0
    expected = toy_model.module.state_dict()
    for place in rng.integers(len(whole), size=60):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = MetaQModel.load(folder, False, accelerator="cpu")
        except InputValueError:
            n_refused += 1
        else:
            state = found.module.state_dict()
            assert all(torch.equal(state[name], of) for name, of in expected.items())
    assert n_refused > 50


def test_changed_numbers_are_refused(folder):
    file = folder / "model.pt"
    with ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    largest = max((n for n in entries if "/data/" in n), key=lambda name: len(entries[name]))
    entries[largest] = bytes(len(entries[largest]))
    with ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="model.pt cannot be read: .*its checksum is another"):
        MetaQModel.load(folder, False)


def test_cells_that_are_not_those_saved_are_refused(toy_model, toy, tmp_path):
    toy_model.save(tmp_path / "model", save_anndata=True)
    MetaQModel.load(tmp_path / "model")
    toy.X = toy.X * 2
    toy.write_h5ad(tmp_path / "model" / "adata.h5ad")
    with pytest.raises(ValueError, match="adata.h5ad is not as it was saved .* Pass the cells"):
        MetaQModel.load(tmp_path / "model")
    (tmp_path / "model" / "adata.h5ad").unlink()
    with pytest.raises(ValueError, match="adata.h5ad is not as it was saved"):
        MetaQModel.load(tmp_path / "model")
    toy_model.save(tmp_path / "without")
    with pytest.warns(UserWarning, match="No cells are saved"):
        assert MetaQModel.load(tmp_path / "without").adata is None


def test_cells_that_no_file_holds_are_refused_by_name_and_the_earlier_model_stays(folder, toy):
    model, before = MetaQModel.load(folder, toy), (folder / "model.pt").read_bytes()
    toy.obs["age"] = pd.cut(np.arange(150), 3)
    with pytest.raises(ValueError, match=r"cannot be written.*/obs/age.*save without them"):
        model.save(folder, overwrite=True, save_anndata=True)
    assert os.listdir(folder) == ["model.pt"]
    assert (folder / "model.pt").read_bytes() == before
    model.save(folder, overwrite=True)


def test_a_save_that_fails_leaves_the_earlier_model_and_other_files(folder, toy_model, monkeypatch):
    (folder / "README.md").write_text("mine")
    before = (folder / "model.pt").read_bytes()

    def save(content, file):
        file.write(b"PK half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="disk full"):
        toy_model.save(folder, overwrite=True)
    assert (folder / "model.pt").read_bytes() == before
    monkeypatch.undo()
    left = folder / "partial-1-model.pt"
    left.touch()
    os.utime(left, (1, 1))
    toy_model.save(folder, overwrite=True)
    assert sorted(os.listdir(folder)) == ["README.md", "model.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("with_cells", [False, True])
def test_a_save_that_is_killed_leaves_the_earlier_model_or_the_later(
    fit, toy, tmp_path, with_cells
):
    fit(toy, 6).save(tmp_path / "earlier", save_anndata=True)
    fit(toy[:140].copy(), 5).save(tmp_path / "later", save_anndata=True)
    folders = [str(tmp_path / name) for name in ("earlier", "later", "both")]
    words = [Path(__file__).with_name("killed_saves.py"), *folders, json.dumps(with_cells)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = list(map(json.loads, done.stdout.splitlines()))
    assert len(told) > 3
    expected = [[6, 150], [5, 140]] if with_cells else [[6, 140], [5, 140]]
    for status, *found, files in told:
        assert found in expected
        assert found == expected[1] or status == -9
        assert "model.pt" in files
    assert told[-1][0] == 0
    assert expected[0] in [found for _, *found, _ in told]
