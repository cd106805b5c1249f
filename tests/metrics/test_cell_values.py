import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq._errors import check_layer, layers_of
from scmetaq.metrics._groups import cell_values, check_rep, find_column, reps_of


def test_series_hold_each_cell_once_and_others_are_ignored(adata):
    names = adata.obs["metacell"].astype(str)
    more = pd.concat([names, pd.Series({"stranger": "mc00"})])
    assert len(cell_values(adata, more, what="assignment")) == adata.n_obs
    with pytest.raises(ValueError, match="found 3 barcodes missing, e.g. 'cell0'"):
        cell_values(adata, names.iloc[3:], what="assignment")
    with pytest.raises(ValueError, match="unique barcodes .* e.g. 'cell0'"):
        cell_values(adata, pd.concat([names] * 2), what="assignment")


def test_unknown_columns_frames_and_wrong_lengths_are_refused(adata):
    for values, error, match in (
        ("mc", KeyError, r"no 'mc'.*\['cell_type', 'metacell'\]"),
        (adata.obs, TypeError, r"frame\['metacell'\]"),
        (np.zeros(119), ValueError, r"shape \(120,\).*found shape \(119,\)"),
    ):
        with pytest.raises(error, match=match):
            cell_values(adata, values, what="assignment")


def test_columns_of_modalities_are_those_of_all_cells(adata):
    mdata = MuData({"rna": adata, "adt": adata[30:].copy()})
    mdata["adt"].obs["clone"] = [1] * 45 + [2] * 45
    found = cell_values(mdata, "adt:clone", what="labels")
    assert found.index.equals(mdata.obs_names)
    np.testing.assert_array_equal(found, [np.nan] * 30 + [1] * 45 + [2] * 45)
    mdata.obs["own"], mdata.obs["adt:clone"] = 0, 0
    assert find_column(mdata, "adt:clone", what="labels") == (mdata["adt"], "clone")
    assert find_column(mdata, "own", what="labels") == (mdata, "own")
    with pytest.raises(KeyError, match=r"no 'adt:kind'.*'adt:clone'.*'own', 'rna:cell_type'"):
        find_column(mdata, "adt:kind", what="labels")


def test_lists_keep_what_is_missing(adata):
    values = ["a", np.nan] * 60
    assert cell_values(adata, values, what="labels").isna().tolist() == [False, True] * 60
    assert cell_values(adata, [1, 2] * 60, what="labels").dtype == int


def test_layers_and_embeddings_that_are_not_there_are_refused(adata):
    adata.layers["raw"], adata.obsm["X_any"] = adata.X, np.zeros((120, 2))
    assert layers_of(adata) == ["raw"]
    for cells in (adata, {"rna": adata}):
        for layer, use_rep in ((None, None), ("raw", "X_any"), (None, "pca")):
            check_layer(cells, layer)
            check_rep(cells, use_rep)
    assert reps_of(adata) == ["pca", "X_any"]
    of_one, of_parts = adata, {"rna": adata}
    of_part = r"a layer of a modality, .*. There are: \{'rna': \['raw'\]\}"
    for check, cells, name, match in (
        (check_layer, of_one, "counts", r"a layer, found no 'counts'. There are: \['raw'\]"),
        (check_layer, of_parts, "counts", of_part),
        (check_rep, of_one, "X_umap", r"found no 'X_umap'. There are: \['pca', 'X_any'\]"),
        (check_rep, of_parts, "X_umap", r"of a modality, .*'X_umap'. There are: \{'rna'"),
    ):
        with pytest.raises(KeyError, match=match):
            check(cells, name)
