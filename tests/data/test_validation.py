import warnings

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from scmetaq.data._validation import check_anndata, check_columns, check_n_metacells


def without_counts(adata, cells):
    X = adata.X.toarray()
    X[cells] = 0
    adata.X = sparse.csr_matrix(X)


def with_values(adata, value, n=1):
    adata.X.data[:n] = value


def rename_cells(adata):
    adata.obs_names = ["twin", "twin", *adata.obs_names[2:]]


def rename_genes(adata):
    adata.var_names = ["twin", "twin", *adata.var_names[2:]]


def log_normalise(adata):
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)


def normalise(adata):
    sc.pp.normalize_total(adata, target_sum=1e6)


def no_x(adata):
    adata.layers["raw"] = adata.X
    adata.X = None


BAD_COUNTS = {
    "not whole": (
        lambda adata: with_values(adata, 1.5, 3),
        r"raw counts \(integers\) in adata.X, found 3 non-integer values of \d+ stored",
    ),
    "negative": (
        lambda adata: with_values(adata, -1, 2),
        r"integers >= 0\) in adata.X, found 2 negative values.*layer=",
    ),
    "nan": (lambda adata: with_values(adata, np.nan), "found 1 NaN or infinite values.*layer="),
    "infinite": (lambda adata: with_values(adata, np.inf), "found 1 NaN or infinite values"),
    "log1p": (log_normalise, r"look log-normalised \(log1p\).*Name the layer .*raw counts"),
    "normalised": (normalise, "look normalised or scaled.*Name the layer"),
    "a fraction": (
        lambda adata: with_values(adata, 0.5),
        r"found 1 non-integer values.*Most values are whole numbers.*with layer=\.{3}$",
    ),
    "empty cells": (
        lambda adata: without_counts(adata, [3, 8]),
        r"2 of 150 cells have no counts.*'cell3'.*Fix: .*filter_cells\(adata, min_counts=1\)",
    ),
    "barcodes": (rename_cells, r"unique barcodes.*found 1 .*'twin'.*obs_names_make_unique\(\)"),
    "genes": (rename_genes, r"unique feature names.*'twin'.*var_names_make_unique\(\)"),
    "no X": (no_x, "adata.X is empty. Name a layer with raw counts; layers there: 'raw'"),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
def test_bad_counts_are_named_with_what_to_do(toy, case):
    spoil, message = BAD_COUNTS[case]
    spoil(toy)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_anndata(toy)


@pytest.mark.parametrize("case", ["not whole", "negative", "nan", "log1p"])
@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csc_matrix, sparse.csr_array])
def test_bad_counts_are_found_in_any_form(toy, case, as_matrix):
    spoil, message = BAD_COUNTS[case]
    spoil(toy)
    toy.X = as_matrix(toy.X.toarray())
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_anndata(toy)


def test_the_layer_is_named(toy):
    toy.layers["raw"] = toy.X.copy()
    log_normalise(toy)
    check_anndata(toy, layer="raw")
    toy.layers["raw"] *= 0.3
    with pytest.raises(ValueError, match=r"adata\.layers\['raw'\].* with layer=\.\.\."):
        check_anndata(toy, layer="raw")
    with pytest.raises(ValueError, match=r"mdata\['rna'\]\.layers\['raw'\].* with rna_layer="):
        check_anndata(toy, layer="raw", where="mdata['rna']")


@pytest.mark.parametrize(
    ("index", "found"),
    [(slice(0), "0 cells x 60 features"), ((slice(None), slice(0)), "150 cells x 0")],
)
def test_an_empty_matrix(toy, index, found):
    with pytest.raises(ValueError, match=f"The data are empty: {found}"):
        check_anndata(toy[index].copy())


def test_an_unknown_layer_is_told_those_there_are(toy):
    with pytest.raises(KeyError, match="No layer 'counts' in adata.layers. Layers there: none"):
        check_anndata(toy, layer="counts")
    toy.layers["raw"], toy.layers["spliced"] = toy.X, toy.X
    with pytest.raises(KeyError, match="Layers there: 'raw', 'spliced'"):
        check_anndata(toy, layer="counts")


def test_something_else_than_anndata(toy):
    with pytest.raises(TypeError, match="Expected an AnnData, found str.*anndata.read_h5ad"):
        check_anndata("cells.h5ad")
    with pytest.raises(TypeError, match="Expected an AnnData, found MuData"):
        check_anndata(mudata.MuData({"rna": toy}))


def test_features_without_counts_are_only_warned_about(toy):
    X = toy.X.toarray()
    X[:, [5, 9]] = 0
    toy.X = sparse.csr_matrix(X)
    with pytest.warns(UserWarning, match=r"2 of 60 features have no counts.*filter_genes"):
        check_anndata(toy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_anndata(toy, is_query=True)


@pytest.mark.parametrize(
    "as_matrix",
    [
        lambda X: X,
        sparse.csc_matrix,
        sparse.csr_array,
        lambda X: X.toarray(),
        lambda X: X.astype(np.int64),
        lambda X: X.toarray().astype(np.uint8),
        lambda X: X.astype(np.float64),
    ],
    ids=["csr", "csc", "csr_array", "dense", "int64", "uint8", "float64"],
)
def test_counts_in_any_form_are_welcome(toy, as_matrix):
    toy.X = as_matrix(toy.X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_anndata(toy)


def test_counts_on_disk_are_welcome(toy, tmp_path):
    toy.write_h5ad(tmp_path / "cells.h5ad")
    check_anndata(anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r"))


def test_blocks_count_what_is_wrong_everywhere(toy, monkeypatch):
    monkeypatch.setattr("scmetaq.data._validation._BLOCK", 7)
    toy.X.data[[0, 500, -1]] = -2
    with pytest.raises(ValueError, match=f"found 3 negative values of {toy.X.nnz} stored"):
        check_anndata(toy)


def test_columns_that_are_there_pass(toy):
    check_columns(toy, ["state", None, "depth"])
    toy.obs.loc[toy.obs_names[:100], "state"] = np.nan
    check_columns(toy, ["state"])


def test_an_unknown_column_is_told_those_there_are(toy):
    with pytest.raises(KeyError, match="No column 'cell_type' in adata.obs.*'state', 'depth'"):
        check_columns(toy, ["state", "cell_type"])


def test_a_column_without_values(toy):
    toy.obs["cell_type"] = pd.Categorical([None] * 150, categories=["B"])
    with pytest.raises(ValueError, match=r"All values of adata.obs\['cell_type'\] are missing"):
        check_columns(toy, ["cell_type"])


@pytest.mark.parametrize("n", [2, 99, np.int64(10)])
def test_numbers_of_metacells_between_two_and_the_cells(n):
    check_n_metacells(n, 100)


@pytest.mark.parametrize("n", [1, 0, -5, 100, 1000])
def test_too_few_or_too_many_metacells(n):
    with pytest.raises(ValueError, match=rf"between 2 and 99 .*100 cells\), found {n}\..*cells=2"):
        check_n_metacells(n, 100)


@pytest.mark.parametrize("n", [10.0, "10", True, None])
def test_numbers_of_metacells_are_whole(n):
    with pytest.raises(TypeError, match="Expected n_metacells to be an int"):
        check_n_metacells(n, 100)


def test_text_that_may_be_missing_is_there(toy):
    """In pandas' nullable text a comparison with nothing is neither true nor false."""
    toy.obs["batch"] = pd.array(["x", "y", "z"] * 50, dtype="string")
    check_columns(toy, ["batch"])
    toy.obs["batch"] = pd.array([pd.NA] * 150, dtype="string")
    with pytest.raises(ValueError, match="All values"):
        check_columns(toy, ["batch"])
