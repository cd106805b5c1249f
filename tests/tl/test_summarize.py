import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmetaq.tl import aggregate
from scmetaq.tl._summarize import (
    combinations,
    find_covariates,
    in_small_pieces,
    join_small_pieces,
    log_counts,
    mean_rows,
    split_metacells,
    sum_rows,
    summarize_obs,
)


def summarize(metacells, **columns):
    return summarize_obs(pd.DataFrame(columns), pd.Categorical(metacells))


def test_majority_and_fraction_agree_with_pandas():
    rng = np.random.default_rng(0)
    metacells = pd.Series(rng.choice(list("klmno"), 300))
    labels = pd.Series(rng.choice(["x", "y", "z"], 300, p=[0.6, 0.3, 0.1]))
    found = summarize(metacells, label=labels)
    shares = pd.crosstab(metacells, labels, normalize="index")
    assert found["label"].tolist() == shares.idxmax(axis=1).tolist()
    np.testing.assert_allclose(found["label_fraction"], shares.max(axis=1))
    np.testing.assert_array_equal(found["n_cells"], metacells.value_counts().sort_index())


def test_ties_go_to_the_first_category_and_missing_is_the_majority_only_of_all_missing():
    labels = pd.Categorical(["T", "B", "B", "T"], categories=["T", "B", "NK"], ordered=True)
    found = summarize(["m", "m", "n", "n"], label=labels)["label"]
    assert found.tolist() == ["T", "T"]
    assert found.dtype == labels.dtype
    assert summarize(["m", "m"], label=["T", "B"])["label"].tolist() == ["B"]
    labels = pd.Series(["T", None, None, None, None], dtype="category")
    found = summarize(["m", "m", "m", "n", "n"], label=labels)
    assert found.loc["m", "label"] == "T"
    assert found.loc["m", "label_fraction"] == 1
    assert found.loc["n"].isna()[["label", "label_fraction"]].all()
    # booleans stay boolean
    found = summarize(["m", "m", "m", "n"], flag=[True, True, False, False])
    assert found["flag"].dtype == bool
    assert found["flag"].tolist() == [True, False]
    assert found["flag_fraction"].tolist() == pytest.approx([2 / 3, 1])


def test_means_leave_out_missing_values_and_own_columns_win_over_the_users():
    found = summarize(["m", "m", "n", None], depth=[1.0, np.nan, np.nan, 7.0], size=[1, 3, 5, 9])
    assert found["depth"].iloc[0] == 1
    assert np.isnan(found["depth"].iloc[1])
    assert found["size"].tolist() == [2, 5]
    found = summarize(["m", "m"], n_cells=[7, 7], label=["T", "T"], label_fraction=[0.2, 0.2])
    assert found["n_cells"].tolist() == [2]
    assert found["label_fraction"].tolist() == [1]
    found = summarize(["m", "n"], day=pd.to_datetime(["2024-01-01"] * 2), thing=[{}, []])
    assert found.columns.tolist() == ["n_cells"]
    found = summarize_obs(pd.DataFrame(index=range(3)), pd.Categorical(["m", "n", "m"]))
    assert found["n_cells"].tolist() == [2, 1]


def log_counts_of_a_caller(adata):
    log_counts(adata, None)


def test_fractions_give_a_warning_and_no_counts_are_refused():
    adata = AnnData(np.array([[1.0, 0.5]]))
    with pytest.warns(UserWarning, match="raw counts in `X`, found fractions") as warned:
        log_counts_of_a_caller(adata)
    assert warned[0].filename == __file__
    with pytest.raises(ValueError, match="found nothing. Pass the cells as they were before"):
        log_counts(AnnData(obs=adata.obs), None)


def test_rows_of_each_group_are_averaged():
    x = np.random.default_rng(0).normal(size=(6, 3))
    means = mean_rows(x, np.array([2, 0, -1, 3, 0, 0]), 4)
    np.testing.assert_allclose(means, [x[[1, 4, 5]].mean(0), np.zeros(3), x[0], x[3]])


@pytest.fixture
def cells():
    """120 cells x 5 genes in four metacells, of three donors, treated or not, some unknown."""
    rng = np.random.default_rng(0)
    columns = {
        "metacell": rng.choice(["mc0", "mc1", "mc2", "mc3"], 120),
        "donor": pd.Categorical(rng.choice(["d2", "d1", "d3"], 120), ["d2", "d1", "d3"]),
        "stim": rng.random(120) < 0.3,
        "lane": rng.integers(1, 3, 120),
        "depth": rng.normal(size=120),
        "_scvi_batch": 0,
    }
    obs = pd.DataFrame(columns, index=[f"cell{i}" for i in range(120)])
    obs.loc[obs.index[:7], "donor"] = None
    obs.loc[obs.index[5:9], "metacell"] = None
    counts = rng.poisson(2.0, (120, 5)).astype(np.float32)
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(5)]))


def test_pieces_are_the_groups_of_pandas_in_the_order_of_the_categories(cells):
    obs = cells.obs
    pieces = split_metacells(obs["metacell"], obs[["donor", "stim"]])
    for (metacell, donor, stim), group in obs.groupby(["metacell", "donor", "stim"], observed=True):
        assert (pieces[group.index] == f"{metacell}:{donor}:{stim}").all()
    assert pieces.isna().sum() == obs[["metacell", "donor"]].isna().any(axis=1).sum() == 9
    expected = [f"mc{i}:{donor}" for i in range(4) for donor in ("d2", "d1", "d3")]
    by_donor = split_metacells(obs["metacell"], obs[["donor"]])
    assert by_donor.cat.categories.tolist() == expected
    # combinations are numbered
    found, columns = combinations(cells.obs[["donor", "stim"]]), cells.obs[["donor", "stim"]]
    assert ((found < 0) == columns.isna().any(axis=1)).all()
    known = columns[found >= 0].astype(str).agg("|".join, axis=1)
    assert pd.crosstab(known, found[found >= 0]).gt(0).sum().eq(1).all()
    assert len(set(found) - {-1}) == known.nunique()
    assert (combinations(columns.assign(donor=None)) == -1).all()


def test_numbers_name_pieces_without_a_point_and_equal_names_are_refused(cells):
    numbers = pd.Series(np.arange(120) % 3 - 1, cells.obs_names)
    lane = cells.obs[["lane"]].astype(float)
    lane.iloc[0] = np.nan
    pieces = split_metacells(numbers, lane)
    assert pieces.cat.categories.tolist() == ["0:1", "0:2", "1:1", "1:2"]
    assert pieces.isna().sum() == (numbers == -1).sum()
    metacell, donor = cells.obs["metacell"], cells.obs[["donor"]]
    with pytest.raises(ValueError, match="values of 'donor', found none of 120"):
        split_metacells(metacell, donor.assign(donor=None))
    clash = pd.DataFrame({"a": ["x:y", "x"], "b": ["z", "y:z"]}, index=["c0", "c1"])
    with pytest.raises(ValueError, match="'m:x:y:z', since categories contain ':'"):
        split_metacells(pd.Series(["m", "m"], clash.index), clash)


def test_aggregate_by_columns(cells):
    found = aggregate(cells, ["metacell", "donor"])
    known = cells.obs[["metacell", "donor"]].notna().all(axis=1)
    names = cells.obs["metacell"].astype(str) + ":" + cells.obs["donor"].astype(str)
    expected = aggregate(cells, names.where(known))[found.obs_names]
    assert len(found) == len(set(names[known]))
    assert abs(found.layers["counts"] - expected.layers["counts"]).max() == 0
    assert (found.obs["donor_fraction"] == 1).all()
    parts = found.obs["metacell"].astype(str) + ":" + found.obs["donor"].astype(str)
    assert found.obs_names.tolist() == parts.tolist()
    made = found.uns["metaq"]
    assert made["by"] == ["metacell", "donor"]
    assert (made["n_cells"], made["n_cells_left_out"]) == (111, 9)
    one_value_per_cell = ["a", "b"] * 60
    assert aggregate(cells, one_value_per_cell).obs["n_cells"].tolist() == [60, 60]


def test_modalities_are_split_alike(cells, tmp_path):
    adt = AnnData(np.ones((100, 3), np.float32), pd.DataFrame(index=cells.obs_names[20:]))
    adt.var_names = ["p0", "p1", "p2"]
    adt.obs["plate"] = pd.Categorical(np.array(["x", "y"])[np.arange(100) % 2])
    rna = AnnData(cells.X, cells.obs[[]], cells.var)
    mdata = MuData({"rna": rna, "adt": adt})
    mdata.obs["metacell"], mdata.obs["donor"] = cells.obs["metacell"], cells.obs["donor"]
    found = aggregate(mdata, ["metacell", "donor"])
    assert found.obs["n_cells"].sum() == 111
    assert found["adt"].obs["metacell"].tolist() == [n[:3] for n in found["adt"].obs_names]
    by_plate = aggregate(mdata, ["metacell", "adt:plate"])
    assert by_plate.obs["n_cells"].sum() == cells.obs["metacell"][20:].notna().sum()
    assert (by_plate["adt"].obs["plate_fraction"] == 1).all()
    found.write_h5mu(tmp_path / "pieces.h5mu")
    read = mudata.read_h5mu(tmp_path / "pieces.h5mu")
    assert read.obs["metacell"].tolist() == found.obs["metacell"].tolist()


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["donor", "sex"], KeyError, r"found no 'sex'.*\['depth', 'donor', 'lane', 'metacell'"),
        ("depth", TypeError, "in `within='depth'`, found decimal numbers"),
        ([1], TypeError, "a column of `obs` or a list"),
        ([], TypeError, "a column of `obs` or a list"),
        (["donor", "donor"], ValueError, "found 'donor' named repeatedly"),
    ],
)
def test_bad_columns_are_named(cells, names, error, message):
    with pytest.raises(error, match=message):
        find_covariates(cells, names, what="within")
    with pytest.raises(KeyError, match="`by` to name a column.*found no 'sex'"):
        aggregate(cells, ["metacell", "sex"])


def test_joining_follows_the_sizes():
    """Three codes in two combinations; preferences are given by hand."""
    code = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2])
    combination = np.array([0, 0, 0, 0, 0, 0, 1, 1, -1])
    each = [[9.0, 1, 2]] * 3 + [[1, 9, 2]] * 2 + [[1, 2, 9], [9, 8, 7], [2, 9, 1], [0] * 3]
    wanted, asked = np.array(each), []

    def preference(cells):
        asked.extend(cells)
        return wanted[cells]

    small = in_small_pieces(code, combination, 3)
    assert small.tolist() == [3, 4, 5, 6, 7]
    found = join_small_pieces(code, combination, 3, preference)
    # the single cell of code 2 makes code 1 large enough; of two single cells one joins the other
    assert found.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert set(asked) <= set(small)
    assert code.tolist() == [0, 0, 0, 1, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("span", [7, 300])
def test_sums_are_in_single_precision_only_where_that_is_exact(span):
    rng = np.random.default_rng(0)
    X, codes = rng.poisson(0.3, (200, 9)).astype(np.float32), rng.integers(-1, 11, 200)
    is_of = codes == np.arange(11)[:, None]
    for factor, kind in ((1, "f4"), (2**21 + 1, "f8"), (0.1, "f8")):
        counts = sp.csr_matrix(X * np.float32(factor))
        found = sum_rows(counts, codes, 11, span)
        assert found.dtype == kind
        assert found.has_canonical_format
        expected = is_of.astype(float) @ counts.toarray().astype(float)
        np.testing.assert_allclose(found.toarray(), expected, rtol=0 if factor > 0.5 else 1e-14)
