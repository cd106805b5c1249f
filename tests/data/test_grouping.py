"""Features, or an embedding, that the user chooses."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import scmetaq
from scmetaq.data._cells import Source
from scmetaq.data._grouping import check_embedding, find_features, may_be_read

ONE = {"rna": Source(None, None)}


@pytest.fixture
def adata():
    var = pd.DataFrame({"hv": [True, False, True], "text": list("abc")}, index=["A", "B", "C"])
    return AnnData(np.ones((4, 3), np.float32), var=var)


def test_a_column_or_a_list_names_features(adata):
    for given in ("hv", ["C", "A"], {"rna": ["A", "C"]}, pd.Index(["A", "C"])):
        assert find_features(adata, ONE, given, "features", "adata") == {"rna": ["A", "C"]}
    assert find_features(adata, ONE, None, "features", "adata") is None


def test_features_of_a_mudata_are_those_of_the_modalities_that_have_them(adata):
    other = AnnData(np.ones((4, 2), np.float32), var=pd.DataFrame(index=["p", "q"]))
    mdata = MuData({"rna": adata, "adt": other})
    sources = {kind: Source(kind, None) for kind in ("rna", "adt")}
    assert find_features(mdata, sources, "hv", "features", "mdata") == {"rna": ["A", "C"]}
    found = find_features(mdata, sources, ["B", "q"], "features", "mdata")
    assert found == {"rna": ["B"], "adt": ["q"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no", "No column 'no' in adata.var for features. Columns there: 'hv', 'text'"),
        ("text", "'text' of var to be boolean"),
        (["A", "X"], "found 1 unknown, e.g. 'X'. Features are called 'A', 'B', 'C'"),
        ([], "to name features, found none"),
    ],
)
def test_what_names_no_features_is_refused(adata, given, message):
    with pytest.raises((KeyError, TypeError, ValueError), match=message):
        find_features(adata, ONE, given, "features", "adata")


def test_the_remedy_for_unknown_features_works(adata):
    features = ["A", "X"]
    with pytest.raises(KeyError) as error:
        find_features(adata, ONE, features, "features", "adata")
    code = error.value.fix.partition(": ")[2].rstrip(".")
    known = eval(code, {"features": features, "adata": adata})
    assert find_features(adata, ONE, known, "features", "adata") == {"rna": ["A"]}


def test_excluded_features_are_not_read():
    names = pd.Index(list("abcd"))
    assert may_be_read(names, None, None) is None
    assert may_be_read(names, ["a", "b"], ["b"]).tolist() == [True, False, False, False]
    assert may_be_read(names, None, ["d"]).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.full((4, 2), np.nan), "a matrix of finite numbers"),
        (np.ones((4, 2)), "to differ between cells"),
        (np.array([["a"]] * 4), "a matrix of finite numbers"),
    ],
)
def test_what_is_no_embedding_is_refused(adata, rows, message):
    adata.obsm["X_rep"] = rows
    with pytest.raises(ValueError, match=message):
        check_embedding(adata, "X_rep", "adata")
    with pytest.raises(KeyError, match="No embedding 'X_no' in adata.obsm"):
        check_embedding(adata, "X_no", "adata")


def trained(adata, **setup):
    scmetaq.MetaQModel.setup_anndata(adata, **setup)
    model = scmetaq.MetaQModel(adata, 8)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model


def test_cells_are_grouped_by_the_features_that_are_named(blood):
    adata = blood.copy()
    chosen = adata.var_names[::2]
    adata.var["mine"] = adata.var_names.isin(chosen)
    model = trained(adata, features="mine", exclude_features=chosen[:50].tolist())
    part = model.module.parts["rna"]
    for read in (part.feature_scaling, part.linear_path):
        assert set(adata.var_names[read.features.numpy()]) == set(chosen[50:])
    assert model.get_metacells().n_vars == adata.n_vars


def test_excluded_features_change_no_metacell(blood):
    """Genes of a process that halves the cells: excluded, they split no metacell."""
    adata = blood.copy()
    genes, cycling = adata.var_names[:100], np.arange(adata.n_obs) % 2 == 0
    counts = adata.X.toarray()
    counts[np.ix_(cycling, np.arange(100))] += 20
    counts[np.ix_(~cycling, np.arange(100, 200))] += 20  # of equal depth
    adata.X = counts
    adata.var["process"] = np.arange(adata.n_vars) < 200
    assert len(genes) == 100
    purity = {}
    for excluded in (None, "process"):
        model = trained(adata.copy(), exclude_features=excluded)
        metacell = model.get_assignments()["metacell"]
        purity[excluded] = scmetaq.metrics.purity(metacell, cycling.astype(str)).mean()
    assert purity[None] > 0.95
    assert purity["process"] < 0.75


def test_metacells_of_an_embedding_are_its_own_and_new_cells_bring_it(blood, tmp_path):
    adata, rng = blood.copy(), np.random.default_rng(0)
    group = np.arange(adata.n_obs) % 8
    centres = 50 * rng.normal(size=(8, 5))
    adata.obsm["X_mine"] = centres[group] + 0.1 * rng.normal(size=(adata.n_obs, 5))
    before = adata.obsm["X_mine"].copy()
    model = trained(adata, use_rep="X_mine")
    metacell = model.get_assignments()["metacell"]
    assert metacell.nunique() == 8
    assert (pd.crosstab(metacell, group) > 0).sum(1).eq(1).all()
    np.testing.assert_array_equal(adata.obsm["X_mine"], before)
    z = model.get_latent_representation()
    scale = z[0, 0] / before[0, 0]
    np.testing.assert_allclose(z, before * scale, rtol=1e-4)
    assert z.var(0).sum() == pytest.approx(1, rel=1e-3)
    assert model.get_quantization_report()["reconstruction_ratio"] > 0.5
    model.save(tmp_path / "model")
    new = blood[:50].copy()
    new.obsm["X_mine"] = before[:50]
    loaded = scmetaq.MetaQModel.load(tmp_path / "model", False)
    pd.testing.assert_series_equal(loaded.get_assignments(new)["metacell"], metacell[:50])
    query = scmetaq.MetaQModel.load_query_data(new[:, 10:].copy(), tmp_path / "model")
    pd.testing.assert_series_equal(query.get_assignments()["metacell"], metacell[:50])
    with pytest.raises(KeyError, match="No embedding 'X_mine' in adata.obsm"):
        loaded.get_assignments(blood[:50].copy())
    new.obsm["X_mine"] = before[:50, :4]
    with pytest.raises(ValueError, match="with the 5 dimensions of the model's, found 4"):
        loaded.get_assignments(new)


def test_embeddings_are_for_metaq_alone_and_its_default_recipe(blood):
    adata = blood.copy()
    adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    with pytest.raises(ValueError, match="SCPoli learns an embedding and takes none"):
        scmetaq.SCPoli.setup_anndata(adata, use_rep="X_mine")
    scmetaq.MetaQModel.setup_anndata(adata, use_rep="X_mine")
    with pytest.raises(ValueError, match="the default recipe without modality_weights"):
        scmetaq.MetaQModel(adata, 8, recipe="published")
