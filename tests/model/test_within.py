"""Metacells that do not mix covariates, from a model that is trained once."""

import anndata
import numpy as np
import pandas as pd
import pytest

from scmetaq import tl
from scmetaq.model._within import in_small_pieces, join_small_pieces


@pytest.fixture(scope="module")
def treated(model):
    """The cells of the model with a donor, a treatment, and both unknown for some."""
    adata, rng = model.adata, np.random.default_rng(0)
    adata.obs["donor"] = pd.Categorical(rng.choice(["d1", "d2", "d3"], adata.n_obs))
    adata.obs["stim"] = pd.Categorical(rng.choice(["ctrl", "stim"], adata.n_obs))
    adata.obs.loc[adata.obs_names[:4], "stim"] = None
    yield model
    adata.obs = adata.obs.drop(columns=["donor", "stim"])


def test_metacells_are_split_and_nothing_else_changes(treated):
    whole, split = (
        treated.get_assignments(),
        treated.get_assignments(within=["donor", "stim"], min_cells=1),
    )
    obs = treated.adata.obs
    names = whole["metacell"] + ":" + obs["donor"].astype(str) + ":" + obs["stim"].astype(str)
    known = obs["stim"].notna()
    assert (split["metacell"][known] == names[known]).all()
    assert split["metacell"][~known].isna().all()
    pd.testing.assert_series_equal(split["margin"], whole["margin"])


def test_metacells_never_mix(treated):
    found = treated.get_metacells(within=["donor", "stim"])
    assert (found.obs[["donor_fraction", "stim_fraction"]] == 1).all(axis=None)
    parts = found.obs_names.to_series().str.split(":", expand=True)
    for column, name in enumerate(["metacell", "donor", "stim"]):
        assert (parts[column] == found.obs[name].astype(str)).all()
    assert found.obs_names.is_monotonic_increasing


def test_counts_are_those_of_the_cells_with_a_value(treated):
    adata, found = treated.adata, treated.get_metacells(within="stim", min_cells=1)
    known = adata.obs["stim"].notna().to_numpy()
    np.testing.assert_array_equal(
        found.layers["counts"].sum(0), adata.X[np.flatnonzero(known)].sum(0)
    )
    whole = treated.get_metacells().to_df(layer="counts")
    of_metacell = found.to_df(layer="counts").groupby(found.obs["metacell"].astype(str)).sum()
    assert (of_metacell <= whole.loc[of_metacell.index]).all(axis=None)


def test_equals_aggregating_by_columns(treated):
    cells = treated.adata.copy()
    cells.obs["metacell"] = treated.get_assignments()["metacell"]
    expected, found = (
        tl.aggregate(cells, ["metacell", "stim"]),
        treated.get_metacells(within="stim", min_cells=1),
    )
    assert abs(found.X - expected.X).max() == 0
    pd.testing.assert_frame_equal(found.obs, expected.obs)


def test_a_cut_is_split(treated):
    found = treated.get_metacells(n_metacells=3, within="stim")
    assert found.n_obs <= 6
    assert found.obs["metacell"].nunique() == 3
    cut = treated.get_assignments(n_metacells=3)["metacell"]
    pieces = treated.get_assignments(n_metacells=3, within="stim", min_cells=1)["metacell"].dropna()
    assert (pieces.str.split(":").str[0] == cut[pieces.index]).all()


def test_small_pieces_are_dissolved(treated):
    obs, columns = treated.adata.obs, ["donor", "stim"]
    every = treated.get_assignments(within=columns, min_cells=1)["metacell"]
    found = treated.get_assignments(within=columns, min_cells=8)["metacell"]
    sizes, before = found.value_counts(), every.value_counts()
    assert before.min() < 8 <= sizes.min()
    kept = every.isin(before.index[before >= 8])
    assert (found[kept] == every[kept]).all()
    assert (found.isna() == every.isna()).all()
    of_piece, of_cell = found.dropna().str.split(":", n=1).str[1], obs[columns].dropna()
    assert (of_piece == of_cell.agg(":".join, axis=1)).all()


def test_cells_of_small_pieces_go_where_they_are_most_alike(treated):
    """Recomputed from the latents and the codes as users get them."""
    every = treated.get_assignments(within="donor", min_cells=1)["metacell"]
    sizes = every.value_counts()
    small = sizes.index[sizes == sizes.min()][0]
    found = treated.get_assignments(within="donor", min_cells=int(sizes.min()) + 1)["metacell"]
    moved = every.index[every == small]
    z = pd.DataFrame(treated.get_latent_representation(), treated.adata.obs_names)
    codes = treated.get_codebook().drop(columns="usage")
    for cell in moved:
        there = found[found.index[(treated.adata.obs["donor"] == treated.adata.obs["donor"][cell])]]
        names = there[~there.index.isin(moved)].str.split(":").str[0].unique()
        distance = np.square(codes.loc[names].to_numpy() - z.loc[cell].to_numpy()).sum(1)
        assert found[cell].split(":")[0] == names[distance.argmin()]


def test_small_combinations_keep_one_piece(treated):
    found = treated.get_metacells(within=["donor", "stim"], min_cells=1_000)
    known = treated.adata.obs[["donor", "stim"]].dropna()
    assert found.n_obs == len(known.drop_duplicates())
    assert found.obs["n_cells"].sum() == len(known)
    told = found.uns["metaq"]
    assert told["settings"]["within"] == ["donor", "stim"]
    assert told["settings"]["min_cells"] == 1_000
    assert told["n_cells"] + told["n_cells_left_out"] == treated.adata.n_obs


def test_pieces_of_a_cut_are_dissolved(treated):
    found = treated.get_metacells(n_metacells=4, within=["donor", "stim"], min_cells=12)
    assert found.obs["n_cells"].min() >= 12
    assert found.obs["metacell"].isin([f"mc{i:04d}" for i in range(4)]).all()


def test_joining_follows_the_sizes():
    """Three codes in two combinations; preferences are told by hand."""
    code = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2])
    combination = np.array([0, 0, 0, 0, 0, 0, 1, 1, -1])
    wanted = np.array(
        [[9.0, 1, 2]] * 3 + [[1, 9, 2]] * 2 + [[1, 2, 9], [9, 8, 7], [2, 9, 1], [0] * 3]
    )
    asked = []

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


def test_new_cells_are_split_by_their_own_values(treated, again):
    cells = again(index=slice(0, 50))
    cells.obs["stim"] = ["ctrl", "stim"] * 25
    split = treated.get_assignments(cells, within="stim", min_cells=1)["metacell"]
    expected = treated.get_assignments().loc[cells.obs_names, "metacell"]
    assert (split == expected + ":" + cells.obs["stim"].astype(str)).all()


def test_round_trip_through_h5ad(treated, tmp_path):
    found = treated.get_metacells(within="stim")
    found.write_h5ad(tmp_path / "pieces.h5ad")
    read = anndata.read_h5ad(tmp_path / "pieces.h5ad")
    pd.testing.assert_frame_equal(read.obs, found.obs)
    assert list(read.uns["metaq"]["settings"]["within"]) == ["stim"]


def test_modalities_are_split_alike(fit, toy_mdata):
    toy_mdata.obs["stim"] = np.array(["ctrl", "stim"])[np.arange(150) % 2]
    toy_mdata["adt"].obs["plate"] = np.array(["p1", "p2"])[np.arange(150) // 75]
    found = fit(toy_mdata).get_metacells(within=["stim", "adt:plate"])
    assert found.obs["n_cells"].sum() == 150
    assert (found["adt"].obs["plate_fraction"] == 1).all()
    assert (found.obs["stim_fraction"] == 1).all()
    for kind in ("rna", "adt", "atac"):
        assert found[kind].obs_names.tolist() == found.obs_names.tolist()
        assert found[kind].obs["metacell"].tolist() == [n[:6] for n in found.obs_names]


def test_bad_columns_are_refused_before_any_work(treated, monkeypatch):
    monkeypatch.setattr(type(treated), "_encode", lambda *args, **kwargs: pytest.fail("encoded"))
    for method in (treated.get_assignments, treated.get_metacells):
        with pytest.raises(KeyError, match=r"`within` to name.*no 'dose'.*'donor'.*'stim'"):
            method(within=["donor", "dose"])
        with pytest.raises(ValueError, match="min_cells to be at least 1, found 0"):
            method(within="donor", min_cells=0)
