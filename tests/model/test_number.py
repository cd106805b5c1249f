"""How many metacells there are."""

import numpy as np
import pytest

import scmetaq


@pytest.fixture
def adata(blood):
    adata = blood.copy()
    scmetaq.MetaQModel.setup_anndata(adata)
    return adata


def test_a_mean_size_in_cells_or_counts_gives_the_number(adata):
    total = adata.X.sum()
    assert scmetaq.MetaQModel(adata, cells_per_metacell=40).n_metacells == 10
    assert scmetaq.MetaQModel(adata, counts_per_metacell=total / 16).n_metacells == 16
    assert scmetaq.MetaQModel(adata, n_metacells=7).n_metacells == 7


def test_a_loaded_model_has_the_number_of_the_saved_one(adata, tmp_path):
    model = scmetaq.MetaQModel(adata, cells_per_metacell=40)
    model.train(accelerator="cpu", enable_progress_bar=False)
    model.save(tmp_path / "model")
    few = adata[:100].copy()
    loaded = scmetaq.MetaQModel.load(tmp_path / "model", few)
    assert loaded.n_metacells == 10
    assert loaded.get_assignments().index.equals(few.obs_names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "n_metacells is missing"),
        ({"n_metacells": 5, "cells_per_metacell": 50}, "one of n_metacells, cells_per_metacell"),
        ({"cells_per_metacell": 1000}, "between 2 and 399 metacells, found 1000"),
        ({"counts_per_metacell": 1}, "counts_per_metacell to give between 2"),
        ({"cells_per_metacell": -1}, "a number above zero, found -1"),
        ({"cells_per_metacell": np.nan}, "a number above zero, found nan"),
        ({"counts_per_metacell": True}, "a number above zero, found True"),
    ],
)
def test_other_sizes_are_refused(adata, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        scmetaq.MetaQModel(adata, **arguments)
