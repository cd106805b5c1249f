import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq.data._plain import plain
from scmetaq.tl import aggregate
from scmetaq.tl._aggregate import aggregate_cells


@pytest.fixture
def adata():
    """200 cells x 50 genes of raw counts in twelve metacells, five cells in none."""
    rng = np.random.default_rng(0)
    names = pd.Series([f"mc{i:04d}" for i in rng.integers(0, 12, 200)], dtype=object)
    names[[0, 50, 100, 150, 199]] = None
    obs = pd.DataFrame(
        {"metacell": pd.Categorical(names), "cell_type": rng.choice(["B", "T"], 200)},
        index=[f"cell{i}" for i in range(200)],
    ).assign(depth=rng.normal(size=200), _scvi_batch=0)
    var = pd.DataFrame({"chrom": ["chr1"] * 50}, index=[f"gene{i}" for i in range(50)])
    X = sparse.random(200, 50, 0.3, "csr", dtype=np.float32, random_state=0)
    X.data = np.ceil(X.data * 20)
    return AnnData(X, obs=obs, var=var, varm={"loadings": rng.normal(size=(50, 3))})


@pytest.fixture
def mdata(adata):
    """The cells with a second modality that lacks the first 40 cells."""
    adt = AnnData(
        np.random.default_rng(1).poisson(3.0, size=(160, 8)).astype(np.float32),
        obs=pd.DataFrame(index=adata.obs_names[40:]),
        var=pd.DataFrame(index=[f"protein{i}" for i in range(8)]),
    )
    mdata = MuData({"rna": adata.copy(), "adt": adt})
    mdata.obs["metacell"] = adata.obs["metacell"]
    mdata.obs["donor"] = pd.Categorical(np.where(np.arange(200) < 120, "d1", "d2"))
    return mdata


def sums_by_pandas(adata):
    frame = pd.DataFrame(adata.X.toarray().astype(float), adata.obs_names, adata.var_names)
    return frame.groupby(adata.obs["metacell"], observed=True).sum()


def test_sums_are_exact_means_their_quotient_and_the_form_of_counts_does_not_matter(adata):
    of_cell = adata.obs["metacell"].cat.add_categories("one cell")
    adata.obs["metacell"] = of_cell.where(np.arange(200) != 7, "one cell")
    metacells, expected = aggregate(adata), sums_by_pandas(adata)
    sizes = adata.obs["metacell"].value_counts().loc[metacells.obs_names].to_numpy()
    np.testing.assert_array_equal(metacells.layers["counts"].toarray(), expected)
    np.testing.assert_allclose(metacells.X.toarray(), expected / sizes[:, None], rtol=1e-6)
    np.testing.assert_array_equal(metacells.obs["n_cells"], sizes)
    assert metacells.obs_names.tolist() == expected.index.tolist()
    assert metacells.obs["n_cells"].sum() == 195
    for matrix in (metacells.X, metacells.layers["counts"]):
        assert sparse.issparse(matrix)
        assert matrix.format == "csr"
        assert matrix.has_sorted_indices
    assert metacells.X.dtype == np.float32
    expected, X = aggregate(adata), adata.X
    adata.X = None
    dense = X.toarray()
    for form in (dense, X.tocsc(), sparse.csr_array(X), X.astype(int), dense.astype(np.uint8)):
        adata.layers["raw"] = form
        found = aggregate(adata, layer="raw")
        assert abs(found.X - expected.X).max() == 0
        assert abs(found.layers["counts"] - expected.layers["counts"]).max() == 0
    # large sums stay exact
    counts = np.full((4, 1), 2**24 - 1, dtype=np.float32)
    metacells = aggregate(AnnData(counts), ["a", "a", "a", "b"])
    assert metacells.layers["counts"].toarray().ravel().tolist() == [3 * (2**24 - 1), 2**24 - 1]


def test_column_series_array_and_file_on_disk_are_the_same(adata, tmp_path):
    expected = aggregate(adata)
    shuffled = adata.obs["metacell"].sample(frac=1, random_state=0)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    array = adata.obs["metacell"].to_numpy()
    for found in (aggregate(adata, shuffled), aggregate(adata, array), aggregate(backed)):
        assert abs(found.X - expected.X).max() == 0
        assert found.obs_names.equals(expected.obs_names)


def test_names_are_numbers_in_order_or_those_of_a_categorical(adata):
    by = pd.Series(np.arange(200) % 12, adata.obs_names, dtype=float)
    by.iloc[3] = np.nan
    assert aggregate(adata, by).obs_names.tolist() == [str(i) for i in range(12)]
    numbers = np.arange(200) % 4 - 1
    metacells = aggregate(adata, numbers)
    assert list(metacells.obs_names) == ["0", "1", "2"]
    assert metacells.obs["n_cells"].sum() == metacells.uns["metaq"]["n_cells"] == 150
    assert metacells.uns["metaq"]["n_cells_left_out"] == (numbers < 0).sum() == 50
    order = [f"mc{i:04d}" for i in range(20)][::-1]
    by = adata.obs["metacell"].cat.set_categories(order)
    expected = [name for name in order if name in set(adata.obs["metacell"].dropna())]
    assert aggregate(adata, by).obs_names.tolist() == expected
    text = adata.obs["metacell"].astype(object)
    assert aggregate_cells(adata, text, categories=order).obs_names.tolist() == expected


def test_annotation_and_provenance_come_along_and_input_is_not_changed(adata):
    before = adata.copy()
    metacells = aggregate(adata)
    made = metacells.uns["metaq"]
    assert made["function"] == "scmetaq.tl.aggregate"
    assert (made["by"], made["layer"]) == ("metacell", "X")
    assert (made["n_cells"], made["n_cells_left_out"], made["n_metacells"]) == (195, 5, 12)
    assert metacells.obs.columns.tolist() == ["n_cells", "depth", "cell_type", "cell_type_fraction"]
    pd.testing.assert_frame_equal(metacells.var, plain(adata.var))
    np.testing.assert_array_equal(metacells.varm["loadings"], adata.varm["loadings"])
    metacells.varm["loadings"][:] = 0
    assert adata.varm["loadings"].all()
    assert abs(adata.X - before.X).max() == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert dict(adata.uns) == {}


def test_metacells_go_to_files_and_to_scanpy(adata, tmp_path):
    adata.obs["flag"] = pd.array([True, None] * 100, dtype="boolean")
    adata.obs["grade"] = pd.array([1, None] * 100, dtype="Int64")
    metacells = aggregate(adata)
    metacells.write_h5ad(tmp_path / "metacells.h5ad")
    read = anndata.read_h5ad(tmp_path / "metacells.h5ad")
    pd.testing.assert_frame_equal(plain(read.obs), metacells.obs)
    assert dict(read.uns["metaq"]) == dict(metacells.uns["metaq"])
    assert abs(read.layers["counts"] - metacells.layers["counts"]).max() == 0
    sc.pp.normalize_total(metacells, target_sum=1e4)
    sc.pp.log1p(metacells)
    sc.pp.pca(metacells, n_comps=3)
    assert metacells.obsm["X_pca"].shape == (12, 3)
    assert np.isfinite(metacells.obsm["X_pca"]).all()


def test_modalities_share_names_columns_and_layers_and_count_their_own_cells(mdata, adata):
    metacells = aggregate(mdata)
    pd.testing.assert_index_equal(metacells["rna"].obs_names, metacells["adt"].obs_names)
    sums = metacells["rna"].layers["counts"].toarray()
    np.testing.assert_array_equal(sums, sums_by_pandas(adata))
    grouped = mdata.obs["metacell"].notna().to_numpy()[40:]
    assert metacells["adt"].layers["counts"].sum() == mdata["adt"].X[grouped].sum()
    assert metacells.obs["n_cells"].sum() == 195
    # one of the 40 absent cells is in no metacell
    assert metacells["adt"].obs["n_cells"].sum() == 195 - 39
    assert metacells.obs.columns.tolist() == ["n_cells", "donor", "donor_fraction"]
    assert metacells.uns["metaq"]["n_metacells"] == 12
    mdata.obs["rna:donor"] = mdata.obs["donor"]
    mdata.obs["rna:_scvi_batch"] = 0
    mdata.obs["rna:metacell"] = mdata.obs["metacell"]
    found = aggregate(mdata).obs
    names = {f"{part}donor{end}" for part in ("", "rna:") for end in ("", "_fraction")}
    assert set(found) == {"n_cells", *names}
    pd.testing.assert_series_equal(found["rna:donor"], found["donor"], check_names=False)
    mdata["rna"].layers["raw"] = 2 * mdata["rna"].X
    doubled, single = (aggregate(mdata, "metacell", layer=name) for name in ("raw", None))
    assert abs(doubled["rna"].X - 2 * single["rna"].X).max() == 0
    assert abs(doubled["adt"].X - single["adt"].X).max() == 0
    with pytest.raises(KeyError, match="of a modality, found no 'other'"):
        aggregate(mdata, layer="other")


def test_a_metacell_without_cells_in_a_modality_is_absent_from_it(mdata, tmp_path):
    by = pd.Series(np.where(np.arange(200) < 40, "first", "second"), mdata.obs_names)
    metacells = aggregate(mdata, by)
    assert metacells.obs_names.tolist() == ["first", "second"]
    assert metacells["adt"].obs_names.tolist() == ["second"]
    metacells = aggregate(mdata)
    metacells.write_h5mu(tmp_path / "metacells.h5mu")
    read = mudata.read_h5mu(tmp_path / "metacells.h5mu")
    pd.testing.assert_frame_equal(plain(read.obs), metacells.obs)
    assert abs(read["rna"].X - metacells["rna"].X).max() == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda cells: aggregate(cells, cells.obs), TypeError, r"frame\['metacell'\]"),
        (lambda cells: aggregate(cells, "mc"), KeyError, "no 'mc'.*'cell_type'"),
        (lambda cells: aggregate(cells, layer="raw"), KeyError, "found no 'raw'"),
        (lambda cells: aggregate(cells, np.full(200, np.nan)), ValueError, "only missing.* 200"),
        (lambda cells: aggregate(cells.to_df()), TypeError, "found DataFrame"),
        (lambda cells: aggregate(cells, ["a", "b"] * 99), ValueError, "200 cells, found 198 val"),
        (lambda cells: aggregate(AnnData(obs=cells.obs)), ValueError, "nothing. Pass the cells"),
    ],
)
def test_bad_input_is_named(adata, call, error, message):
    with pytest.raises(error, match=message):
        call(adata)


def test_what_is_no_count_is_refused_and_fractions_give_a_warning(adata, mdata):
    adata.layers["log1p"] = adata.X.log1p()
    with pytest.warns(UserWarning, match=r"raw counts in layer 'log1p', found fractions"):
        aggregate(adata, layer="log1p")
    adata.X[3, 5] = np.nan
    adata.X[7, 2] = -1
    adata.X[8, 2] = np.inf
    for X in (adata.X, adata.X.tocsc(), adata.X.toarray()):
        adata.X = X
        with pytest.raises(ValueError, match="in `X`, found 3 values that are negative"):
            aggregate(adata)
    mdata["adt"].X[0, 0] = -1
    with pytest.raises(ValueError, match="modality 'adt', `X`, found 1 values"):
        aggregate(mdata)


def test_named_columns_of_numbers_have_a_majority(adata):
    adata.obs["lane"] = np.where(adata.obs["cell_type"] == "B", 1, 2)
    found = aggregate_cells(adata, adata.obs["metacell"], categorical=["lane", "elsewhere"]).obs
    majority = found["cell_type"].map({"B": 1, "T": 2}).to_numpy()
    np.testing.assert_array_equal(found["lane"].to_numpy(), majority)
    np.testing.assert_array_equal(found["lane_fraction"], found["cell_type_fraction"])
    adata.obs["flag"] = adata.obs["cell_type"] == "B"
    found = aggregate_cells(adata, adata.obs["metacell"], categorical=["flag"]).obs
    assert found["flag"].dtype == bool
    plain = aggregate_cells(adata, adata.obs["metacell"]).obs
    assert "lane_fraction" not in plain


def test_places_of_cells_are_averaged_on_request(blood, paired):
    adata, group = blood.copy(), np.arange(400) % 7
    adata.obsm["spatial"] = np.random.default_rng(0).normal(size=(400, 2))
    found = aggregate(adata, np.where(group == 6, -1, group), obsm="spatial")
    expected = [adata.obsm["spatial"][group == i].mean(0) for i in range(6)]
    np.testing.assert_allclose(found.obsm["spatial"], expected, rtol=1e-6)
    mdata = paired.copy()
    mdata.obsm["X_joint"] = np.arange(300.0).reshape(150, 2)
    found = aggregate(mdata, np.arange(150) // 75, obsm=["X_joint"])
    np.testing.assert_allclose(found.obsm["X_joint"], [[74, 75], [224, 225]])
    with pytest.raises(KeyError, match=r"no 'X_no'. There are: \['spatial'\]"):
        aggregate(adata, group, obsm=["X_no"])
