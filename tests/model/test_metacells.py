"""Metacells of each cell, aggregated, and split by covariates."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import scmetaq
from scmetaq import tl
from scmetaq.data._plain import plain


def assert_same(found, expected):
    """Metacells equal, margins to the last digits of single precision."""
    pd.testing.assert_series_equal(found["metacell"], expected["metacell"].loc[found.index])
    np.testing.assert_allclose(found["margin"], expected["margin"].loc[found.index], atol=2e-6)


def test_assignments_latents_and_codes_are_tables(assignments, blood, model):
    assert assignments.columns.tolist() == ["metacell", "margin"]
    pd.testing.assert_index_equal(assignments.index, blood.obs_names)
    assert set(assignments["metacell"]) == {f"mc{i:04d}" for i in range(10)}
    assert (assignments["margin"] >= 0).all()
    assert all(isinstance(name, str) for name in assignments["metacell"])
    z, codebook = model.get_latent_representation(), model.get_codebook()
    codes, usage = codebook.drop(columns="usage"), codebook["usage"]
    assert z.shape == (400, codes.shape[1])
    assert np.isfinite(z).all()
    assert z.std(0).max() > 0.01
    assert codebook.index.tolist() == model.metacell_names
    assert codebook.columns[-1] == "usage"
    np.testing.assert_array_equal(codes, model.module.codebook.codes.detach().numpy())
    assert usage.sum() == pytest.approx(1, abs=1e-3)
    share = assignments["metacell"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(usage, share, atol=0.1)


def test_reading_twice_gives_the_same_and_changes_nothing(model, assignments):
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    pd.testing.assert_frame_equal(model.get_assignments(), assignments)
    model.get_latent_representation()
    model.get_codebook()
    model.get_metacells()
    model.get_quantization_report()
    after = model.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not model.module.training


def test_new_data_in_any_form_give_the_same(model, assignments, again, blood, in_form):
    found = model.get_assignments(again(in_form(blood.X)))
    pd.testing.assert_frame_equal(found, assignments)


def test_order_company_views_and_blocks_do_not_matter(model, assignments, again, rng, monkeypatch):
    some = [rng.choice(400, n_cells, replace=False) for n_cells in (1, 2, 57, 399)]
    for index in (*some, rng.permutation(400), (slice(None), rng.permutation(500))):
        assert_same(model.get_assignments(again(index=index)), assignments)
    for cells in (model.adata[::3].copy(), model.adata[::3]):
        assert_same(model.get_assignments(cells), assignments)
    monkeypatch.setattr("scmetaq.model._blocks.BLOCK", 33)
    assert_same(model.get_assignments(), assignments)


def test_unseen_cells_are_assigned_and_do_not_change_the_others(model, blood, assignments):
    demo = scmetaq.data.demo()
    unseen = demo[~demo.obs_names.isin(blood.obs_names), blood.var_names][:300].copy()
    found = model.get_assignments(unseen)
    pd.testing.assert_index_equal(found.index, unseen.obs_names)
    assert set(found["metacell"]) <= set(model.metacell_names)
    assert found["metacell"].nunique() > 3
    label = model.get_metacells().obs["cell_type"]
    of_b_cells = found.loc[unseen.obs["cell_type"] == "B", "metacell"].map(label)
    assert (of_b_cells == "B").mean() > 0.5
    demo = scmetaq.data.demo()[:, blood.var_names].copy()
    assert_same(model.get_assignments(demo).loc[blood.obs_names], assignments)


BAD = {
    "negative": lambda cells: cells.X.data.__setitem__(0, -3),
    "nan": lambda cells: cells.X.data.__setitem__(0, np.nan),
    "half": lambda cells: cells.X.data.__imul__(0.5),
    "empty cell": lambda cells: cells.X.data.__setitem__(slice(*cells.X.indptr[3:5]), 0),
    "twins": lambda cells: setattr(cells, "obs_names", ["twin"] * 400),
    "other genes": lambda cells: setattr(cells, "var_names", [f"other{i}" for i in range(500)]),
}


@pytest.mark.parametrize("spoil", BAD)
def test_new_cells_that_are_not_raw_counts_of_its_genes_are_refused(model, again, spoil):
    cells = again()
    BAD[spoil](cells)
    with pytest.raises(ValueError, match="Expected"):
        model.get_assignments(cells)
    for n_features in (499, 10):
        with pytest.raises(ValueError, match=rf"(?s)500.*{n_features}"):
            model.get_assignments(again(index=(slice(None), slice(n_features))))


def test_new_data_are_not_changed(model, again):
    cells, kept = again(), again()
    model.get_assignments(cells)
    model.get_metacells(cells)
    np.testing.assert_array_equal(cells.X.toarray(), kept.X.toarray())
    pd.testing.assert_frame_equal(cells.obs, kept.obs)
    pd.testing.assert_frame_equal(cells.var, kept.var)
    assert all(key.startswith("_scvi") for key in cells.uns)


@pytest.mark.parametrize(("n", "last"), [(2, "mc0001"), (10_000, "mc9999"), (10_001, "mc10000")])
def test_names_have_one_width(model, monkeypatch, n, last):
    monkeypatch.setattr(model, "n_metacells", n)
    names = model.metacell_names
    assert names[-1] == last
    assert len({len(name) for name in names}) == 1
    assert sorted(names) == names


def test_one_training_serves_every_granularity(model, assignments):
    finer = assignments["metacell"]
    for n_metacells in range(9, 1, -1):
        coarser = model.get_assignments(n_metacells=n_metacells)
        found = coarser["metacell"]
        assert sorted(found.unique()) == [f"mc{i:04d}" for i in range(n_metacells)]
        assert (found.groupby(finer).nunique() == 1).all()
        assert (coarser["margin"] >= assignments["margin"] - 1e-6).all()
        finer = found
    pd.testing.assert_frame_equal(model.get_assignments(n_metacells=10), assignments)
    metacells = model.get_metacells(n_metacells=4)
    assert list(metacells.obs_names) == ["mc0000", "mc0001", "mc0002", "mc0003"]
    assert metacells.obs["n_cells"].sum() == 400
    total = model.get_metacells().layers["counts"].sum(0)
    np.testing.assert_array_equal(metacells.layers["counts"].sum(0), total)


@pytest.mark.parametrize(
    ("n_metacells", "error", "message"),
    [
        (11, ValueError, "between 2 and the 10 that the model was trained for, found 11"),
        (1, ValueError, "found 1"),
        (2.5, TypeError, "an int, found 2.5"),
    ],
)
def test_cuts_that_cannot_be(model, n_metacells, error, message):
    with pytest.raises(error, match=message):
        model.get_assignments(n_metacells=n_metacells)
    with pytest.raises(error, match=message):
        model.get_granularity_report([5, n_metacells])


@pytest.fixture(scope="module")
def metacells(model):
    return model.get_metacells()


def test_metacells_are_the_cells_aggregated_by_assignments(metacells, model, assignments, blood):
    """Sums, means, sizes and majorities of ``aggregate`` are tested in ``tests/tl``."""
    expected = scmetaq.tl.aggregate(blood, assignments["metacell"])
    assert metacells.obs_names.tolist() == model.metacell_names
    assert abs(metacells.X - expected.X).max() == 0
    assert abs(metacells.layers["counts"] - expected.layers["counts"]).max() == 0
    pd.testing.assert_frame_equal(metacells.obs, expected.obs)
    pd.testing.assert_frame_equal(metacells.var, plain(blood.var), check_column_type=False)


def test_provenance_and_round_trip_through_h5ad(metacells, model, tmp_path):
    told = metacells.uns["metaq"]
    assert told["function"] == "scmetaq.MetaQModel.get_metacells"
    assert told["settings"]["n_metacells"] == 10
    assert told["settings"]["recipe"] == "default"
    assert (told["modality"], told["layer"]) == ("rna", "X")
    assert (told["n_cells"], told["n_metacells"]) == (400, 10)
    assert told["scmetaq_version"] == scmetaq.__version__
    metacells.write_h5ad(tmp_path / "metacells.h5ad")
    read = anndata.read_h5ad(tmp_path / "metacells.h5ad")
    pd.testing.assert_frame_equal(plain(read.obs), metacells.obs)
    assert abs(read.X - metacells.X).max() == 0
    assert dict(read.uns["metaq"]["settings"]) == metacells.uns["metaq"]["settings"]


def test_of_other_cells_only_those_metacells_that_have_some(model, assignments, again):
    wanted = ["mc0002", "mc0004"]
    chosen = np.flatnonzero(assignments["metacell"].isin(wanted))
    found = model.get_metacells(again(index=chosen))
    assert found.obs_names.tolist() == wanted
    assert found.obs["n_cells"].sum() == len(chosen)
    assert found.uns["metaq"]["n_metacells"] == 2


def test_a_column_of_metacells_is_not_carried_along(toy, fit):
    """Their own name, or that of other metacells: both say nothing of them."""
    toy.obs["metacell"] = np.where(np.arange(toy.n_obs) % 3 == 0, "old", "older")
    model = fit(toy)
    assert not [name for name in model.get_metacells().obs if str(name).startswith("metacell")]
    pieces = model.get_metacells(within="state").obs
    assert set(pieces["metacell"]) == set(model.get_assignments()["metacell"])
    assert "metacell_fraction" not in pieces


def test_cells_without_a_label_have_no_vote_on_that_of_a_metacell(toy, fit):
    given = toy.obs["state"].astype(str)
    toy.obs["kind"] = given.where(np.arange(toy.n_obs) % 3 == 0, "Unknown")
    obs = fit(toy, 6, setup={"labels_key": "kind"}).get_metacells().obs
    assert list(obs["kind"]) == list(obs["state"])
    assert (obs["kind_fraction"] > 0.9).all()
    assert "Unknown" in set(fit(toy, 6).get_metacells().obs["kind"])  # a name like any other


def test_columns_registered_with_numbers_have_a_majority(toy, fit):
    toy.obs["kind"] = toy.obs["state"].cat.codes.to_numpy() + 7
    toy.obs["lane"] = np.arange(toy.n_obs) % 2
    setup = {"labels_key": "kind", "batch_key": "lane"}
    model = fit(toy, setup=setup)
    obs, of_cell = model.get_metacells().obs, model.get_assignments()["metacell"]
    for name in ("kind", "lane"):
        shares = pd.crosstab(of_cell, toy.obs[name], normalize="index").loc[obs.index]
        np.testing.assert_allclose(obs[f"{name}_fraction"], shares.max(axis=1))
        assert set(obs[name]) <= set(toy.obs[name])


@pytest.fixture(scope="module")
def treated(model):
    """The cells of the model with a donor, a treatment, and both unknown for some."""
    adata, rng = model.adata, np.random.default_rng(0)
    adata.obs["donor"] = pd.Categorical(rng.choice(["d1", "d2", "d3"], adata.n_obs))
    adata.obs["stim"] = pd.Categorical(rng.choice(["ctrl", "stim"], adata.n_obs))
    adata.obs.loc[adata.obs_names[:4], "stim"] = None
    yield model
    adata.obs = adata.obs.drop(columns=["donor", "stim"])


def test_metacells_are_split_never_mix_and_nothing_else_changes(treated):
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
    found = treated.get_metacells(within=["donor", "stim"])
    assert (found.obs[["donor_fraction", "stim_fraction"]] == 1).all(axis=None)
    parts = found.obs_names.to_series().str.split(":", expand=True)
    for column, name in enumerate(["metacell", "donor", "stim"]):
        assert (parts[column] == found.obs[name].astype(str)).all()
    assert found.obs_names.is_monotonic_increasing


def test_pieces_are_aggregated_by_columns_and_go_through_h5ad(treated, tmp_path):
    cells = treated.adata.copy()
    cells.obs["metacell"] = treated.get_assignments()["metacell"]
    expected, found = (
        tl.aggregate(cells, ["metacell", "stim"]),
        treated.get_metacells(within="stim", min_cells=1),
    )
    assert abs(found.X - expected.X).max() == 0
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    found = treated.get_metacells(within="stim")
    found.write_h5ad(tmp_path / "pieces.h5ad")
    read = anndata.read_h5ad(tmp_path / "pieces.h5ad")
    pd.testing.assert_frame_equal(plain(read.obs), found.obs)
    assert list(read.uns["metaq"]["settings"]["within"]) == ["stim"]


def test_a_cut_is_split_and_its_small_pieces_are_dissolved(treated):
    found = treated.get_metacells(n_metacells=3, within="stim")
    assert found.n_obs <= 6
    assert found.obs["metacell"].nunique() == 3
    cut = treated.get_assignments(n_metacells=3)["metacell"]
    pieces = treated.get_assignments(n_metacells=3, within="stim", min_cells=1)["metacell"].dropna()
    assert (pieces.str.split(":").str[0] == cut[pieces.index]).all()
    found = treated.get_metacells(n_metacells=4, within=["donor", "stim"], min_cells=12)
    assert found.obs["n_cells"].min() >= 12
    assert found.obs["metacell"].isin([f"mc{i:04d}" for i in range(4)]).all()


def test_small_pieces_are_dissolved_and_small_combinations_keep_one(treated):
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
    found = treated.get_metacells(within=["donor", "stim"], min_cells=1_000)
    known = treated.adata.obs[["donor", "stim"]].dropna()
    assert found.n_obs == len(known.drop_duplicates())
    assert found.obs["n_cells"].sum() == len(known)
    told = found.uns["metaq"]
    assert told["settings"]["within"] == ["donor", "stim"]
    assert told["settings"]["min_cells"] == 1_000
    assert told["n_cells"] + told["n_cells_left_out"] == treated.adata.n_obs


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


def test_new_cells_are_split_by_their_values_and_bad_columns_refused(treated, again, monkeypatch):
    cells = again(index=slice(0, 50))
    cells.obs["stim"] = ["ctrl", "stim"] * 25
    split = treated.get_assignments(cells, within="stim", min_cells=1)["metacell"]
    expected = treated.get_assignments().loc[cells.obs_names, "metacell"]
    assert (split == expected + ":" + cells.obs["stim"].astype(str)).all()
    monkeypatch.setattr(type(treated), "_in_blocks", lambda *args, **kwargs: pytest.fail("encoded"))
    for method in (treated.get_assignments, treated.get_metacells):
        with pytest.raises(KeyError, match=r"`within` to name.*no 'dose'.*'donor'.*'stim'"):
            method(within=["donor", "dose"])
        with pytest.raises(ValueError, match="min_cells to be at least 1, found 0"):
            method(within="donor", min_cells=0)


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
