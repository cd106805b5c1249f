"""Assignments, columns and matrices of cells, and what holds of every metric that reads one."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq._errors import check_layer, layers_of
from scmetaq.metrics import compactness, inv, separation, size_summary
from scmetaq.metrics._groups import (
    as_matrix,
    cell_values,
    check_categories,
    check_rep,
    check_same_order,
    find_column,
    group_cells,
    group_labels,
    grouped_rows,
    reps_of,
    unit_rows,
)

WITHOUT = [3, 5, -1, 3]


@pytest.mark.parametrize(
    "values",
    [
        WITHOUT,
        *(make(WITHOUT) for make in (np.array, pd.Series, pd.Categorical)),
        np.array([3.0, 5.0, np.nan, 3.0]),
        pd.Series([3, 5, None, 3], dtype="Int64"),
    ],
)
def test_outliers_are_left_out_and_numbers_stay_whole(values):
    groups = group_cells(values)
    assert groups.codes.tolist() == [0, 1, -1, 0]
    assert groups.names.astype(str).tolist() == ["3", "5"]
    assert groups.sizes.tolist() == [2, 1]
    assert [rows.tolist() for rows in groups.members] == [[0, 3], [1]]
    assert groups.n_grouped == 3


def test_names_are_sorted_but_a_categorical_keeps_its_order_and_labels_are_text():
    names = ["b", np.nan, "a"]
    for values in (names, pd.Series(names)):
        assert group_cells(values).names.tolist() == ["a", "b"]
        assert group_cells(values).codes.tolist() == [1, -1, 0]
    ordered = pd.Categorical(names, categories=["unused", "b", "a"])
    assert group_cells(ordered).names.tolist() == ["b", "a"]
    assert group_labels(ordered).names.tolist() == ["a", "b"]
    assert group_labels(ordered).codes.tolist() == [1, -1, 0]
    assert group_labels(np.array([-1, 4])).names.tolist() == ["-1", "4"]


def test_columns_without_groups_and_different_cells_are_refused():
    for values, match in (
        ([], r"shape \(n_cells,\), found shape \(0,\)"),
        ([[1, 2]], r"shape \(n_cells,\), found shape \(1, 2\)"),
        (np.float64(3), r"shape \(n_cells,\), found shape \(\)"),
        (np.array([0.0, np.inf]), "names or whole numbers, .* found an infinite one"),
        (np.array([-1, -1]), "at least one cell with a metacell, found none among 2"),
    ):
        with pytest.raises(ValueError, match=match):
            group_cells(values)
    with pytest.raises(ValueError, match="Expected donors, found 2 cells of which every one is"):
        group_labels(pd.Series([None, None], dtype="category"), what="donors")
    table, column = pd.DataFrame({"x": [1, 2]}, ["a", "b"]), pd.Series([1, 2], ["b", "a"])
    with pytest.raises(ValueError, match="the same index in both, .* another order"):
        check_same_order(table, column)
    check_same_order(table, column.to_numpy())
    check_same_order(table, column[["a", "b"]])


@pytest.mark.parametrize("make", [list, pd.Series, lambda names: np.array(names, object)])
def test_a_number_and_its_text_are_one_metacell_and_minus_one_is_none(make):
    """Pandas reads a long column in parts: some as numbers, others as text."""
    groups = group_cells(make([1, "1", 2.0, "2", "mc", None, -1, "-1"]))
    of_cells = [str(groups.names[code]) if code >= 0 else None for code in groups.codes]
    assert of_cells == ["1", "1", "2", "2", "mc", None, None, None]
    assert len(groups.names) == 3
    for groups in map(group_cells, (pd.Categorical(["0", "-1", "1"]), make(["0", "-1", "1"]))):
        assert groups.names.tolist() == ["0", "1"]
        assert groups.codes.tolist() == [0, -1, 1]


@pytest.mark.parametrize("make", [list, pd.Series, lambda x: np.array(x, object), pd.array])
def test_decimal_numbers_are_no_categories(make):
    with pytest.raises(TypeError, match=r"`labels`, found decimal numbers, e\.g\. 0\.25\."):
        check_categories(make([1.0, 0.25, None]), "labels")
    check_categories(make([1.0, 2.0, None]), "labels")
    check_categories(pd.Categorical([0.25, 0.5]), "labels")


def test_sizes_are_summarised():
    found = size_summary(pd.Series(["a", "a", "a", "b", None]))
    assert found[:5] == (2, 1, 2.0, 1, 3)
    assert found.size_cv == pytest.approx(np.std([1, 3]) / np.mean([1, 3]))
    assert size_summary(np.repeat(np.arange(5), 4)).size_cv == 0
    assert np.isnan(found.counts_cv)
    totals = [5.0, 6, 7, 2, 100]  # the last is in no metacell
    by_counts = size_summary(["a", "a", "a", "b", None], totals)
    assert by_counts.counts_cv == pytest.approx(np.std([18, 2]) / 10)
    assert by_counts[:-1] == found[:-1]


OF_MATRICES = pytest.mark.parametrize("metric", [compactness, separation, inv])


@pytest.mark.parametrize(
    "make", [np.asarray, pd.DataFrame, sparse.csr_matrix, sparse.csc_array, np.ndarray.tolist]
)
@pytest.mark.parametrize("dtype", [float, np.int8, bool, np.uint16])
def test_numbers_stay_what_they_are(make, dtype):
    numbers = np.array([[0, 1, 1], [1, 0, 1]], dtype=dtype)
    found = as_matrix(make(numbers), "X", "cells by features")
    assert isinstance(found, np.ndarray | sparse.csr_array)
    np.testing.assert_array_equal(found.toarray() if sparse.issparse(found) else found, numbers)


@pytest.mark.parametrize(
    "values", [np.array([["a", "b"]]), np.ones((2, 2), object), pd.DataFrame({"x": [1], "y": "a"})]
)
def test_other_values_are_refused(values):
    with pytest.raises(
        TypeError, match=r"real numbers in `A`, found values .*`A\.astype\(float\)`"
    ):
        as_matrix(values, "A", "cells by features")


def test_other_things_and_matrices_that_do_not_fit_the_assignment_are_refused(expression):
    with pytest.raises(TypeError, match="as a genes by cells matrix .* found AnnData with no dim"):
        as_matrix(AnnData(np.ones((2, 2))), "A", "genes by cells")
    with pytest.raises(TypeError, match="found ndarray with 1 dimensions"):
        as_matrix(np.ones(2), "A", "genes by cells")
    with pytest.raises(ValueError, match="found 89 for 90 rows"):
        grouped_rows(expression, np.zeros(89))
    expression[3, 4] = np.nan
    with pytest.raises(ValueError, match="found NaN or infinity"):
        grouped_rows(sparse.csr_matrix(expression), np.zeros(90))


def test_dot_products_of_unit_rows_are_correlations(expression):
    before = expression.copy()
    z = unit_rows(expression)
    np.testing.assert_array_equal(expression, before)
    np.testing.assert_allclose(z @ z.T, np.corrcoef(expression), atol=1e-12)
    np.testing.assert_allclose(unit_rows(sparse.csr_matrix(expression)), z)


@pytest.mark.parametrize("value", [0, 0.1, 1e6 / 3])
def test_a_row_without_spread_is_uncorrelated(value):
    assert not unit_rows(np.full((2, 30), value)).any()


@OF_MATRICES
def test_tables_and_columns_in_another_order_are_refused(metric, expression, assignment):
    names = [f"cell{i}" for i in range(90)]
    X = np.abs(expression)
    table, column = pd.DataFrame(X, names), pd.Series(assignment, names)
    pd.testing.assert_series_equal(metric(table, column), metric(X, assignment))
    with pytest.raises(ValueError, match="another order"):
        metric(table, column[::-1])


@OF_MATRICES
def test_cells_left_out_are_as_if_absent(metric, expression, assignment):
    X = np.abs(expression)
    assignment[::9] = -1
    kept = assignment >= 0
    found, expected = metric(X, assignment), metric(X[kept], assignment[kept])
    pd.testing.assert_series_equal(found, expected)
    assert (found.name, found.index.name) == (metric.__name__, "metacell")
    assert found.index.tolist() == np.unique(assignment[kept]).tolist()


@OF_MATRICES
def test_blocks_have_a_whole_number_of_rows_and_text_is_refused(metric, expression, assignment):
    for size, error in ((0, ValueError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error, match=f"block_size to be .*, found {size}"):
            metric(expression, assignment, block_size=size)
    with pytest.raises(
        TypeError, match="Expected real numbers in `X`, found values of the type object"
    ):
        metric(expression.astype(object), assignment)


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
