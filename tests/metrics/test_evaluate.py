import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import zarr
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq import metrics
from scmetaq.data import _cells
from scmetaq.metrics import _counts, _evaluate, _log_counts, evaluate
from scmetaq.metrics._evaluate import principal_components


def reference_space(adata, n_top_genes=3000):
    """log1p counts per 10k of the most variable genes, by scanpy alone."""
    cells = adata.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    if adata.n_vars > n_top_genes:
        sc.pp.highly_variable_genes(cells, flavor="seurat", n_top_genes=n_top_genes)
        cells = cells[:, cells.var["highly_variable"]]
    return cells.X


def means(frame):
    return frame.groupby("metric")["value"].mean()


def assert_same_rows(found, expected):
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


@pytest.mark.parametrize("n_top_genes", [20, 60, 3000])
def test_numbers_equal_the_metrics_on_scanpys_space(adata, n_top_genes):
    value = means(evaluate(adata, labels="cell_type", n_top_genes=n_top_genes))
    X, assignment = reference_space(adata, n_top_genes), adata.obs["metacell"]
    for name, error in (("compactness", 1e-6), ("separation", 1e-5)):
        expected = getattr(metrics, name)(X, assignment).mean()
        assert value[name] == pytest.approx(expected, abs=error)
    for name in ("purity", "accuracy", "balanced_accuracy", "entropy"):
        expected = np.mean(getattr(metrics, name)(assignment, adata.obs["cell_type"]))
        assert value[name] == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def written(adata, tmp_path):
    """The cells in a file, opened there."""
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")


@pytest.mark.parametrize("block", [7, 50, 4096])
def test_cells_on_disk_give_the_numbers_of_cells_in_memory(adata, written, block, monkeypatch):
    words = {"labels": "cell_type", "use_rep": "pca", "find_dubious": True, "n_top_genes": 30}
    numbers = adata.obs["metacell"].cat.codes.to_numpy().copy()
    numbers[::9] = -1
    expected = evaluate(adata, numbers, max_cells=50, **words)
    monkeypatch.setattr(_cells, "BLOCK", block)
    monkeypatch.setattr(_log_counts, "BLOCK", block)
    monkeypatch.setattr(_counts, "BLOCK", block)
    for cells in (written, adata):
        found = evaluate(cells, numbers, max_cells=50, **words)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6)


@pytest.mark.parametrize("in_layer", [False, True])
def test_matrices_of_zarr_and_dense_ones_on_disk_are_read_as_well(adata, tmp_path, in_layer):
    expected = evaluate(adata, n_top_genes=30)
    group = zarr.open_group(tmp_path / "cells.zarr", mode="w")
    anndata.io.write_elem(group, "X", adata.X)
    lazy = anndata.io.sparse_dataset(group["X"])
    cells = AnnData(obs=adata.obs, layers={"raw": lazy}) if in_layer else AnnData(lazy, adata.obs)
    layer = "raw" if in_layer else None
    pd.testing.assert_frame_equal(evaluate(cells, n_top_genes=30, layer=layer), expected, rtol=1e-6)
    dense = AnnData(adata.X.toarray(), adata.obs)
    dense.write_h5ad(tmp_path / "dense.h5ad")
    dense = anndata.read_h5ad(tmp_path / "dense.h5ad", backed="r")
    pd.testing.assert_frame_equal(evaluate(dense, n_top_genes=30), expected, rtol=1e-6)


def test_bad_values_on_disk_are_named(adata, tmp_path):
    adata.X.data[:3] = -1
    adata.write_h5ad(tmp_path / "cells.h5ad")
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(ValueError, match="found 3 values that are negative, NaN or above 2,147"):
        evaluate(cells)


def test_principal_axes_of_many_cells_are_those_of_a_sample(adata, monkeypatch):
    X = sparse.vstack([adata.X] * 3).tocsr()
    whole = principal_components(X, 40)
    monkeypatch.setattr(_evaluate, "_MOST_CELLS", 300)
    sampled = principal_components(X, 40)
    assert sampled.shape == whole.shape
    for axis in range(3):  # those of the four states
        assert abs(np.corrcoef(sampled[:, axis], whole[:, axis])[0, 1]) > 0.98
    monkeypatch.setattr(_evaluate, "_MOST_CELLS", 360)
    np.testing.assert_array_equal(principal_components(X, 40), whole)


def test_table_is_tidy_and_input_not_changed(adata):
    before = adata.copy()
    frame = evaluate(adata, labels="cell_type", n_top_genes=20)
    assert abs(adata.X - before.X).max() == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert dict(adata.uns) == {}
    assert adata.var.columns.empty
    assert frame.columns.tolist() == ["metric", "metacell", "value", "better"]
    assert pd.api.types.is_string_dtype(frame["metacell"].dtype)
    assert frame["value"].dtype == float
    rows = frame["metric"].value_counts()
    assert (rows[["n_cells", "compactness", "separation", "purity"]] == 8).all()
    whole = frame[frame["metacell"].isna()].set_index("metric")
    assert whole.loc["n_metacells", "value"] == 8
    assert whole.loc["balanced_accuracy", "better"] == "higher"
    assert whole.loc["size_cv", "better"] == ""
    assert frame.loc[frame["metric"] == "n_cells", "metacell"].tolist()[0] == "mc00"
    assert not frame.duplicated(["metric", "metacell"]).any()


def test_cells_without_metacell_or_label_are_as_if_absent(adata):
    numbers = adata.obs["metacell"].cat.codes.to_numpy().copy()
    numbers[::7] = -1
    adata.obs.loc[adata.obs_names[:5], "cell_type"] = None
    value = means(evaluate(adata, numbers, "cell_type"))
    kept = means(evaluate(adata[numbers >= 0], numbers[numbers >= 0], "cell_type"))
    assert value["unassigned"] == 18
    both = np.flatnonzero((numbers >= 0) & (np.arange(120) >= 5))
    of_both = metrics.purity(numbers[both], adata.obs["cell_type"].iloc[both])
    assert value["purity"] == pytest.approx(of_both.mean())
    pd.testing.assert_series_equal(value.drop("unassigned"), kept.drop("unassigned"))


def test_layer_form_and_stored_zeros_do_not_matter(adata):
    counts = adata.X.toarray().astype(int)
    other = AnnData(np.zeros(adata.shape), adata.obs, layers={"counts": counts})
    pd.testing.assert_frame_equal(
        evaluate(other, layer="counts", n_top_genes=20), evaluate(adata, n_top_genes=20)
    )
    exact, sampled = evaluate(adata), evaluate(adata, max_cells=40, seed=1)
    differs = exact["value"] != sampled["value"]
    assert set(exact["metric"][differs]) == {"separation"}
    pd.testing.assert_frame_equal(evaluate(adata, max_cells=None), exact)


@pytest.mark.filterwarnings("ignore:Expected")
def test_zeros_that_are_stored_are_zeros(adata):
    adata.X.data[adata.X.indptr[3] : adata.X.indptr[4]] = 0  # a cell without counts
    stored = evaluate(adata, labels="cell_type", use_rep="pca")
    adata.X.eliminate_zeros()
    pd.testing.assert_frame_equal(evaluate(adata, labels="cell_type", use_rep="pca"), stored)


def test_bad_values_are_named(adata):
    adata.X.data[:3] = -1
    with pytest.raises(ValueError, match="found 3 values that are negative, NaN or above 2,147"):
        evaluate(adata)
    adata.X.data[:3] = 0.5
    with pytest.warns(UserWarning, match="found fractions"):
        evaluate(adata)


def test_what_is_given_is_used(adata, rng):
    adata.obsm["X_any"] = rng.normal(size=(120, 6))
    conditions = pd.Series(rng.choice(["x", "y"], 120), index=adata.obs_names)
    frame = evaluate(
        adata, labels="cell_type", conditions=conditions, use_rep="X_any", find_dubious=True
    )
    better = frame.groupby("metric")["better"].first()
    expected = {
        "compactness": "higher", "separation": "higher", "inv": "lower", "purity": "higher",
        "entropy": "lower", "diffusion_compactness": "lower", "diffusion_separation": "higher",
        "divergence": "lower", "dubious": "lower", "mixing": "higher", "one_condition": "lower",
        "accuracy": "higher", "balanced_accuracy": "higher", "unassigned": "lower",
        "inner_fold": "lower", "inner_stdev": "lower", "euclidean_compactness": "lower",
        "euclidean_separation": "higher", "silhouette": "higher",
    }  # fmt: skip
    assert better[better != ""].to_dict() == expected
    assert not frame.duplicated(["metric", "metacell"]).any()
    value = means(frame)
    X, assignment = reference_space(adata), adata.obs["metacell"]
    assert value["inv"] == pytest.approx(metrics.inv(X, assignment).mean(), abs=1e-6)
    mixed = metrics.mixing(assignment, conditions, adata.obs["cell_type"])
    assert (value["mixing"], value["one_condition"]) == mixed[:2]
    for space in ("diffusion", "euclidean"):
        for name in (f"{space}_compactness", f"{space}_separation"):
            expected = getattr(metrics, name)(adata.obsm["X_any"], assignment).mean()
            assert value[name] == pytest.approx(expected)
    for name in ("inner_fold", "inner_stdev"):
        expected = getattr(metrics, name)(adata.X, assignment).mean()
        assert value[name] == pytest.approx(expected)
    expected = metrics.silhouette(adata.obsm["X_any"], assignment, adata.obs["cell_type"])
    assert value["silhouette"] == pytest.approx(expected)
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    assert value["counts_cv"] == pytest.approx(metrics.size_summary(assignment, totals).counts_cv)
    whole = {*metrics.SizeSummary._fields}
    of_counts = {"n_cells", "compactness", "separation", "inv", "inner_fold", "inner_stdev"}
    assert set(evaluate(adata)["metric"]) == whole | of_counts
    tested = metrics.dubious(X, assignment)
    assert value["dubious"] == tested["dubious"].mean()
    assert value["divergence"] == pytest.approx(tested["statistic"].mean(), abs=1e-5)


def test_principal_components_are_computed_and_embeddings_are_of_all_cells(adata, rng):
    adata.obsm["X_pca"] = sc.pp.pca(reference_space(adata), n_comps=50)
    computed, given = (evaluate(adata, use_rep=name) for name in ("pca", "X_pca"))
    pd.testing.assert_frame_equal(computed, given, rtol=1e-3)
    adata.obsm["X_any"] = rng.normal(size=(120, 6))
    numbers = adata.obs["metacell"].cat.codes.to_numpy().copy()
    whole = evaluate(adata, numbers, use_rep="X_any")
    numbers[numbers == 7] = -1
    less = evaluate(adata, numbers, use_rep="X_any")
    values = [f[f["metric"] == "diffusion_compactness"]["value"].to_numpy() for f in (whole, less)]
    np.testing.assert_allclose(values[0][:7], values[1])


@pytest.fixture
def mdata(adata, rng):
    """The cells, with proteins of all but the first 30, which are all of the first state."""
    adata.obs["batch"] = rng.choice(["x", "y"], adata.n_obs)
    counts = sparse.csr_matrix(rng.poisson(5, size=(90, 7)).astype(np.float32))
    names = pd.DataFrame(index=adata.obs_names[30:]), pd.DataFrame(index=list("abcdefg"))
    proteins = AnnData(counts, *names)
    mdata = MuData({"rna": adata, "adt": proteins})
    mdata.obs = adata.obs.loc[mdata.obs_names]
    return mdata


def test_modalities_of_a_mudata_are_judged_alone_and_what_is_about_all_once(mdata, adata):
    frame = evaluate(mdata, labels="cell_type", conditions="batch")
    assert frame.columns.tolist() == ["metric", "modality", "metacell", "value", "better"]
    assert not frame.duplicated(["metric", "modality", "metacell"]).any()
    for name in ("rna", "adt"):
        part = mdata[name]
        found = frame[frame["modality"] == name].drop(columns="modality")
        alone = evaluate(part, mdata.obs.loc[part.obs_names, "metacell"])
        is_own = alone["metacell"].notna() | (alone["metric"] == "counts_cv")
        assert_same_rows(found, alone[is_own])
    sizes = frame[frame["metric"] == "n_cells"].groupby("modality", dropna=False)["value"].sum()
    assert sizes.to_dict() == {"rna": 120, "adt": 90, np.nan: 120}
    joint = frame[frame["modality"].isna()].drop(columns="modality")
    alone = evaluate(adata, "metacell", "cell_type", conditions="batch")
    of_counts = {"compactness", "separation", "inv", "inner_fold", "inner_stdev", "counts_cv"}
    assert_same_rows(joint, alone[~alone["metric"].isin(of_counts)])


def test_modalities_on_disk_give_the_numbers_of_those_in_memory(mdata, tmp_path):
    expected = evaluate(mdata, labels="cell_type")
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    on_disk = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    assert not sparse.issparse(on_disk["rna"].X)
    found = evaluate(on_disk, labels="cell_type")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)


def test_layers_of_a_mudata_are_used_where_they_are(mdata):
    expected = evaluate(mdata)
    mdata["rna"].layers["raw"] = mdata["rna"].X.copy()
    mdata["rna"].X = np.full(mdata["rna"].shape, -1.0)
    pd.testing.assert_frame_equal(evaluate(mdata, layer="raw"), expected)
    with pytest.raises(ValueError, match=r"modality 'rna', `X`, found 7200 values"):
        evaluate(mdata)
    with pytest.raises(KeyError, match="a layer of a modality, found no 'missing'"):
        evaluate(mdata, layer="missing")


def test_embeddings_are_joint_or_of_a_modality_which_can_be_chosen(mdata, rng):
    mdata["adt"].obsm["X_adt"] = rng.normal(size=(90, 4))
    mdata.obsm["X_joint"] = rng.normal(size=(120, 4))
    for use_rep, where in (("X_joint", {""}), ("X_adt", {"adt"}), ("pca", {"rna", "adt"})):
        frame = evaluate(mdata, use_rep=use_rep)
        rows = frame[frame["metric"] == "diffusion_compactness"]
        assert set(rows["modality"].fillna("")) == where
    with pytest.raises(KeyError, match=r"found no 'rna'. There are: \{'rna'"):
        evaluate(mdata, use_rep="rna")
    chosen = evaluate(mdata, modalities=["adt"])
    assert set(chosen["modality"].dropna()) == {"adt"}
    pd.testing.assert_frame_equal(evaluate(mdata, modalities="adt"), chosen)
    with pytest.raises(KeyError, match=r"found no 'atac'. Modalities there: \['rna', 'adt'\]"):
        evaluate(mdata, modalities=["rna", "atac"])
    with pytest.raises(KeyError, match="found none"):
        evaluate(mdata, modalities=[])


def test_one_metacell_is_apart_from_nothing(mdata, rng):
    mdata.obs["metacell"] = np.where(mdata.obs_names.isin(mdata["adt"].obs_names), "a", "b")
    mdata["adt"].obsm["X_emb"] = rng.normal(size=(90, 4))
    frame = evaluate(mdata, use_rep="X_emb")
    measured = {name: set(of["metric"]) for name, of in frame.groupby("modality")}
    assert "separation" in measured["rna"]
    assert {"compactness", "inv", "diffusion_compactness"} <= measured["adt"]
    assert not {"separation", "diffusion_separation"} & measured["adt"]


def test_too_few_cells_for_a_diffusion_map_leave_the_other_metrics(adata):
    few = adata[:28].copy()
    few.obsm["X_any"] = np.random.default_rng(0).normal(size=(28, 3))
    with pytest.warns(UserWarning, match="No diffusion metrics: .*found 28"):
        frame = evaluate(few, use_rep="X_any")
    missing = frame["metric"].str.startswith("diffusion")
    assert set(frame.loc[missing, "metric"]) == {"diffusion_compactness", "diffusion_separation"}
    assert frame.loc[missing, "value"].isna().all()
    plain = frame["metric"].str.startswith("euclidean")
    assert frame.loc[plain, "value"].notna().all()
    assert_same_rows(frame[~missing & ~plain], evaluate(few))


@pytest.fixture
def _no_work(monkeypatch):
    """Nothing gets as far as the counts."""
    monkeypatch.setattr("scmetaq.metrics._evaluate.check_counts", lambda *_: pytest.fail("works"))


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        ({"modalities": ["rna"]}, TypeError, "`modalities` are those of a MuData"),
        ({"n_top_genes": 0}, ValueError, "n_top_genes to be at least 1, found 0"),
        ({"n_top_genes": 1.5}, TypeError, "n_top_genes to be an int, found 1.5"),
        ({"max_cells": -3}, ValueError, "max_cells to be at least 1, found -3"),
        ({"max_cells": "10"}, TypeError, "max_cells to be an int, found '10'"),
        ({"seed": -1}, ValueError, "seed to be at least 0, found -1"),
        ({"layer": "raw"}, KeyError, r"found no 'raw'. There are: \[\]"),
        ({"use_rep": "X_umap"}, KeyError, r"'X_umap'. There are: \['pca'\]"),
        ({"labels": "kind"}, KeyError, "no 'kind'"),
        ({"conditions": "donor"}, KeyError, "`conditions` to name a column .*, found no 'donor'"),
        ({"assignment": np.append(np.ones(119), np.inf)}, ValueError, "found an infinite one"),
        ({"labels": np.linspace(0, 1, 120)}, TypeError, "`labels`, found decimal numbers"),
    ],
)
@pytest.mark.usefixtures("_no_work")
def test_what_cannot_be_judged_is_refused_before_work(adata, words, error, match):
    with pytest.raises(error, match=match):
        evaluate(adata, **words)
    with pytest.raises(TypeError, match="Expected an AnnData or a MuData, found DataFrame"):
        evaluate(adata.obs)


def test_a_number_and_its_text_are_one_metacell(adata):
    numbers = adata.obs["metacell"].cat.codes.to_numpy().astype(object)
    mixed = numbers.copy()
    mixed[60:] = [str(name) for name in mixed[60:]]
    mixed[:60:2] = [str(name) for name in mixed[:60:2]]
    by = ["metric", "metacell"]
    frame, expected = (evaluate(adata, of).sort_values(by) for of in (mixed, numbers))
    assert not frame.duplicated(by).any()
    assert_same_rows(frame, expected)


@pytest.mark.parametrize("n_cells", [1, 2, 30])
def test_few_cells_leave_the_other_metrics(adata, n_cells):
    few = adata[:: 120 // n_cells][:n_cells].copy()
    with pytest.warns(UserWarning, match=rf"No diffusion metrics: .* found {n_cells}\. Pass more"):
        frame = evaluate(few, use_rep="pca")
    missing = frame["metric"].str.startswith("diffusion")
    assert missing.any()
    assert frame.loc[missing, "value"].isna().all()
    missing |= frame["metric"].str.startswith("euclidean")
    assert_same_rows(frame[~missing], evaluate(few))


def test_labels_may_be_those_of_a_modality(mdata):
    kind = mdata.obs.pop("cell_type")
    mdata["rna"].obs["cell_type"] = kind
    found = evaluate(mdata, labels="rna:cell_type")
    pd.testing.assert_frame_equal(found, evaluate(mdata, labels=kind))
    with pytest.raises(KeyError, match="no 'rna:kind'.*'rna:cell_type'"):
        evaluate(mdata, labels="rna:kind")


@pytest.mark.usefixtures("_no_work")
def test_a_modality_without_metacells_is_named(mdata):
    numbers = np.where(mdata.obs_names.isin(mdata["adt"].obs_names), -1, 1)
    with pytest.raises(ValueError, match="in the modality 'adt', found none among 90"):
        evaluate(mdata, numbers)
