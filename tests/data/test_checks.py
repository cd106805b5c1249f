import warnings

import mudata
import numpy as np
import pytest
import scanpy as sc
from mudata import MuData
from scipy import sparse

from scmetaq import MetaQModel
from scmetaq._errors import InputError
from scmetaq.data._cells import Source
from scmetaq.data._checks import check_cells

NAMES = {"rna": "rna", "adt": "adt", "atac": "atac"}


def check_anndata(adata, layer=None, *, is_query=False):
    check_cells(adata, {"rna": Source(None, layer)}, is_query=is_query)


def without_counts(adata, at):
    X = adata.X.toarray()
    X[at] = 0
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


def no_x(adata):
    adata.layers["raw"] = adata.X
    adata.X = None


BAD_COUNTS = {
    "not whole": (
        lambda adata: with_values(adata, 1.5, 3),
        r"raw counts \(integers >= 0\) in adata.X, found 3 non-integer values of \d+ stored",
    ),
    "negative": (
        lambda adata: with_values(adata, -1, 2),
        r"integers >= 0\) in adata.X, found 2 negative values.*as they were before",
    ),
    "nan": (
        lambda adata: with_values(adata, np.nan),
        "found 1 NaN or infinite values.*59 of 60 features have none",
    ),
    "infinite": (lambda adata: with_values(adata, np.inf), "found 1 NaN or infinite values"),
    "log1p": (log_normalise, r"look log-normalised \(log1p\).*Pass the cells as they were before"),
    "normalised": (
        lambda adata: sc.pp.normalize_total(adata, target_sum=1e6),
        "look normalised or scaled.*Pass the cells as they were",
    ),
    "a fraction": (
        lambda adata: with_values(adata, 0.5),
        "found 1 non-integer values.*Most values are whole numbers.*there are no layers. If .*rint",
    ),
    "empty cells": (
        lambda adata: without_counts(adata, [3, 8]),
        r"2 of 150 cells have no counts.*'cell3'.*Fix: .*filter_cells\(adata, min_counts=1\)",
    ),
    "barcodes": (rename_cells, r"unique barcodes.*found 1 .*'twin'.*obs_names_make_unique\(\)"),
    "genes": (rename_genes, r"unique feature names.*'twin'.*var_names_make_unique\(\)"),
    "no X": (no_x, "adata.X is empty. .*layers\\['raw'\\] holds whole numbers: layer=\"raw\""),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
def test_bad_counts_are_named_with_what_to_do_and_stay_as_they_are(toy, fingerprint, case):
    spoil, message = BAD_COUNTS[case]
    spoil(toy)
    before = fingerprint(toy)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        MetaQModel.setup_anndata(toy)
    assert fingerprint(toy) == before


@pytest.mark.parametrize("case", ["not whole", "negative", "nan", "log1p"])
@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csc_matrix, sparse.csr_array])
def test_bad_counts_are_found_in_any_form(toy, case, as_matrix):
    spoil, message = BAD_COUNTS[case]
    spoil(toy)
    toy.X = as_matrix(toy.X.toarray())
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_anndata(toy)


def test_the_layer_is_named(toy):
    with pytest.raises(KeyError, match="No layer 'counts' in adata.layers. Layers there: none"):
        check_anndata(toy, layer="counts")
    toy.layers["raw"], toy.layers["spliced"] = toy.X.copy(), toy.X
    with pytest.raises(KeyError, match="Layers there: 'raw', 'spliced'"):
        check_anndata(toy, layer="counts")
    log_normalise(toy)
    check_anndata(toy, layer="raw")
    toy.layers["raw"] *= 0.3
    with pytest.raises(
        ValueError, match=r"adata\.layers\['raw'\].*before: layers there, 'spliced', hold none"
    ):
        check_anndata(toy, layer="raw")


def test_empty_and_other_data_are_refused(toy):
    for data, error, match in (
        (toy[:0].copy(), ValueError, "The data are empty: 0 cells x 60 features"),
        (toy[:, :0].copy(), ValueError, "The data are empty: 150 cells x 0"),
        (toy[:50], ValueError, r"adata\.copy\(\)"),
        ("cells.h5ad", TypeError, "Expected an AnnData, found str.*anndata.read_h5ad"),
        (mudata.MuData({"rna": toy}), TypeError, "Expected an AnnData, found MuData"),
    ):
        with pytest.raises(error, match=match):
            MetaQModel.setup_anndata(data)
    with pytest.raises(TypeError, match="Expected a MuData, found AnnData.*use setup_anndata"):
        MetaQModel.setup_mudata(toy)


def test_features_without_counts_give_a_warning(toy):
    without_counts(toy, np.s_[:, [5, 9]])
    with pytest.warns(UserWarning, match=r"2 of 60 features have no counts.*filter_genes"):
        check_anndata(toy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_anndata(toy, is_query=True)


def test_equal_numbers_of_counts_in_all_cells_give_a_warning(toy):
    X = toy.X.toarray()
    toy.X = np.rint(X / X.sum(1, keepdims=True) * 1e6)
    with pytest.warns(UserWarning, match=r"All cells have about 1,000,\d+ counts in adata.X"):
        check_anndata(toy)
    toy.X = X * 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_anndata(toy)


@pytest.mark.parametrize("dtype", [np.float64, np.uint32, np.int64, np.uint64])
def test_counts_are_bounded_where_sums_of_them_stay_exact(toy, dtype):
    toy.X = toy.X.astype(dtype)
    with_values(toy, 2**31)
    check_anndata(toy)
    with_values(toy, 2**31 + 1)
    expected = r"found one of 2,147,483,649, and 2,147,483,648 is the most"
    with pytest.raises(ValueError, match=expected):
        check_anndata(toy)
    X = sparse.csr_matrix(toy.X, dtype=dtype)
    X.data[0] = 2**30 + 1  # stored twice
    X = sparse.csr_matrix((np.repeat(X.data, 2), np.repeat(X.indices, 2), X.indptr * 2), X.shape)
    twice = toy.copy()
    twice.X = X
    with pytest.raises(ValueError, match=r"found one of 2,147,483,650,"):
        check_anndata(twice)
    with_values(toy, 10**9 if dtype == np.uint32 else 10**12, 50)
    if dtype != np.uint32:
        with pytest.raises(ValueError, match=r"found one of 1(e\+12|,000,000,000,000)"):
            check_anndata(toy)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float64])
@pytest.mark.parametrize(
    "as_matrix", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray]
)
def test_counts_in_any_form_pass(toy, as_matrix, dtype):
    toy.X = as_matrix(toy.X.toarray().astype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_anndata(toy)


def test_blocks_count_what_is_wrong_everywhere(toy, monkeypatch):
    monkeypatch.setattr("scmetaq.data._checks.BLOCK", 7)
    toy.X.data[[0, 500, -1]] = -2
    with pytest.raises(ValueError, match=f"found 3 negative values of {toy.X.nnz} stored"):
        check_anndata(toy)


def check(mdata, names=NAMES, **layers):
    sources = {kind: Source(name, layers.get(kind)) for kind, name in names.items()}
    check_cells(mdata, sources)


def test_the_modality_is_named(toy_mdata, mosaic):
    check(toy_mdata)
    check(mosaic)
    with pytest.raises(KeyError, match=r"No layer 'raw' in mdata\['atac'\]\.layers"):
        check(toy_mdata, atac="raw")
    X = toy_mdata["adt"].X = toy_mdata["adt"].X.toarray()
    X[3, 2] = 0.5
    with pytest.raises(
        ValueError, match=r"mdata\['adt'\]\.X, found 1 non-integer.*there are no layers"
    ):
        check(toy_mdata)
    X[3] = 0
    fix = r"sc.pp.filter_cells\(mdata\['adt'\], min_counts=1\); mdata.update\(\)"
    with pytest.raises(ValueError, match=rf"1 of 150 cells .* no counts in mdata\['adt'\].*{fix}"):
        check(toy_mdata)


def test_a_modality_that_was_changed_since_is_refused(toy_mdata):
    toy_mdata.mod["adt"]._inplace_subset_obs(np.arange(100))
    with pytest.raises(ValueError, match=r"cells of mdata\['adt'\].*Fix: mdata.update\(\)"):
        check(toy_mdata)
    toy_mdata.update()
    check(toy_mdata)


def test_few_cells_of_two_modalities_give_a_warning_and_hardly_any_are_refused(toy_mdata, mosaic):
    def split(end, start):
        rna, adt = toy_mdata["rna"][:end].copy(), toy_mdata["adt"][start:].copy()
        check(MuData({"rna": rna, "adt": adt}), {"rna": "rna", "adt": "adt"})

    for n, found in ((0, "none"), (1, "1"), (4, "4")):
        with pytest.raises(
            ValueError, match=rf"least 5 cells that have mdata\['rna'\].*{found} among"
        ):
            split(70, 70 - n)
    one_cell = MuData({"rna": toy_mdata["rna"], "adt": toy_mdata["adt"][[3]].copy()})
    with pytest.raises(ValueError, match="least 5 cells.*found 1 among 150"):
        check(one_cell, {"rna": "rna", "adt": "adt"})
    with pytest.warns(UserWarning, match=r"5 of the 80 cells of mdata\['rna'\] have another"):
        split(80, 75)
    with pytest.raises(ValueError, match="50 of 150 cells have none of the modalities in use"):
        check(mosaic, {"adt": "adt"})


def test_the_documented_fix_makes_barcodes_unique(toy_mdata):
    parts = {name: toy_mdata[name].copy() for name in ("rna", "adt")}
    for part in parts.values():
        part.obs_names = ["twin", "twin", *part.obs_names[2:]]
    mdata = MuData(parts)
    with pytest.raises(ValueError, match="found 1 .*'twin'") as error:
        check(mdata, {"rna": "rna", "adt": "adt"})
    loop, together = str(error.value).split("Fix: ")[-1].split(", and put the modalities together")
    scope = {"mdata": mdata, "mudata": mudata}
    exec(loop, scope)
    exec(together.removeprefix(" again, ").partition(", and give")[0], scope)
    assert scope["mdata"].obs_names[:2].tolist() == ["twin", "twin-1"]
    check(scope["mdata"], {"rna": "rna", "adt": "adt"})


@pytest.mark.parametrize(
    ("data", "argument"), [("toy", "layer"), ("toy_mdata", "adt_layer")], ids=["anndata", "mudata"]
)
def test_the_argument_to_blame_is_named(request, data, argument):
    cells = request.getfixturevalue(data)
    adata = cells if data == "toy" else cells["adt"]
    adata.X = adata.X * 0.5
    sources = {"adt": Source(None if data == "toy" else "adt", None)}
    with pytest.raises(InputError) as error:
        check_cells(cells, sources)
    assert error.value.argument == argument
