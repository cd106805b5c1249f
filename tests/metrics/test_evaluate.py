import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from scmetaq.metrics import compactness, evaluate, purity, separation


def reference_space(adata, n_top_genes):
    """log1p counts per 10k of the most variable genes, by scanpy alone."""
    cells = adata.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    if adata.n_vars > n_top_genes:
        sc.pp.highly_variable_genes(cells, flavor="seurat", n_top_genes=n_top_genes)
        cells = cells[:, cells.var["highly_variable"]]
    return cells.X


@pytest.mark.parametrize("n_top_genes", [20, 60, 3000])
def test_numbers_equal_the_metrics_on_scanpys_space(adata, n_top_genes):
    frame = evaluate(adata, labels="cell_type", n_top_genes=n_top_genes)
    value = frame.groupby("metric")["value"].mean()
    X, assignment = reference_space(adata, n_top_genes), adata.obs["metacell"]
    assert value["compactness"] == pytest.approx(compactness(X, assignment).mean(), abs=1e-6)
    assert value["separation"] == pytest.approx(separation(X, assignment).mean(), abs=1e-5)
    assert value["purity"] == purity(assignment, adata.obs["cell_type"]).mean()


def test_table_is_tidy(adata):
    frame = evaluate(adata, labels="cell_type")
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


def test_without_labels_nothing_needs_them(adata):
    metrics = set(evaluate(adata)["metric"])
    assert metrics.isdisjoint({"purity", "balanced_accuracy"})


def test_input_is_not_changed(adata):
    before = adata.copy()
    evaluate(adata, labels="cell_type", n_top_genes=20)
    assert abs(adata.X - before.X).max() == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert dict(adata.uns) == {}
    assert adata.var.columns.empty


def test_unassigned_cells_are_counted_and_otherwise_as_if_absent(adata):
    numbers = adata.obs["metacell"].cat.codes.to_numpy().copy()
    numbers[::7] = -1
    value = evaluate(adata, numbers, "cell_type").groupby("metric")["value"].mean()
    kept = evaluate(adata[numbers >= 0], numbers[numbers >= 0], "cell_type")
    assert value["unassigned"] == 18
    expected = kept.groupby("metric")["value"].mean()
    pd.testing.assert_series_equal(value.drop("unassigned"), expected.drop("unassigned"))


def test_layer_and_form_of_counts_do_not_matter(adata):
    other = AnnData(
        np.zeros(adata.shape), adata.obs, layers={"counts": adata.X.toarray().astype(int)}
    )
    pd.testing.assert_frame_equal(
        evaluate(other, layer="counts", n_top_genes=20), evaluate(adata, n_top_genes=20)
    )


def test_missing_labels_are_left_out(adata):
    adata.obs.loc[adata.obs_names[:5], "cell_type"] = None
    frame = evaluate(adata, labels="cell_type")
    labelled = adata.obs.iloc[5:]
    expected = purity(labelled["metacell"], labelled["cell_type"]).mean()
    assert frame.loc[frame["metric"] == "purity", "value"].mean() == pytest.approx(expected)


def test_bad_input_is_named(adata):
    with pytest.raises(KeyError, match="no 'kind'"):
        evaluate(adata, labels="kind")
    with pytest.raises(KeyError, match=r"no layer 'raw'|no 'raw'"):
        evaluate(adata, layer="raw")
    with pytest.raises(TypeError, match=r"mdata\['rna'\]"):
        evaluate(MuData({"rna": adata}))
    adata.X.data[:3] = -1
    with pytest.raises(ValueError, match="found 3 values that are negative or NaN"):
        evaluate(adata)


def test_normalised_values_are_noticed(adata):
    sc.pp.log1p(adata)
    with pytest.warns(UserWarning, match="found fractions"):
        evaluate(adata)
