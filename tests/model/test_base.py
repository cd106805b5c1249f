"""Counts are read the same in whatever form and place they are."""

import anndata
import numpy as np
import pandas as pd
from scipy import sparse


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


def test_unsorted_counts_stay_as_they_are_and_pieces_add_up(fit, toy, toy_model):
    X = toy.X
    for row in range(150):
        part = slice(X.indptr[row], X.indptr[row + 1])
        X.indices[part], X.data[part] = X.indices[part][::-1].copy(), X.data[part][::-1].copy()
    toy.X = sparse.csr_matrix((X.data, X.indices, X.indptr), shape=X.shape)
    kept = toy.X.indices.copy()
    found = fit(toy).get_assignments()
    np.testing.assert_array_equal(toy.X.indices, kept)
    pd.testing.assert_series_equal(found["metacell"], toy_model.get_assignments()["metacell"])
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
