import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from scmetaq.data._conditions import Condition
from scmetaq.data._query_conditions import align_conditions, new_categories


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


def test_new_ones_are_named_and_small_ones_warned_about():
    data, conditions = cells(["a"] * 5 + ["c"] * 12 + ["b"] * 2), [Condition("batch", ["a"], None)]
    align_conditions(data, conditions)
    with pytest.warns(UserWarning, match="1 new categories of 'batch'.*'b' with 2"):
        assert new_categories(data, conditions) == {"batch": ["b", "c"]}


def test_a_column_without_categories():
    conditions = [Condition("batch", ["a", "b"], None)]
    with pytest.raises(ValueError, match="found 20 new values for 20 cells"):
        align_conditions(cells(np.linspace(0, 1, 20)), conditions)


def test_a_condition_of_a_modality_that_cells_lack():
    parts = {"rna": cells(["a", "b"])[:1].copy(), "adt": cells(["a", "b"])}
    conditions = [Condition("batch", ["a", "b"], "rna")]
    with pytest.raises(ValueError, match="'batch' from .* 'rna', which 1 of 2 new cells lack"):
        align_conditions(MuData(parts), conditions)


def test_no_third_truth_value_is_advised():
    with pytest.raises(KeyError) as error:
        align_conditions(cells(["a"] * 12), [Condition("donor", [False, True], None)])
    assert "new category" not in str(error.value)


def test_where_a_column_is_looked_for_is_told():
    both = MuData({"rna": cells(["a", "b"]), "adt": cells(["a", "b"])})
    with pytest.raises(KeyError, match=r"No column 'donor' in query\['rna'\]\.obs"):
        align_conditions(both, [Condition("donor", ["a", "b"], "rna")])
    with pytest.raises(KeyError, match=r"No column 'donor' in query\.obs"):
        align_conditions(both, [Condition("donor", ["a", "b"], None)])


@pytest.mark.parametrize("new", ["maybe", "3", 2])
def test_a_truth_value_has_no_third(new):
    conditions = [Condition("batch", [False, True], None)]
    with pytest.raises(ValueError, match="'batch' of new cells to be bool.*found"):
        align_conditions(cells([new] * 20), conditions)


def test_the_way_told_for_a_missing_column_leads_there():
    data, conditions = cells(["a"] * 12), [Condition("donor", [0, 1, 4], None)]
    with pytest.raises(KeyError, match=r"query\.obs\['donor'\] = 5\.") as error:
        align_conditions(data, conditions)
    exec(str(error.value.args[0]).split("one new category: ")[1].removesuffix("."), {"query": data})
    align_conditions(data, conditions)
    assert new_categories(data, conditions) == {"donor": [5]}
