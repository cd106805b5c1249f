"""Columns of every kind that pandas knows, and whether files hold what becomes of them."""

import datetime
import decimal
import enum
import fractions

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from scmetaq import MetaQModel
from scmetaq.data._plain import plain, plain_column, plain_names
from scmetaq.tl import aggregate


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def of_objects(*values):
    """A function of n that makes an array of objects, one value after the other."""

    def make(n):
        found = np.empty(n, object)
        for i in range(n):
            found[i] = values[i % len(values)]
        return found

    return make


def as_dtype(dtype, *values):
    return lambda n: pd.array(list(of_objects(*values)(n)), dtype=dtype)


def category(*values):
    def make(n):
        names = pd.Index(of_objects(*values)(len(values)), tupleize_cols=False)
        return pd.Categorical.from_codes(np.arange(n) % len(values), names)

    return make


DATES = "2024-01-01", "2024-02-01"
DECIMALS = decimal.Decimal("1.5"), decimal.Decimal(2)

KINDS = {
    "text": of_objects("a", "b"),
    "text_with_gaps": of_objects("a", None),
    "nullable_text": as_dtype("string", "a", None),
    "text_nan": of_objects("nan", "x"),
    "empty_text": of_objects("", "x"),
    "zero_in_text": of_objects("a\0b", "c"),
    "surrogate": of_objects("a\ud800", "c"),
    "bool": as_dtype("bool", True, False),
    "bool_with_gaps": of_objects(True, None),
    "nullable_bool": as_dtype("boolean", True, None),
    "int": as_dtype("int64", 1, 2),
    "uint64": as_dtype("uint64", 2**63, 1),
    "nullable_int": as_dtype("Int64", 1, None),
    "big_int": of_objects(2**70, 1),
    "float": as_dtype("float64", 1.0, np.nan),
    "float16": lambda n: np.resize(np.array([1.5, 2.5], np.float16), n),
    "long_double": lambda n: np.resize(np.array([1.5, 2.5], np.longdouble), n),
    "nullable_float": as_dtype("Float64", 1.5, None),
    "complex": as_dtype("complex128", 1 + 2j, 3j),
    "decimal": of_objects(*DECIMALS),
    "fraction": of_objects(fractions.Fraction(1, 2), fractions.Fraction(1, 3)),
    "enum": of_objects(Color.RED, Color.BLUE),
    "sparse": lambda n: pd.arrays.SparseArray(np.arange(n) % 2),
    "sparse_text": lambda n: pd.arrays.SparseArray(of_objects("a", "b")(n), fill_value="a"),
    "dates": lambda n: pd.to_datetime(of_objects(*DATES)(n)),
    "dates_with_zone": lambda n: pd.to_datetime(of_objects(*DATES)(n)).tz_localize("UTC"),
    "python_dates": of_objects(datetime.date(2024, 1, 1), datetime.date(2024, 2, 1)),
    "date_categories": lambda n: pd.Categorical(pd.to_datetime(of_objects(*DATES)(n))),
    "periods": lambda n: pd.PeriodIndex(of_objects("2024-01", "2024-02")(n), freq="M"),
    "period_categories": lambda n: pd.Categorical(KINDS["periods"](n)),
    "durations": lambda n: pd.to_timedelta(of_objects("1D", "2D")(n)),
    "duration_categories": lambda n: pd.Categorical(KINDS["durations"](n)),
    "intervals": lambda n: pd.arrays.IntervalArray.from_tuples(list(of_objects((0, 1), (1, 2))(n))),
    "bins": lambda n: pd.cut(np.arange(n) % 40, 4),
    "mixed": of_objects("T", 1),
    "mixed_categories": category("T", 1),
    "same_as_text": category(1, "1"),
    "int_categories": lambda n: pd.Categorical(np.arange(n) % 2),
    "bool_categories": category(True, False),
    "decimal_categories": category(*DECIMALS),
    "tuples": of_objects((1, 2), (3, 4)),
    "tuple_categories": category((1, 2), (3, 4)),
    "bytes": of_objects(b"a", b"b"),
    "byte_categories": category(b"a", b"b"),
    "lists": of_objects([1], [2]),
    "dicts": of_objects({"a": 1}, {"b": 1}),
    "arrays": of_objects(np.arange(2), np.arange(3)),
    "missing": of_objects(None),
    "missing_categories": lambda n: pd.Categorical([None] * n),
    "unused_categories": lambda n: pd.Categorical(of_objects("a", "b")(n), ["c", "b", "a"]),
}
NO_LABELS = {"missing", "missing_categories"}
WITH_GAPS = {*NO_LABELS, "text_with_gaps", "nullable_text", "bool_with_gaps", "nullable_bool"}
WITH_GAPS |= {"nullable_int", "float", "nullable_float"}
OF_SEVERAL_TYPES = {"mixed", "mixed_categories", "same_as_text"}

ODD_NAMES = ["a/b", "a_b", 0, "0", ("a", "b"), "_index", "", ".", "..", "a\0b", "\\", "zarr.json"]
ODD_NAMES += ["x" * 300, "ab", "n_cells", "metacell", np.nan]


def table(names, kinds=KINDS, odd_names=()):
    """A table with these names of rows, a column of each kind, and columns with odd names."""
    found = pd.DataFrame(index=pd.Index(names))
    for kind in kinds:
        found[kind] = pd.Series(KINDS[kind](len(names))).set_axis(found.index)
    for name in odd_names:
        found[name] = KINDS["text"](len(names))
    return found


def test_a_plain_table_has_no_nullable_text_and_the_same_values():
    names = pd.Index(["a", "b"], dtype="string", name="cell")
    table = pd.DataFrame({"n": [1, 2]}, index=names)
    table["text"] = pd.array(["x", "y"], dtype="string")
    table["gaps"] = pd.array(["x", None], dtype="string")
    table["flag"] = pd.array([True, None], dtype="boolean")
    found = plain(table)
    assert found.index.dtype == found["text"].dtype == object
    assert (list(found.index), found.index.name) == (["a", "b"], "cell")
    assert list(found["text"]) == ["x", "y"]
    assert found["gaps"].cat.codes.tolist() == [0, -1]
    assert (found["n"].dtype, found["flag"].dtype) == (np.int64, "boolean")
    assert table["text"].dtype == table.index.dtype == "string"


def of(kind, n=4):
    return pd.Series(KINDS[kind](n))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bins", ["(-0.039, 9.75]"]),
        ("date_categories", ["2024-01-01", "2024-02-01"]),
        ("dates", ["2024-01-01", "2024-02-01"]),
        ("dates_with_zone", ["2024-01-01 00:00:00+00:00", "2024-02-01 00:00:00+00:00"]),
        ("periods", ["2024-01", "2024-02"]),
        ("durations", ["1 days 00:00:00", "2 days 00:00:00"]),
        ("tuples", ["(1, 2)", "(3, 4)"]),
        ("bytes", ["a", "b"]),
        ("mixed", ["T", "1"]),
        ("mixed_categories", ["T", "1"]),
        ("same_as_text", ["1"]),
        ("zero_in_text", ["ab", "c"]),
        ("surrogate", ["a?", "c"]),
        ("big_int", [str(2**70), "1"]),
        ("sparse", [0, 1]),
        ("float16", [1.5, 2.5]),
        ("bool_with_gaps", [True]),
    ],
)
def test_values_that_files_cannot_hold_become_text_or_numbers(kind, values):
    found = plain_column(of(kind, 40)).dropna()
    assert list(dict.fromkeys(found))[: len(values)] == values
    assert plain_column(plain_column(of(kind))) is not None


@pytest.mark.parametrize("kind", ["text", "int", "bool", "float", "nullable_int", "int_categories"])
def test_values_that_files_hold_stay_the_very_same(kind):
    column = of(kind)
    assert plain_column(column) is column


def test_categories_keep_their_order_and_equal_texts_become_one():
    ordered = pd.Categorical([2, "1", 1, None], [2, "1", 1], ordered=True)
    found = plain_column(pd.Series(ordered, name="x"))
    assert found.cat.categories.tolist() == ["2", "1"]
    assert found.cat.ordered
    assert found.name == "x"
    assert found.cat.codes.tolist() == [0, 1, 1, -1]


def test_names_are_text_and_each_is_there_once():
    found = plain_names(ODD_NAMES)
    assert len(set(found)) == len(ODD_NAMES)
    assert found[:6] == ["a_b", "a_b_", "0", "0_", "('a', 'b')", "_index_"]
    assert max(map(len, found)) <= 150
    own = pd.DataFrame({"x": [1]}, index=pd.Index(["a"], name="x"))
    assert plain(own).index.name is None


def read_again(data, folder):
    """What a file of the data in each format holds."""
    if isinstance(data, mudata.MuData):
        data.write_h5mu(folder / "cells.h5mu")
        return [mudata.read_h5mu(folder / "cells.h5mu")]
    data.write_h5ad(folder / "cells.h5ad")
    data.write_zarr(folder / "cells.zarr")
    return [anndata.read_h5ad(folder / "cells.h5ad"), anndata.read_zarr(folder / "cells.zarr")]


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        pd.testing.assert_series_equal(
            found[name].astype(object).map(str, "ignore"),
            expected[name].astype(object).map(str, "ignore"),
            check_index_type=False,
        )


def test_metacells_of_columns_of_any_kind_and_name_are_written_and_read_again(toy, tmp_path):
    toy.obs = table(toy.obs_names, odd_names=ODD_NAMES)
    toy.var = table(toy.var_names, odd_names=ODD_NAMES).rename_axis(index="text")
    metacells = aggregate(toy, np.arange(150) % 5)
    assert metacells.n_vars == len(metacells.var) == 60
    assert {"bins", "bins_fraction", "date_categories", "same_as_text"} <= set(metacells.obs)
    for found in read_again(metacells, tmp_path):
        assert_same(found.obs, metacells.obs)
        assert_same(found.var, metacells.var)
    mdata = mudata.MuData({"rna": toy})
    mdata.obs = table(toy.obs_names, odd_names=ODD_NAMES)
    (found,) = read_again(aggregate(mdata, np.arange(150) % 5), tmp_path)
    assert {"bins", "a_b"} <= set(found.obs)
    assert {"bins", "a_b"} <= set(found["rna"].obs)


def test_labels_of_any_kind_are_predicted_and_are_the_majorities_of_metacells(toy, fit, tmp_path):
    """None that is named is lost, and both names of a label are the same."""
    keys = [kind for kind in KINDS if kind not in NO_LABELS]
    toy.obs = table(toy.obs_names, keys)
    model = fit(toy, setup={"labels_key": keys})
    predicted, metacells = model.predict_labels(), model.get_metacells()
    for key in keys:
        names = {str(name).removesuffix(".0") for name in metacells.obs[key].dropna()}
        assert names <= set(predicted[key]), key
        assert metacells.obs[f"{key}_fraction"].notna().any(), key
    read_again(metacells, tmp_path)


def test_conditions_of_any_kind_are_those_of_metacells_and_of_a_loaded_model(toy, fit, tmp_path):
    refused = {"bins"} | WITH_GAPS | OF_SEVERAL_TYPES
    keys = [kind for kind in KINDS if kind not in refused]
    toy.obs = table(toy.obs_names, [*keys, "bins"])
    before = toy.obs.copy()
    model = fit(toy, setup={"batch_key": "bins", "categorical_covariate_keys": keys})
    pd.testing.assert_frame_equal(toy.obs[list(before)], before)  # the user's own are as they were
    metacells = model.get_metacells()
    assert set(keys) <= set(metacells.obs)
    read_again(metacells, tmp_path)
    model.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", toy)
    assert loaded.get_assignments().equals(model.get_assignments())
    query = MetaQModel.load_query_data(toy[:40].copy(), model)
    assert not any(query.new_conditions.values())
    for of_key in model.get_condition_embeddings().values():
        assert of_key.obs["n_cells"].sum() == 150


@pytest.mark.parametrize("argument", ["labels_key", "batch_key"])
def test_infinity_and_names_of_several_columns_are_refused(toy, argument):
    toy.obs["x"] = np.resize([1.0, np.inf], 150)
    with pytest.raises(ValueError, match=r"whole numbers in adata.obs\['x'\], found an infinite"):
        MetaQModel.setup_anndata(toy, **{argument: "x"})
    toy.obs = pd.concat([toy.obs[["state"]], toy.obs[["state"]]], axis=1)
    with pytest.raises(ValueError, match=r"one column 'state' in adata.obs, found several"):
        MetaQModel.setup_anndata(toy, **{argument: "state"})


def test_labels_of_arrow_are_not_lost(toy, fit, tmp_path):
    pa = pytest.importorskip("pyarrow")
    kind = pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))
    toy.obs["kind"] = pd.Series(np.resize(["a", "b"], 150), toy.obs_names).astype(kind)
    for setup in ({"labels_key": "kind"}, {"batch_key": "kind"}):
        metacells = fit(toy.copy(), setup=setup).get_metacells()
        assert {"kind", "kind_fraction"} <= set(metacells.obs)
        read_again(metacells, tmp_path)
