import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq.data._cells import Condition, Source, raw_counts
from scmetaq.data._query import align, align_conditions, new_categories, with_features


def aligned(adata, names, lacking=None):
    lack = None if lacking is None else {"rna": lacking}
    own, missing = align(adata, {"rna": Source(None, None)}, {"rna": names}, lacking=lack)
    return own, missing["rna"]


def with_modality_features(mdata, features, **layers):
    sources = {name: Source(name, layers.get(name)) for name in features}
    return with_features(mdata, sources, features)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_columns_are_put_where_they_belong(toy, form):
    names = pd.Index(["none", *toy.var_names[[5, 3, 9]], "gone"])
    cells = toy.copy()
    cells.X = form(toy.X.toarray())
    own, missing = aligned(cells, names)
    assert list(own.var_names) == list(names)
    assert list(missing) == ["none", "gone"]
    expected = np.zeros((150, 5))
    expected[:, 1:4] = toy.X.toarray()[:, [5, 3, 9]]
    np.testing.assert_array_equal(own.X.toarray(), expected)
    pd.testing.assert_frame_equal(own.obs, toy.obs)


def test_counts_are_shared_where_nothing_is_to_be_done_and_features_may_be_left_out(toy):
    own, missing = aligned(toy, toy.var_names)
    assert np.shares_memory(own.X.data, toy.X.data)
    assert not len(missing)
    own.obs["more"] = 1
    assert "more" not in toy.obs
    own, missing = aligned(toy, toy.var_names, lacking=toy.var_names[:2])
    assert list(missing) == list(toy.var_names[:2])
    assert own.X[:, :2].nnz == 0
    assert (own.X[:, 2:] != toy.X[:, 2:]).nnz == 0


def test_columns_on_disk_and_what_belongs_to_features_follow_their_order(toy, tmp_path):
    toy.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    own, _ = aligned(backed, toy.var_names[::-1])
    assert (toy.X[:, ::-1] != raw_counts(own, None)[:]).nnz == 0
    assert (toy.X[3:9, ::-1] != own.X[3:9]).nnz == 0
    toy.varm["loadings"] = np.arange(120.0).reshape(60, 2)
    sources, names = {"rna": Source(None, None)}, toy.var_names[::-1]
    found = with_features(toy, sources, {"rna": names})
    np.testing.assert_array_equal(found.varm["loadings"], toy.varm["loadings"][::-1])
    assert (toy.X[:, ::-1] != found.X).nnz == 0


def test_cells_without_features_lack_all_and_other_objects_are_refused(toy):
    own, missing = aligned(AnnData(np.zeros((3, 0))), toy.var_names)
    assert own.shape == (3, 60)
    assert len(missing) == 60
    with pytest.raises(TypeError, match="Expected an AnnData, found list.*query = anndata"):
        aligned([], pd.Index(["a"]))
    with pytest.raises(ValueError, match=r"unique feature names.*query\.var_names_make_unique"):
        aligned(toy[:, [0, 0, 1]].copy(), toy.var_names)


def test_features_get_the_order_of_the_model_and_mosaic_cells_keep_theirs(toy_mdata, mosaic):
    features = {name: toy_mdata[name].var_names for name in ("rna", "adt")}
    assert with_modality_features(toy_mdata, features) is toy_mdata
    other = MuData({k: toy_mdata[k][:, ::-1].copy() for k in ("adt", "rna")})
    other.obs["state"] = toy_mdata.obs["state"]
    found = with_modality_features(other, features)
    for name, expected in features.items():
        pd.testing.assert_index_equal(found[name].var_names, expected)
        assert abs(found[name].X - toy_mdata[name].X).max() == 0
    assert found.obs["state"].equals(toy_mdata.obs["state"])
    assert other["rna"].var_names[0] == "gene59"
    mosaic.obs["rna:batch"] = "one"
    features = {name: mosaic[name].var_names[::-1] for name in mosaic.mod}
    found = with_modality_features(mosaic, features)
    pd.testing.assert_index_equal(found.obs_names, mosaic.obs_names)
    assert (found.obs["rna:batch"] == "one").all()


def test_a_missing_modality_has_no_cells_and_missing_features_are_refused(toy_mdata):
    features = {name: toy_mdata[name].var_names for name in ("rna", "adt")}
    found = with_modality_features(MuData({"rna": toy_mdata["rna"]}), features, adt="counts")
    pd.testing.assert_index_equal(found.obs_names, toy_mdata.obs_names)
    pd.testing.assert_index_equal(found["adt"].var_names, features["adt"])
    assert found["adt"].layers["counts"].shape == (0, 8)
    assert abs(found["rna"].X - toy_mdata["rna"].X).max() == 0
    with pytest.raises(ValueError, match="modality that the model.*'rna', 'adt', found 'atac'"):
        with_modality_features(MuData({"atac": toy_mdata["atac"]}), features)
    few = MuData({"rna": toy_mdata["rna"], "adt": toy_mdata["adt"][:, 1:].copy()})
    with pytest.raises(ValueError, match="found only 7 of them: 1 are missing"):
        with_modality_features(few, features)


def cells(values):
    return AnnData(obs=pd.DataFrame({"batch": values}, index=[f"c{i}" for i in range(len(values))]))


@pytest.mark.parametrize(
    ("known", "values", "expected"),
    [
        (["1", "2"], [1, 2, 3, 3], ["1", "2", "3", "3"]),
        (["1", "2"], [1.0, 2.0, 2.0, 3.0], ["1", "2", "2", "3"]),
        ([1, 2], ["1", "2", "2", "3"], [1, 2, 2, 3]),
        (["a", "b"], pd.Categorical(["b", "a", "a", "c"]), ["b", "a", "a", "c"]),
        ([True, False], [True, False, True, True], [True, False, True, True]),
        ([True, False], ["True", "False"] * 2, [True, False, True, False]),
        ([1, 2], pd.Categorical([1.0, 2.0, 2.0, 3.0]), [1, 2, 2, 3]),
        ([1, 2], ["1.0", "2.0", "2.0", "3.0"], [1, 2, 2, 3]),
        ([0.5, 1.0], ["0.50", "1", "1.0", "1.00"], [0.5, 1.0, 1.0, 1.0]),
    ],
)
def test_values_are_known_by_how_they_are_written(known, values, expected):
    data, conditions = cells(values), [Condition("batch", known, None)]
    align_conditions(data, conditions)
    assert data.obs["batch"].tolist() == expected


def test_new_ones_are_named_as_the_documented_fix_says_and_small_ones_warned_about():
    data, conditions = cells(["a"] * 5 + ["c"] * 12 + ["b"] * 2), [Condition("batch", ["a"], None)]
    align_conditions(data, conditions)
    with pytest.warns(UserWarning, match="1 new categories of 'batch'.*'b' with 2"):
        assert new_categories(data, conditions) == {"batch": ["b", "c"]}
    data, conditions = cells(["a"] * 12), [Condition("donor", [0, 1, 4], None)]
    with pytest.raises(KeyError, match=r"query\.obs\['donor'\] = 5\.") as error:
        align_conditions(data, conditions)
    exec(str(error.value).split("one new category: ")[1].removesuffix("."), {"query": data})
    align_conditions(data, conditions)
    assert new_categories(data, conditions) == {"donor": [5]}


def test_conditions_that_cells_lack_or_do_not_share_are_refused():
    both = MuData({"rna": cells(["a", "b"]), "adt": cells(["a", "b"])})
    some = MuData({"rna": cells(["a", "b"])[:1].copy(), "adt": cells(["a", "b"])})
    of_cells, text = ["a", "b"], "'batch' of new cells to be bool.*found"
    for data, condition, error, match in (
        (cells(np.linspace(0, 1, 20)), ("batch", of_cells, None), ValueError, "20 new values for"),
        (some, ("batch", of_cells, "rna"), ValueError, "'rna', which 1 of 2 new cells lack"),
        (both, ("donor", of_cells, "rna"), KeyError, r"'donor' in query\['rna'\]\.obs"),
        (both, ("donor", of_cells, None), KeyError, r"No column 'donor' in query\.obs"),
        *((cells([new] * 20), ("batch", [False, True], None), ValueError, text) for new in "m3"),
        (cells([2] * 20), ("batch", [False, True], None), ValueError, text),
        (cells(["a"] * 12), ("donor", [False, True], None), KeyError, "^(?!.*new category)"),
    ):
        with pytest.raises(error, match=match):
            align_conditions(data, [Condition(*condition)])
