"""New metacells in the model of a query."""

import numpy as np
import pandas as pd
import pytest
import scvi

from scmetaq import MetaQModel


@pytest.fixture(scope="module")
def cells(blood):
    return blood.copy()


@pytest.fixture(scope="module")
def reference(cells, fit):
    """All kinds of cells but B cells."""
    return fit(cells[cells.obs["cell_type"] != "B"].copy(), 10, 20)


@pytest.fixture(scope="module")
def grown(cells, reference):
    scvi.settings.seed = 0
    model = MetaQModel.load_query_data(cells.copy(), reference)
    return model, model.add_metacells()


def test_new_codes_were_fitted_to_their_cells(grown):
    model, names = grown
    n_all = model.n_metacells
    assert n_all == 10 + len(names)
    row = model.get_granularity_report([n_all]).loc[n_all]
    z, found = model.get_latent_representation(), model.get_assignments()["metacell"]
    codes = model.get_codebook().drop(columns="usage").loc[found].to_numpy()
    error = np.square(z - codes).mean(1)
    codebook = model.module.codebook
    fitted_to = pd.Series((codebook.usage * codebook.n_cells).round(), model.metacell_names)
    n = pd.Series(found).map(fitted_to).to_numpy()
    is_new = found.isin(names).to_numpy()
    added = (error * ((n / (n - 1)) ** 2 - 1))[is_new].sum() / len(z)
    assert row["codebook_loss"] == pytest.approx(error.mean(), rel=1e-4)
    assert row["prediction_error"] - row["codebook_loss"] == pytest.approx(added, rel=1e-3)


def test_the_missing_state_gets_metacells_and_others_do_not_change(grown, cells, reference):
    model, names = grown
    assert names == model.new_metacells
    assert names[0] == "mc0010"
    kinds = cells.obs["cell_type"].to_numpy()
    is_new = model.get_assignments()["metacell"].isin(names).to_numpy()
    assert is_new[kinds == "B"].mean() > 0.75
    assert is_new[kinds != "B"].mean() < 0.1
    before, after = reference.get_codebook(), model.get_codebook()
    codes = before.columns.drop("usage")
    pd.testing.assert_frame_equal(after.loc[before.index, codes], before[codes], check_exact=True)
    share = after["usage"][:10] / before["usage"]  # of all cells, those of the query among them
    np.testing.assert_allclose(share, share.iloc[0])
    assert share.iloc[0] < 1
    assert list(after.index[10:]) == names
    assert model.n_metacells == 10 + len(names)
    assert reference.n_metacells == 10
    assert reference.init_params_["non_kwargs"]["n_metacells"] == 10


def test_they_can_be_saved_merged_and_aggregated(grown, cells, tmp_path):
    model, names = grown
    model.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", cells.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_assignments(), model.get_assignments())
    assert loaded.new_metacells == names
    metacells = model.get_metacells()
    assert set(names) <= set(metacells.obs_names)
    assert model.get_codebook()["usage"].sum() == pytest.approx(1)
    assert metacells.obs["n_cells"].sum() == cells.n_obs
    assert model.get_assignments(n_metacells=4)["metacell"].nunique() <= 4
    assert np.isfinite(list(model.get_quantization_report().values())).all()


def test_where_nothing_is_missing_none_are_added(cells, reference):
    known = cells[cells.obs["cell_type"] != "B"].copy()
    model = MetaQModel.load_query_data(known, reference)
    before = model.get_assignments()
    assert model.add_metacells(quantile=0.99) == model.new_metacells == []
    pd.testing.assert_frame_equal(model.get_assignments(), before)


def test_bad_input(reference, grown, tmp_path):
    with pytest.raises(ValueError, match="load_query_data"):
        reference.add_metacells()
    assert reference.new_metacells == []
    with pytest.raises(ValueError, match="quantile between 0 and 1, but not 0 or 1, found 2"):
        grown[0].add_metacells(quantile=2)
    with pytest.raises(ValueError, match="min_cells"):
        grown[0].add_metacells(min_cells=0)


def test_with_conditions_they_come_back_from_disk(cells, fit, tmp_path):
    """The correction keeps the number of clusters that the reference had."""
    cells = cells.copy()
    cells.obs["lane"] = np.array(["a", "b"])[np.arange(cells.n_obs) % 2]
    known = cells[cells.obs["cell_type"] != "B"].copy()
    model = MetaQModel.load_query_data(cells, fit(known, 10, 20, setup={"batch_key": "lane"}))
    assert model.add_metacells(quantile=0.8)
    model.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", cells.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_assignments(), model.get_assignments())
    again = MetaQModel.load_query_data(cells.copy(), model)
    pd.testing.assert_frame_equal(again.get_assignments(), model.get_assignments())
