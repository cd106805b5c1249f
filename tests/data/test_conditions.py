import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq.data._conditions import Condition, check_categories, check_conditions


@pytest.fixture
def cells(toy):
    toy.obs["donor"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(150) % 3])
    toy.obs["lane"] = np.arange(150) % 2
    return toy


def test_good_columns_pass(cells):
    check_conditions(cells, "donor", ["lane"])
    check_conditions(cells, None, None)


def test_bad_columns_are_refused(cells):
    cells.obs["one"] = "x"
    cells.obs["barcode"] = cells.obs_names
    cells.obs["gaps"] = cells.obs["donor"].where(np.arange(150) > 3)
    for batch_key, covariates, error, message in (
        ("dono", None, KeyError, "No column 'dono'.*'donor'"),
        ("donor", "lane", TypeError, r"Pass \['lane'\]"),
        ("donor", ["donor"], ValueError, "each condition once, found 'donor'"),
        ("one", None, ValueError, "at least two categories.*found 1"),
        ("barcode", None, ValueError, "150 different values for 150 cells"),
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
    with pytest.raises(KeyError, match="No column 'plate' in the new cells"):
        check_categories(cells, [Condition("plate", ["x"], None)])
