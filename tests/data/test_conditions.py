import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq.data._conditions import (
    Condition,
    check_categories,
    check_conditions,
    without_unused_categories,
)


@pytest.fixture
def cells(toy):
    toy.obs["donor"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(150) % 3])
    toy.obs["lane"] = np.arange(150) % 2
    return toy


def test_good_columns_pass(cells):
    check_conditions(cells, "donor", ["lane"])
    check_conditions(cells, None, None)


def test_one_category_is_a_condition_too(cells):
    cells.obs["one"] = "x"
    check_conditions(cells, "one", None)
    check_conditions(cells[:1].copy(), "one", None)


def test_bad_columns_are_refused(cells):
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


def test_columns_of_a_modality(cells, mosaic):
    mdata = MuData({"rna": cells})
    check_conditions(mdata, "donor", None, modalities={"batch_key": "rna"})
    with pytest.raises(KeyError, match=r"No column 'donor' in mdata\.obs"):
        check_conditions(mdata, "donor", None)
    mosaic["adt"].obs["donor"] = np.array(["a", "b"])[np.arange(100) % 2]
    with pytest.raises(ValueError, match=r"all 150 cells, found 100 cells.*mdata\['adt'\]"):
        check_conditions(mosaic, "donor", None, modalities={"batch_key": "adt"})


def test_new_cells_of_known_conditions_pass(cells):
    check_categories(cells, [Condition("donor", ["a", "b", "c"], None)])
    check_categories(cells, [Condition("lane", [0, 1], None)])
    check_categories(MuData({"rna": cells}), [Condition("donor", ["a", "b", "c"], "rna")])


def test_new_conditions_are_told(cells):
    with pytest.raises(ValueError, match=r"'donor'.*2 categories.*\(a, b\), found 'c'"):
        check_categories(cells, [Condition("donor", ["a", "b"], None)])
    cells.obs["lane"] = cells.obs["lane"].astype(str)
    with pytest.raises(ValueError, match=r"'lane' of new cells as int, .* found '0'.*Convert"):
        check_categories(cells, [Condition("lane", [0, 1], None)])
    with pytest.raises(KeyError, match=r"No column 'plate' in adata\.obs"):
        check_categories(cells, [Condition("plate", ["x"], None)])


def test_categories_without_a_cell_are_hidden_for_a_while(cells):
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


def test_new_cells_that_lack_the_modality_of_a_condition(mosaic):
    known = [Condition("donor", ["a", "b"], "adt")]
    mosaic["adt"].obs["donor"] = np.array(["a", "b"])[np.arange(100) % 2]
    with pytest.raises(ValueError, match="modality 'adt', which 50 of 150 new cells lack"):
        check_categories(mosaic, known)


def test_the_view_of_a_user_stays_a_view(cells):
    cells.obs["donor"] = cells.obs["donor"].cat.add_categories(["d"])
    part = MuData({"rna": cells})
    part.obs["donor"] = cells.obs["donor"]
    view = part[:50]
    with without_unused_categories(view, {"batch_key": ["donor"]}, {}):
        assert view.is_view
