"""Registrations keep no cells in memory, and are there as long as the cells are."""

import copy
import gc
import pickle
import weakref

import pandas as pd
import pytest
from anndata import AnnData

from scmetaq import COEM, MetaQModel, SCPoli

STORES = [MetaQModel._setup_adata_manager_store, MetaQModel._per_instance_manager_store]


def is_alive(references):
    gc.collect()
    return [reference() is not None for reference in references]


def test_models_and_cells_are_freed_when_the_user_drops_them(fit, toy):
    references = []
    for _ in range(3):
        cells, new = toy.copy(), toy[::2].copy()
        model = fit(cells, max_epochs=1)
        model.get_metacells(new)
        model.get_assignments(new[:, ::-1].copy())
        references += map(weakref.ref, (cells, new, model))
        keys = cells.uns["_scvi_uuid"], new.uns["_scvi_uuid"]
        assert keys[0] in STORES[0]
        assert set(STORES[1][model.id]) == set(keys)  # and not those put in order for a call
        number = model.id
    del cells, new, model
    assert is_alive(references) == [False] * 9
    assert keys[0] not in STORES[0]
    assert not STORES[1][number]


@pytest.mark.parametrize("cls", [SCPoli, COEM])
def test_other_models_free_their_cells_too(cls, fit_as, toy, toy_mdata):
    cells = toy if cls is SCPoli else toy_mdata
    setup = {"batch_key": None} if cls is SCPoli else {"modalities": None}
    cells = cells.copy()
    model = fit_as(cls, cells, max_epochs=1, setup=setup)
    new = cells.copy()
    model.get_latent_representation(new)
    references = [weakref.ref(of) for of in (cells, new, model)]
    del cells, new, model
    assert is_alive(references) == [False] * 3


def test_cells_of_a_model_live_with_it_and_a_second_look_at_new_cells_reads_them_once(
    fit, toy, monkeypatch
):
    model = fit(toy.copy(), max_epochs=1)
    new, n_checked = toy[:50].copy(), []
    check = "scmetaq.model._base.check_cells"
    monkeypatch.setattr(check, lambda *args, **kwargs: n_checked.append(1))
    for _ in range(3):
        model.get_assignments(new)
    gc.collect()
    assert len(n_checked) == 1
    assert len(model.get_assignments()) == 150
    loader = model._make_data_loader(model._validate_anndata(new))
    del new  # which nobody else has
    gc.collect()
    assert len(next(iter(loader))["X"]) == 50


def test_a_registration_outlives_models_and_the_originals_of_copies(fit, toy):
    original = toy.copy()
    MetaQModel.setup_anndata(original)
    same_key = original.copy()
    MetaQModel.setup_anndata(same_key)
    assert same_key.uns["_scvi_uuid"] == original.uns["_scvi_uuid"]
    del original
    gc.collect()
    model = MetaQModel(same_key, 6)
    del model
    gc.collect()
    assert isinstance(MetaQModel(same_key, 5).adata, AnnData)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_models_have_cells_of_their_own(fit, toy, again):
    model = fit(toy.copy(), max_epochs=1)
    expected = model.get_assignments()
    copied = again(model)
    del model
    gc.collect()
    assert copied.adata_manager.adata is copied.adata
    pd.testing.assert_frame_equal(copied.get_assignments(), expected)
