from importlib.resources import files

import numpy as np
from scipy import sparse

import scmetaq


def test_raw_counts_with_cell_types():
    adata = scmetaq.data.demo()
    assert sparse.issparse(adata.X)
    assert adata.X.format == "csr"
    assert (adata.X.data % 1 == 0).all()
    assert (adata.X.data >= 0).all()
    assert (adata.X.sum(1) > 0).all()
    assert (np.asarray(adata.X.sum(0)) > 0).all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert adata.obs["cell_type"].nunique() > 5
    assert not adata.obs["cell_type"].isna().any()


def test_labels_match_the_counts():
    adata = scmetaq.data.demo()
    of_b_cells = (adata.obs["cell_type"] == "B").to_numpy()
    marker = adata[:, "CD79A"].X.toarray().ravel()
    assert marker[of_b_cells].mean() > 5 * marker[~of_b_cells].mean()


def test_each_call_gives_cells_of_ones_own():
    first = scmetaq.data.demo()
    first.X.data[:] = 0
    assert scmetaq.data.demo().X.sum() > 0


def test_source_and_licence_come_along():
    told = (files("scmetaq.data") / "demo" / "LICENSE.md").read_text()
    assert "10x Genomics" in told
    assert "CC BY 4.0" in told
