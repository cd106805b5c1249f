import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scmetaq


def assert_same(found, expected):
    """Metacells equal, margins to the last digits of single precision."""
    pd.testing.assert_series_equal(found["metacell"], expected["metacell"].loc[found.index])
    np.testing.assert_allclose(found["margin"], expected["margin"].loc[found.index], atol=2e-6)


def test_a_table_indexed_by_barcode(assignments, blood):
    assert assignments.columns.tolist() == ["metacell", "margin"]
    pd.testing.assert_index_equal(assignments.index, blood.obs_names)
    assert set(assignments["metacell"]) == {f"mc{i:04d}" for i in range(10)}
    assert (assignments["margin"] >= 0).all()
    assert all(isinstance(name, str) for name in assignments["metacell"])


def test_the_metacell_is_the_nearest_code(model, assignments):
    z = model.get_latent_representation().astype(float)
    codes = model.get_codebook().drop(columns="usage").to_numpy(dtype=float)
    similarity = -np.square(z[:, None] - codes[None]).sum(2)
    second, best = np.sort(similarity, axis=1)[:, -2:].T
    nearest = [f"mc{i:04d}" for i in similarity.argmax(1)]
    clear = best - second > 1e-5
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(assignments["metacell"][clear], np.array(nearest)[clear])
    np.testing.assert_allclose(assignments["margin"], best - second, atol=1e-5)


def test_reading_twice_gives_the_same(model, assignments):
    pd.testing.assert_frame_equal(model.get_assignments(), assignments)


def test_reading_changes_nothing(model):
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.get_assignments()
    model.get_latent_representation()
    model.get_codebook()
    model.get_metacells()
    model.get_quantization_report()
    after = model.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not model.module.training


@pytest.mark.parametrize(
    "make",
    [
        lambda X: X,
        sparse.csc_matrix,
        sparse.csr_array,
        lambda X: X.toarray(),
        lambda X: X.astype(np.int64),
        lambda X: X.astype(np.float64),
        lambda X: X.toarray().astype(np.uint16),
    ],
    ids=["csr", "csc", "csr_array", "dense", "int64", "float64", "uint16"],
)
def test_new_data_in_any_form_give_the_same(model, assignments, again, blood, make):
    found = model.get_assignments(again(make(blood.X)))
    pd.testing.assert_frame_equal(found, assignments)


def test_the_order_of_cells_does_not_matter(model, assignments, again, rng):
    assert_same(model.get_assignments(again(index=rng.permutation(400))), assignments)


@pytest.mark.parametrize("n_cells", [1, 2, 57, 399])
def test_which_cells_come_along_does_not_matter(model, assignments, again, rng, n_cells):
    chosen = rng.choice(400, n_cells, replace=False)
    assert_same(model.get_assignments(again(index=chosen)), assignments)


def test_blocks_do_not_matter(model, assignments, monkeypatch):
    monkeypatch.setattr("scmetaq.model._base._BLOCK", 33)
    assert_same(model.get_assignments(), assignments)


def test_copies_and_views_of_the_models_cells(model, assignments):
    assert_same(model.get_assignments(model.adata[::3].copy()), assignments)
    assert_same(model.get_assignments(model.adata[::3]), assignments)


def test_unseen_cells_are_assigned(model, blood):
    demo = scmetaq.data.demo()
    unseen = demo[~demo.obs_names.isin(blood.obs_names), blood.var_names][:300].copy()
    found = model.get_assignments(unseen)
    pd.testing.assert_index_equal(found.index, unseen.obs_names)
    assert set(found["metacell"]) <= set(model.metacell_names)
    assert found["metacell"].nunique() > 3
    label = model.get_metacells().obs["cell_type"]
    of_b_cells = found.loc[unseen.obs["cell_type"] == "B", "metacell"].map(label)
    assert (of_b_cells == "B").mean() > 0.5


def test_unseen_cells_do_not_change_the_answer_for_others(model, assignments, blood):
    demo = scmetaq.data.demo()[:, blood.var_names].copy()
    assert_same(model.get_assignments(demo).loc[blood.obs_names], assignments)


@pytest.mark.parametrize("n_features", [499, 10])
def test_missing_features_are_told(model, again, n_features):
    with pytest.raises(ValueError, match=rf"(?s)500.*{n_features}"):
        model.get_assignments(again(index=(slice(None), slice(n_features))))


def test_genes_in_another_order_are_the_same_genes(model, assignments, again):
    shuffled = again(index=(slice(None), np.random.default_rng(0).permutation(500)))
    assert_same(model.get_assignments(shuffled), assignments)


def test_other_genes_are_refused(model, again):
    other = again()
    other.var_names = [f"other{i}" for i in range(500)]
    with pytest.raises(ValueError, match="(?i)feature|gene|var"):
        model.get_assignments(other)


def _negative(adata):
    adata.X.data[0] = -3


def _nan(adata):
    adata.X.data[0] = np.nan


def _half(adata):
    adata.X = adata.X * 0.5


def _empty_cell(adata):
    X = adata.X.toarray()
    X[3] = 0
    adata.X = sparse.csr_matrix(X)


def _twins(adata):
    adata.obs_names = ["twin"] * adata.n_obs


@pytest.mark.parametrize("spoil", [_negative, _nan, _half, _empty_cell, _twins])
def test_new_cells_that_are_not_raw_counts_are_refused(model, again, spoil):
    cells = again()
    spoil(cells)
    with pytest.raises(ValueError, match="Expected"):
        model.get_assignments(cells)


def test_new_data_are_not_changed(model, again):
    cells, kept = again(), again()
    model.get_assignments(cells)
    model.get_metacells(cells)
    np.testing.assert_array_equal(cells.X.toarray(), kept.X.toarray())
    pd.testing.assert_frame_equal(cells.obs, kept.obs)
    pd.testing.assert_frame_equal(cells.var, kept.var)
    assert all(key.startswith("_scvi") for key in cells.uns)


def test_latents(model, blood):
    z = model.get_latent_representation()
    assert z.shape == (400, model.module.codebook.codes.shape[1])
    assert np.isfinite(z).all()
    assert z.std(0).max() > 0.01


def test_codebook_is_indexed_by_metacell(model):
    codebook = model.get_codebook()
    assert codebook.index.tolist() == model.metacell_names
    assert codebook.columns[-1] == "usage"
    expected = model.module.codebook.codes.detach().numpy()
    np.testing.assert_array_equal(codebook.drop(columns="usage"), expected)


def test_usage_is_the_share_of_training_cells(model, assignments):
    usage = model.get_codebook()["usage"]
    assert usage.sum() == pytest.approx(1, abs=1e-3)
    share = assignments["metacell"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(usage, share, atol=0.1)


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


def test_metacells_of_a_coarser_cut(model):
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
