import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq import MetaQModel
from scmetaq.data._cells import Condition
from scmetaq.data._columns import (
    check_categories,
    check_columns,
    check_conditions,
    check_labels,
    read_labels,
    same_names,
    without_unused_categories,
)


def test_columns_without_values_and_unknown_ones_are_refused(toy):
    toy.obs.loc[toy.obs_names[:100], "state"] = np.nan
    # a comparison of nullable text with nothing is neither true nor false
    toy.obs["batch"] = pd.array(["x", "y", "z"] * 50, dtype="string")
    check_columns(toy, ["state", "depth", "batch"])
    with pytest.raises(KeyError, match="No column 'cell_type' in adata.obs.*'state', 'depth'"):
        check_columns(toy, ["state", "cell_type"])
    for empty in (pd.Categorical([None] * 150, ["B"]), pd.array([pd.NA] * 150, dtype="string")):
        toy.obs["batch"] = empty
        with pytest.raises(ValueError, match=r"All values of adata.obs\['batch'\] are missing"):
            check_columns(toy, ["batch"])


def test_labels_are_read(toy, mosaic):
    toy.obs["kind"] = pd.Series(["b", "a", None, "Unknown", "b"] * 30, index=toy.obs_names)
    names, codes = read_labels(toy, "kind", "Unknown")
    assert names == ["a", "b"]
    np.testing.assert_array_equal(codes, [1, 0, -1, -1, 1] * 30)
    names, codes = read_labels(toy, "none", "Unknown")
    assert names == []
    assert (codes == -1).all()
    mosaic["adt"].obs["kind"] = "a"
    names, codes = read_labels(mosaic, "kind", "Unknown", "adt")
    assert names == ["a"]
    np.testing.assert_array_equal(codes, [-1] * 50 + [0] * 100)
    toy.obs["kind"] = [2, 10, -1] * 50
    names, codes = read_labels(toy, "kind", "-1")
    assert names == ["10", "2"]
    np.testing.assert_array_equal(codes, [1, 0, -1] * 50)
    for same in (-1, -1.0):
        np.testing.assert_array_equal(read_labels(toy, "kind", same).codes, codes)
    toy.obs["kind"] = toy.obs["kind"].astype(float).replace(10, np.nan)
    names, codes = read_labels(toy, "kind", "-1")
    assert names == ["2"]  # which a missing value has made a decimal number
    np.testing.assert_array_equal(codes, [0, -1, -1] * 50)
    toy.obs["kind"] = [0.5, 1.0, 2.25] * 50
    assert read_labels(toy, "kind", "Unknown").names == ["0.5", "1", "2.25"]


@pytest.mark.parametrize(
    ("labels_key", "error", "message"),
    [
        (3, TypeError, "name of a column or a list"),
        (["state", "state"], ValueError, "each labels_key once, found 'state'"),
        ("kind", KeyError, "No column 'kind'"),
        (["state", "nothing"], ValueError, "All values of adata.obs..nothing.. are missing"),
        ("empty", ValueError, "All values of adata.obs..empty.. are missing"),
        ("barcode", ValueError, "found 150 different values"),
        (["state", "single"], ValueError, "labels that cells share, found 1 different values"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(toy, labels_key, error, message):
    toy.obs["nothing"], toy.obs["empty"] = "Unknown", np.nan
    toy.obs["single"] = pd.Series(["a"], index=toy.obs_names[:1]).reindex(toy.obs_names)
    toy.obs["barcode"] = toy.obs_names
    with pytest.raises(error, match=message):
        MetaQModel.setup_anndata(toy, labels_key=labels_key)
    assert "_scvi_uuid" not in toy.uns


def test_labels_of_the_mudata_or_of_a_modality(toy_mdata):
    with pytest.raises(KeyError, match="No column 'kind' in mdata..adt...obs"):
        check_labels(toy_mdata, "kind", "Unknown", "adt")
    check_labels(toy_mdata, "state", "Unknown")
    toy_mdata["rna"].obs["kind"] = ["a", "b", "c"] * 50
    check_labels(toy_mdata, "kind", "Unknown", "rna")
    with pytest.raises(KeyError, match=r"No column 'kind' in mdata\.obs"):
        check_labels(toy_mdata, "kind", "Unknown")


@pytest.fixture
def cells(toy):
    toy.obs["donor"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(150) % 3])
    toy.obs["lane"] = np.arange(150) % 2
    return toy


def test_conditions_of_one_or_more_categories_pass_and_bad_columns_are_refused(cells):
    check_conditions(cells, "donor", ["lane"])
    check_conditions(cells, None, None)
    cells.obs["one"] = "x"
    check_conditions(cells, "one", None)
    check_conditions(cells[:1].copy(), "one", None)
    cells.obs["barcode"] = cells.obs_names
    cells.obs["mixed"] = pd.Series([1, "a"] * 75, cells.obs_names, dtype=object)
    cells.obs["gaps"] = cells.obs["donor"].where(np.arange(150) > 3)
    for batch_key, covariates, error, message in (
        ("dono", None, KeyError, "No column 'dono'.*'donor'"),
        ("donor", "lane", TypeError, r"Pass \['lane'\]"),
        ("donor", ["donor"], ValueError, "each condition once, found 'donor'"),
        ("barcode", None, ValueError, "150 different values for 150 cells"),
        (["donor"], None, TypeError, r"name of a column, found \['donor'\]"),
        (None, ("donor",), TypeError, r"a list of columns, found \('donor',\), a tuple"),
        ("mixed", None, TypeError, r"one type in adata.obs\['mixed'\].*astype\(str\)"),
        (None, ["gaps"], ValueError, r"4 missing values in adata.obs\['gaps'\].*\"unknown\""),
    ):
        with pytest.raises(error, match=message):
            check_conditions(cells, batch_key, covariates)


def test_conditions_of_a_modality_and_of_new_cells(cells, mosaic):
    mdata = MuData({"rna": cells})
    check_conditions(mdata, "donor", None, modalities={"batch_key": "rna"})
    with pytest.raises(KeyError, match=r"No column 'donor' in mdata\.obs"):
        check_conditions(mdata, "donor", None)
    mosaic["adt"].obs["donor"] = np.array(["a", "b"])[np.arange(100) % 2]
    with pytest.raises(ValueError, match=r"all 150 cells, found 100 cells.*mdata\['adt'\]"):
        check_conditions(mosaic, "donor", None, modalities={"batch_key": "adt"})
    check_categories(cells, [Condition("donor", ["a", "b", "c"], None)])
    check_categories(cells, [Condition("lane", [0, 1], None)])
    check_categories(MuData({"rna": cells}), [Condition("donor", ["a", "b", "c"], "rna")])
    with pytest.raises(ValueError, match=r"'donor'.*2 categories.*\(a, b\), found 'c'"):
        check_categories(cells, [Condition("donor", ["a", "b"], None)])
    cells.obs["lane"] = cells.obs["lane"].astype(str)
    with pytest.raises(ValueError, match=r"'lane' of new cells as int, .* found '0'.*Convert"):
        check_categories(cells, [Condition("lane", [0, 1], None)])
    with pytest.raises(KeyError, match=r"No column 'plate' in adata\.obs"):
        check_categories(cells, [Condition("plate", ["x"], None)])
    with pytest.raises(ValueError, match="modality 'adt', which 50 of 150 new cells lack"):
        check_categories(mosaic, [Condition("donor", ["a", "b"], "adt")])


def test_categories_without_a_cell_are_hidden_for_a_while_and_views_stay_views(cells):
    cells.obs["donor"] = (
        cells.obs["donor"].cat.add_categories(["d"]).cat.reorder_categories(["d", "c", "b", "a"])
    )
    before = cells.obs.copy()
    keys = {"batch_key": ["donor"], "categorical_covariate_keys": ["lane"]}
    with without_unused_categories(cells, keys, {}):
        assert cells.obs["donor"].cat.categories.tolist() == ["c", "b", "a"]
        assert cells.obs["donor"].astype(str).equals(before["donor"].astype(str))
    pd.testing.assert_frame_equal(cells.obs, before)
    with pytest.raises(KeyError), without_unused_categories(cells, keys, {}):
        raise KeyError
    pd.testing.assert_frame_equal(cells.obs, before)
    part = MuData({"rna": cells})
    part.obs["donor"] = cells.obs["donor"]
    view = part[:50]
    with without_unused_categories(view, {"batch_key": ["donor"]}, {}):
        assert view.is_view


def test_names_are_the_same_whatever_their_type():
    names = pd.Index(["a", "b"], dtype="string")
    assert same_names(names, pd.Index(["a", "b"], dtype=object))
    assert same_names(pd.Index(["a", "b"], dtype=object), names)
    assert not same_names(names, pd.Index(["b", "a"], dtype=object))
    assert not same_names(names, pd.Index(["a"], dtype=object))
