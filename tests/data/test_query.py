import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq.data._query import aligned_adata, aligned_mudata


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_columns_are_put_where_they_belong(toy, form):
    names = pd.Index(["none", *toy.var_names[[5, 3, 9]], "gone"])
    cells = toy.copy()
    cells.X = form(toy.X.toarray())
    own, missing = aligned_adata(cells, names, layer=None)
    assert list(own.var_names) == list(names)
    assert list(missing) == ["none", "gone"]
    expected = np.zeros((150, 5))
    expected[:, 1:4] = toy.X.toarray()[:, [5, 3, 9]]
    np.testing.assert_array_equal(own.X.toarray(), expected)
    pd.testing.assert_frame_equal(own.obs, toy.obs)


def test_counts_are_shared_where_nothing_is_to_be_done(toy):
    own, missing = aligned_adata(toy, toy.var_names, layer=None)
    assert np.shares_memory(own.X.data, toy.X.data)
    assert not len(missing)
    own.obs["more"] = 1
    assert "more" not in toy.obs


def test_features_that_are_not_to_be_read(toy):
    own, missing = aligned_adata(toy, toy.var_names, layer=None, lacking=toy.var_names[:2])
    assert list(missing) == list(toy.var_names[:2])
    assert own.X[:, :2].nnz == 0
    assert (own.X[:, 2:] != toy.X[:, 2:]).nnz == 0


def test_names_that_occur_twice_are_refused(toy):
    cells = toy[:, [0, 0, 1]].copy()
    with pytest.raises(ValueError, match=r"unique feature names.*query\.var_names_make_unique"):
        aligned_adata(cells, toy.var_names, layer=None)


def test_cells_on_disk(toy, tmp_path):
    import anndata

    toy.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    own, _ = aligned_adata(backed, toy.var_names[::-1], layer=None)
    assert (toy.X[:, ::-1] != own.X).nnz == 0


def test_a_modality_that_is_missing_has_no_cells(paired):
    query = MuData({"rna": paired["rna"].copy()})
    query.obs["batch"] = "z"
    names = {kind: paired[kind].var_names for kind in ("rna", "adt")}
    own, missing = aligned_mudata(query, names, layers={"rna": None, "adt": None})
    assert own["adt"].shape == (0, 8)
    assert list(own.obs_names) == list(query.obs_names)
    assert (own.obs["batch"] == "z").all()
    assert {name: len(absent) for name, absent in missing.items()} == {"rna": 0, "adt": 0}


def test_no_anndata():
    with pytest.raises(TypeError, match="Expected query to be an AnnData, found list"):
        aligned_adata([], pd.Index(["a"]), layer=None)


def test_an_empty_object(toy):
    own, missing = aligned_adata(AnnData(np.zeros((3, 0))), toy.var_names, layer=None)
    assert own.shape == (3, 60)
    assert len(missing) == 60
