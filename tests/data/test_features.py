import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData, read_h5mu
from scipy import sparse

import scmetaq
from scmetaq import MetaQModel
from scmetaq.data import read_files, split_modalities

GENES, ANTIBODIES, PEAKS = "Gene Expression", "Antibody Capture", "Peaks"


def joined(mdata, *names, column="feature_types", kinds=None):
    """The features of some modalities in one AnnData, as 10x files hold them."""
    kinds = kinds or {"rna": GENES, "adt": ANTIBODIES, "atac": PEAKS}
    parts = [mdata[name] for name in names]
    X = sparse.hstack([part.X for part in parts]).tocsr()
    found = AnnData(X, mdata.obs.copy())
    found.var_names = np.concatenate([part.var_names for part in parts])
    found.var[column] = np.repeat([kinds[n] for n in names], [part.n_vars for part in parts])
    return found


def remedies(error):
    """Lines of code that a message offers."""
    first, _, second = str(error).split("Keep one kind, ")[1].partition(", or all, ")
    return first.rstrip("."), second.rstrip(".")


@pytest.mark.parametrize(
    ("column", "kinds"),
    [
        ("feature_types", {"rna": GENES, "adt": ANTIBODIES}),
        ("feature_type", {"rna": "gene", "adt": "protein"}),
        ("modality", {"rna": "RNA", "adt": "ADT"}),
        ("Type", {"rna": GENES, "adt": "CRISPR Guide Capture"}),
        ("feature_types", {"rna": GENES, "adt": "Negative Control Probe"}),
        ("feature_types", {"rna": "RNA_assay", "adt": "Antibody-Derived Tags"}),
        ("library_type", {"rna": GENES, "adt": ANTIBODIES}),
    ],
)
def test_features_of_several_kinds_are_refused_with_lines_that_work(paired, column, kinds):
    adata = joined(paired, "rna", "adt", column=column, kinds=kinds)
    adata.var[column] = adata.var[column].astype("category")
    with pytest.raises(ValueError, match="Expected features of one kind, RNA, in adata") as error:
        MetaQModel.setup_anndata(adata)
    text = str(error.value)
    assert f"{kinds['rna']!r} (60), {kinds['adt']!r} (8)" in text
    one, all_kinds = remedies(error.value)
    scope = {"adata": adata, "scmetaq": scmetaq}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(all_kinds, scope)
    MetaQModel.setup_mudata(scope["mdata"], labels_key="state")
    exec(one, scope)
    assert scope["adata"].shape == (150, 60)
    MetaQModel.setup_anndata(scope["adata"])


def test_one_kind_and_columns_about_something_else_pass(paired):
    for kind, name in (("rna", GENES), ("adt", "antibody"), ("atac", PEAKS)):
        adata = paired[kind].copy()
        adata.var["feature_types"] = name
        adata.var["feature_type"] = ["protein_coding", "lncRNA"] * (adata.n_vars // 2)
        adata.var["biotype"] = ["gene", "pseudogene"] * (adata.n_vars // 2)
        MetaQModel.setup_anndata(adata, modality=kind)
        assert MetaQModel(adata, 3)._features[kind].equals(adata.var_names)


def test_another_kind_than_the_modality_says_is_refused_with_the_argument(paired):
    adata = paired["atac"].copy()
    adata.var["feature_types"] = PEAKS
    with pytest.raises(ValueError, match="Expected RNA features in adata, found 'Peaks'") as error:
        MetaQModel.setup_anndata(adata)
    assert 'modality="atac"' in str(error.value)
    assert (error.value.argument, error.value.value) == ("modality", "atac")
    MetaQModel.setup_anndata(adata, modality="atac")
    exec(str(error.value).partition("if they are RNA: ")[2].rstrip("."), {"adata": adata})
    with pytest.warns(
        UserWarning, match=r"80 of 80 features .*names as of ATAC.*modality=\"atac\""
    ):
        MetaQModel.setup_anndata(adata)


def test_a_modality_with_features_of_several_kinds_is_named(paired):
    mdata = MuData({"rna": joined(paired, "rna", "atac"), "adt": paired["adt"].copy()})
    with pytest.raises(ValueError, match=r"RNA, in mdata\['rna'\], found") as error:
        MetaQModel.setup_mudata(mdata)
    exec(remedies(error.value)[0], {"mdata": mdata})
    MetaQModel.setup_mudata(mdata)
    mdata["adt"].var["feature_types"] = PEAKS
    with pytest.raises(ValueError, match=r"ADT features in mdata\['adt'\].*\"atac_layer\": 'adt'"):
        MetaQModel.setup_mudata(mdata)


def test_names_of_peaks_or_antibodies_among_genes_give_a_warning(paired):
    adata = joined(paired, "rna", "atac")
    del adata.var["feature_types"]
    with pytest.warns(UserWarning, match=r"80 of 140 features in adata.*'chr1:0-500'") as found:
        MetaQModel.setup_anndata(adata)
    assert found[0].filename == __file__
    for name in ("ADT_{}", "CD{}_prot", "anti-CD{}", "CD{} (protein)", "CD{}_TotalSeqB"):
        adata.var_names = [name.format(i) if i > 130 else f"HLA-{i}" for i in range(140)]
        with pytest.warns(UserWarning, match="9 of 140 features .* as of ADT"):
            MetaQModel.setup_anndata(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MetaQModel.setup_anndata(paired["atac"].copy(), modality="atac")


def test_queries_with_other_kinds_are_aligned_by_name_and_never_by_those_of_others(paired, fit):
    model = fit(paired["rna"].copy())
    query = joined(paired, "rna", "adt")
    expected = model.get_assignments()
    mapped = MetaQModel.load_query_data(query, model)
    assert mapped.get_assignments().equals(expected)
    assert model.get_assignments(query).equals(expected)
    # an antibody with the name of a gene that the query lacks
    query = query[:, 1:].copy()
    query.var_names = [*query.var_names[:-1], "gene0"]
    for call in (
        lambda: MetaQModel.load_query_data(query, model),
        lambda: model.get_assignments(query),
    ):
        with pytest.raises(ValueError, match="features of one kind, RNA, in .*'Antibody Capture'"):
            call()
    query.var_names = [*query.var_names[:-1], "gene1"]  # twice
    with pytest.raises(ValueError, match="features of one kind, RNA, in query"):
        MetaQModel.load_query_data(query, model)


def test_kinds_become_modalities_of_the_same_cells_and_others_are_left_out(paired):
    adata = joined(paired, "rna", "adt", "atac")
    adata.layers["raw"], adata.obsm["X_umap"] = adata.X.toarray(), np.zeros((150, 2))
    found = split_modalities(adata)
    for name in ("rna", "adt", "atac"):
        assert (found[name].X != paired[name].X).nnz == 0
        np.testing.assert_array_equal(found[name].layers["raw"], paired[name].X.toarray())
        assert list(found[name].var_names) == list(paired[name].var_names)
    assert found.obs["state"].equals(adata.obs["state"])
    assert "X_umap" in found.obsm
    adata.var["feature_types"] = adata.var["feature_types"].replace(PEAKS, "Custom")
    with pytest.warns(UserWarning, match="left out: 'Custom'"):
        assert list(split_modalities(adata).mod) == ["rna", "adt"]
    for other in (paired["rna"], adata[:, :60].copy()):
        with pytest.raises(ValueError, match="features of several kinds"):
            split_modalities(other)
    with pytest.raises(TypeError, match="Expected an AnnData, found MuData"):
        split_modalities(paired)


def test_features_without_a_kind_give_a_warning_and_numbers_are_names(paired):
    adata = joined(paired, "rna", "adt")
    adata.var["feature_types"] = adata.var["feature_types"].where(adata.var.index < "p")
    with pytest.warns(UserWarning, match="8 features without a value in .*e.g. 'protein0', are"):
        MetaQModel.setup_anndata(adata)
    adata = paired["rna"].copy()
    adata.var.index = pd.RangeIndex(60)
    MetaQModel.setup_anndata(adata)


def test_kinds_of_a_file_on_disk_are_read_by_rows(paired, fit, tmp_path, monkeypatch):
    joined(paired, "rna", "adt").write_h5ad(tmp_path / "cells.h5ad")
    model = fit(paired["rna"].copy())
    lazy = anndata.experimental.read_lazy(tmp_path / "cells.h5ad")
    assert model.get_assignments(lazy).equals(model.get_assignments())
    monkeypatch.setattr("scmetaq.data._files.MOST_IN_MEMORY", 0)
    found = split_modalities(read_files(tmp_path / "cells.h5ad"))
    MetaQModel.setup_mudata(found)
    assert (found["adt"].X[:] != paired["adt"].X).nnz == 0


def test_metrics_of_several_kinds_at_once_give_a_warning(paired):
    adata = joined(paired, "rna", "adt")
    adata.obs["metacell"] = np.arange(150) % 5
    with pytest.warns(UserWarning, match="several kinds in adata are judged as one") as found:
        scmetaq.metrics.evaluate(adata)
    assert pd.Series([str(w.message) for w in found]).str.contains("split_modalities").any()


def test_the_command_line_makes_modalities_of_kinds(run, paired, tmp_path):
    joined(paired, "rna", "adt").write_h5ad(tmp_path / "cells.h5ad")
    words = "--n-metacells", 6, "--max-epochs", 2, "--accelerator", "cpu"
    outcome = run("infer", tmp_path / "cells.h5ad", *words, "--out", tmp_path / "both")
    assert outcome.status == 0, outcome.err
    assert "modalities of the same cells: rna, adt" in outcome.err
    assert (tmp_path / "both" / "metacells.h5mu").exists()
    assert "split_modalities(anndata.read_h5ad" in (tmp_path / "both" / "report.html").read_text()
    outcome = run("map", tmp_path / "cells.h5ad", "--model", tmp_path / "both" / "model", "--out", tmp_path / "mapped")  # fmt: skip  # noqa: E501
    assert outcome.status == 0, outcome.err
    for kind in ("rna", "adt"):
        joined(paired, kind).write_h5ad(tmp_path / f"{kind}.h5ad")
        outcome = run("map", tmp_path / f"{kind}.h5ad", "--model", tmp_path / "both" / "model", "--out", tmp_path / kind)  # fmt: skip  # noqa: E501
        assert outcome.status == 0, outcome.err
        assert list(read_h5mu(tmp_path / kind / "metacells.h5mu").mod) == [kind]
    outcome = run(
        "infer", tmp_path / "cells.h5ad", *words, "--modality", "atac", "--out", tmp_path / "x"
    )
    assert outcome.refuses("No features are ATAC: leave --modality out")
    outcome = run("infer", tmp_path / "adt.h5ad", *words, "--out", tmp_path / "x")
    assert outcome.refuses("found 'Antibody Capture' (8)", "Pass --modality adt.")
