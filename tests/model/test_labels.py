"""Labels by the nearest prototype."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scmetaq
from scmetaq import MetaQModel
from scmetaq.data._cells import Cells, Counts
from scmetaq.model import _metaq
from scmetaq.model._labels import _numbers

COLUMNS = [f"cell_type{of}" for of in ("", "_uncertainty", "_distance", "_unknown")]
HELD_OUT = "B"


@pytest.fixture(scope="module")
def cells(blood):
    """Every other cell without a label, and no B cell with one; two levels of labels."""
    cells = blood.copy()
    cells.obs["truth"] = cells.obs["cell_type"].astype(str)
    hidden = (np.arange(cells.n_obs) % 2 == 1) | (cells.obs["truth"] == HELD_OUT)
    cells.obs["cell_type"] = cells.obs["truth"].mask(hidden, "Unknown")
    is_t = cells.obs["truth"].str.contains("T|NK")
    cells.obs["lineage"] = np.where(is_t, "lymphoid", "other")
    cells.obs.loc[hidden, "lineage"] = None
    return cells


@pytest.fixture(scope="module")
def labelled(cells, fit):
    """Trained with partly labelled cells, read only."""
    return fit(cells.copy(), 10, 15, setup={"labels_key": ["cell_type", "lineage"]})


@pytest.fixture(scope="module")
def predicted(labelled):
    return labelled.predict_labels()


@pytest.fixture
def mine(cells, fit):
    """Trained for a moment, to be changed."""
    return fit(cells.copy(), 10, 2, setup={"labels_key": "cell_type"})


def test_labels_of_cells_without_one_are_predicted_and_new_types_uncertain(predicted, cells):
    assert list(predicted) == [*COLUMNS, *(c.replace("cell_type", "lineage") for c in COLUMNS)]
    assert predicted.index.equals(cells.obs_names)
    assert predicted["cell_type_unknown"].dtype == bool
    assert predicted["cell_type_uncertainty"].between(0, 1).all()
    assert "Unknown" not in set(predicted["cell_type"])
    wanted = (cells.obs["cell_type"] == "Unknown") & (cells.obs["truth"] != HELD_OUT)
    right = predicted["cell_type"] == cells.obs["truth"]
    assert right[wanted].mean() > 0.8
    lineage = cells.obs["truth"].str.contains("T|NK").map({True: "lymphoid", False: "other"})
    assert (predicted["lineage"] == lineage)[wanted].mean() > 0.95
    is_new = cells.obs["truth"] == HELD_OUT
    uncertainty = predicted["cell_type_uncertainty"]
    assert uncertainty[is_new].median() > 0.95
    assert uncertainty[~is_new].median() < 0.7


def test_the_distance_is_in_standard_deviations_of_states(labelled, predicted, cells):
    z, prototypes = labelled.get_latent_representation(), labelled._prototypes["cell_type"]
    state = prototypes.state
    dims, n_cells = state.states.numpy(), dict(zip(prototypes.labels, state.n_cells, strict=True))
    mean = pd.DataFrame(state.means.numpy()[:, dims], prototypes.labels)
    away = (z[:, dims] - mean.loc[predicted["cell_type"]]).to_numpy()
    expected = np.linalg.norm(away @ state.state_whitening.numpy(), axis=1)
    found = predicted["cell_type_distance"].to_numpy()
    many = predicted["cell_type"].map(n_cells).to_numpy() > 20  # whose means have no error
    assert (found <= expected + 1e-3).all()
    np.testing.assert_allclose(found[many], expected[many], rtol=0.1)
    known = (cells.obs["cell_type"] != "Unknown").to_numpy()
    assert np.median(found[known & many]) == pytest.approx(len(dims) ** 0.5, rel=0.25)


def test_unknown_follows_from_the_uncertainty(labelled, predicted, cells):
    for threshold in (0.5, 0.99):
        found = labelled.predict_labels(unknown_above=threshold)
        expected = predicted["cell_type_uncertainty"] > threshold
        pd.testing.assert_series_equal(found["cell_type_unknown"], expected, check_names=False)
    known = cells.obs["cell_type"] != "Unknown"
    assert predicted["cell_type_unknown"][known].mean() < 0.03
    for threshold in (-0.1, 1.5, "high", True):
        with pytest.raises(ValueError, match="unknown_above between 0 and 1"):
            labelled.predict_labels(unknown_above=threshold)


def test_predictions_do_not_depend_on_company_or_chunks(labelled, predicted, cells, monkeypatch):
    again = cells[::-3].copy()
    found = labelled.predict_labels(again)
    pd.testing.assert_frame_equal(found, predicted.loc[again.obs_names], check_exact=True)
    alone = cells[[7]].copy()
    expected = predicted.loc[alone.obs_names]
    pd.testing.assert_frame_equal(labelled.predict_labels(alone), expected, check_exact=True)
    other = cells.copy()
    del other.obs["lineage"]
    other.obs["cell_type"] = "never seen"
    found = labelled.predict_labels(other)
    pd.testing.assert_frame_equal(found, predicted, check_exact=True)
    assert list(other.obs["cell_type"].unique()) == ["never seen"]
    monkeypatch.setattr("scmetaq.model._labels._CHUNK", 64)
    found = labelled.predict_labels(cells.copy())
    pd.testing.assert_frame_equal(found, predicted, check_exact=True)
    kept = {k: v.clone() for k, v in labelled.module.prototypes.state_dict().items()}
    labelled._fit_prototypes()
    for name, values in labelled.module.prototypes.state_dict().items():
        torch.testing.assert_close(values, kept[name], rtol=1e-4, atol=1e-4)


def test_save_and_load(labelled, predicted, cells, tmp_path):
    labelled.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", cells.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.predict_labels(), predicted, check_exact=True)
    without = MetaQModel.load(tmp_path / "model", False, accelerator="cpu")
    found = without.predict_labels(cells.copy())
    pd.testing.assert_frame_equal(found, predicted, check_exact=True)


def test_prototypes_are_class_means_and_landmarks_come_on_request(labelled, cells, tmp_path):
    found = labelled.get_prototypes()
    z = pd.DataFrame(labelled.get_latent_representation(), index=cells.obs_names)
    for key in ("cell_type", "lineage"):
        known = cells.obs[key].replace("Unknown", None).dropna()
        means = z.loc[known.index].groupby(known.astype(str)).mean()
        of_key = found[found.obs["labels_key"] == key]
        assert list(of_key.obs["label"]) == list(means.index)
        np.testing.assert_allclose(of_key.X, means, atol=1e-5)
        assert list(of_key.obs["n_cells"]) == list(known.value_counts().sort_index())
    assert "lineage:lymphoid" in found.obs_names
    before = {k: v.clone() for k, v in labelled.module.state_dict().items()}
    found = labelled.get_prototypes(cells.copy())
    landmarks = found[found.obs["kind"] == "landmark"]
    assert landmarks.obs["n_cells"].sum() == cells.n_obs
    assert 3 <= landmarks.n_obs <= 30
    assert found.obs_names.is_unique
    found.write_h5ad(tmp_path / "prototypes.h5ad")
    after = labelled.module.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())


def test_new_types_become_prototypes_and_added_labels_are_checked(mine, cells, tmp_path):
    state = {k: v.clone() for k, v in mine.module.state_dict().items()}
    with pytest.raises(
        ValueError, match="Unknown labels_key 'celltype': expected one of 'cell_type'"
    ):
        mine.add_labels(cells.copy(), "celltype")
    with pytest.raises(ValueError, match="new types.*found only labels that the model knows"):
        mine.add_labels(cells.copy(), "cell_type")
    without = cells.copy()
    del without.obs["cell_type"]
    with pytest.raises(KeyError, match="no such column"):
        mine.add_labels(without, "cell_type")
    after = mine.module.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in state.items())
    before = mine.predict_labels()
    state = {k: v.clone() for k, v in mine.module.state_dict().items()}
    query = cells[cells.obs["truth"] == HELD_OUT].copy()
    query.obs["cell_type"] = query.obs["truth"]
    mine.add_labels(query, "cell_type")
    z = mine.get_latent_representation(query.copy())
    prototypes = mine.get_prototypes()
    np.testing.assert_allclose(prototypes[f"cell_type:{HELD_OUT}"].X[0], z.mean(0), atol=1e-5)
    assert prototypes.obs["n_cells"].iloc[-1] == query.n_obs
    for name, values in mine.module.state_dict().items():
        if not name.startswith("prototypes.0."):
            assert torch.equal(values, state[name])
    after = mine.predict_labels()
    changed = after["cell_type"] != before["cell_type"]
    assert set(after["cell_type"][changed]) == {HELD_OUT}
    assert (after.loc[query.obs_names, "cell_type"] == HELD_OUT).mean() > 0.9
    unchanged = before[~changed & (after["cell_type"] != HELD_OUT)]
    pd.testing.assert_frame_equal(after.loc[unchanged.index], unchanged, check_exact=True)
    mine.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", cells.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.predict_labels(), after, check_exact=True)


def test_only_landmarks_need_no_labels_but_cells(model, again):
    for ask in (model.predict_labels, model.get_prototypes):
        with pytest.raises(ValueError, match="knows no labels.*labels_key"):
            ask()
    with pytest.raises(ValueError, match="knows no labels"):
        model.add_labels(model.adata, "cell_type")
    found = model.get_prototypes(model.adata)
    assert set(found.obs["kind"]) == {"landmark"}
    with pytest.raises(ValueError, match="more than 15 cells to find landmarks in, found 9"):
        model.get_prototypes(again(index=slice(9)))


def test_a_single_label_is_that_of_all_cells(fit, toy):
    """Which leaves the question whether a cell is like those that have it."""
    toy.obs["state"] = toy.obs["state"].astype(str).replace({"b": "Unknown", "c": "Unknown"})
    truth = np.repeat(["a", "b", "c"], 50)
    found = fit(toy, 6, 10, setup={"labels_key": "state"}).predict_labels()
    assert set(found["state"]) == {"a"}
    uncertainty = found["state_uncertainty"]
    assert uncertainty[truth != "a"].median() > 0.99 > 0.8 > uncertainty[truth == "a"].median()


def test_numbers_and_categories_are_labels_too_and_published_prototypes_have_no_axes(fit, toy):
    toy.obs["cluster"] = toy.obs["state"].cat.codes.astype(int)
    model = fit(toy, setup={"labels_key": ["cluster", "state"]})
    found = model.predict_labels()
    assert set(found["cluster"]) == {"0", "1", "2"}
    assert list(found["state"].map({"a": "0", "b": "1", "c": "2"})) == list(found["cluster"])
    prototypes = fit(toy, 6, 2, recipe="published", setup={"labels_key": "state"})._prototypes
    assert prototypes["state"].new_cells == 1
    assert len(prototypes["state"].fitted_to) == 0


@pytest.mark.parametrize("where", ["rna", None])
def test_labels_of_several_modalities(fit, mosaic, where, tmp_path):
    modalities = {"rna_layer": "rna", "adt_layer": "adt"}
    if where:
        mosaic["rna"].obs["kind"] = mosaic["rna"].obs["state"]
        modalities["labels_key"] = where
    key = "kind" if where else "state"
    model = fit(mosaic, setup={"labels_key": key, "modalities": modalities})
    found = model.predict_labels()
    assert (found[key] == mosaic.obs["state"].astype(str)).mean() > 0.9
    model.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", mosaic.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.predict_labels(), found, check_exact=True)


@pytest.fixture(scope="module")
def query(cells, fit, train):
    """A third of the cells in a batch of their own, mapped onto a model of the others."""
    cells = cells.copy()
    third = np.arange(cells.n_obs) % 3
    cells.obs["batch"] = np.array(["x", "y", "z"])[third]
    cells.obs["cell_type"] = cells.obs["truth"].mask(cells.obs["truth"] == HELD_OUT, "Unknown")
    setup = {"labels_key": "cell_type", "batch_key": "batch"}
    reference = fit(cells[third != 2].copy(), 8, 15, setup=setup)
    new = cells[third == 2].copy()
    del new.obs["cell_type"]
    model = train(MetaQModel.load_query_data(new, reference), 3)
    return model, reference, new


def test_a_query_has_the_prototypes_of_its_reference_and_may_get_new_ones(query, tmp_path):
    model, reference, new = query
    of_reference = reference.module.prototypes.state_dict()
    for name, values in model.module.prototypes.state_dict().items():
        assert torch.equal(values, of_reference[name])
    found, is_new = model.predict_labels(), new.obs["truth"] == HELD_OUT
    assert (found["cell_type"] == new.obs["truth"])[~is_new].mean() > 0.8
    model.save(tmp_path / "model")
    loaded = MetaQModel.load(tmp_path / "model", new.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.predict_labels(), found, check_exact=True)
    named = new.copy()
    named.obs["cell_type"] = named.obs["truth"]
    loaded.add_labels(named, "cell_type")
    found = loaded.predict_labels()["cell_type"]
    assert (found[is_new] == HELD_OUT).mean() > 0.9
    assert (found[~is_new] == HELD_OUT).mean() < 0.1
    assert HELD_OUT not in set(reference.get_prototypes().obs["label"])


@pytest.fixture(scope="module")
def demo():
    """Demo cells with their 1,000 most frequent genes, a fifth of them without a label."""
    cells = scmetaq.data.demo()
    frequent = np.argsort(-np.asarray(cells.X.sum(0)).ravel(), kind="stable")[:1000]
    cells = cells[:, np.sort(frequent)].copy()
    is_hidden = np.random.default_rng(0).random(cells.n_obs) < 0.2
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(str).where(~is_hidden, None)
    return cells


@pytest.fixture(scope="module")
def half(demo, fit):
    """Trained on every other cell."""
    return fit(demo[::2].copy(), 20, 6, setup={"labels_key": "cell_type"})


def test_new_cells_and_own_ones_are_equally_uncertain(half, demo):
    own = half.predict_labels()["cell_type_uncertainty"][half.adata.obs["cell_type"].isna()]
    new = half.predict_labels(demo[1::2].copy())["cell_type_uncertainty"]
    for uncertainty in (own, new):
        assert 0.3 < uncertainty.median() < 0.7
        assert (uncertainty > 0.99).mean() < 0.04
    assert (new > 0.9).mean() > 0.04
    assert 0.2 < half._prototypes["cell_type"].new_cells < 0.9


def test_own_cells_are_known_by_their_counts_and_labels_change_nothing_else(half, fit):
    """Whatever they are called, and whichever come with them."""
    found = half.predict_labels()
    renamed = half.adata[::-7].copy()
    renamed.obs_names = [f"other{i}" for i in range(renamed.n_obs)]
    np.testing.assert_array_equal(half.predict_labels(renamed), found.iloc[::-7])
    without = fit(half.adata.copy(), 20, 6)
    np.testing.assert_array_equal(without.get_assignments(), half.get_assignments())
    state = half.module.state_dict()
    for name, values in without.module.state_dict().items():
        assert torch.equal(values, state[name])


def test_cells_are_identified_by_counts_of_each_modality():
    """Exactly, with counts that a sum of floats would lose, and in any order."""
    counts = np.random.default_rng(0).poisson(0.5, (40, 30)).astype(np.float32)
    counts[1] = counts[0]
    counts[1, 3] += 2**20

    def numbers(**of_kind):
        known = {kind: Counts(sparse.csr_matrix(rows)) for kind, rows in of_kind.items()}
        return _numbers(Cells(known, np.zeros((40, 0), int), pd.RangeIndex(40))).tolist()

    found = numbers(rna=counts)
    assert len(set(found)) == 40
    assert numbers(rna=counts[::-1]) == found[::-1]
    swapped = numbers(adt=counts[::-1], rna=counts), numbers(adt=counts, rna=counts[::-1])
    assert all(a != b for a, b in zip(*swapped, strict=True))


def test_cells_beyond_the_reference_sample_are_new(demo, fit, monkeypatch):
    monkeypatch.setattr(_metaq, "MAX_REFERENCE_CELLS", 500)
    monkeypatch.setattr(_metaq, "_CELLS_PER_CODE", 1)
    model = fit(demo.copy(), 20, 6, setup={"labels_key": "cell_type"})
    prototypes = model._prototypes["cell_type"]
    assert len(prototypes.fitted_to) == 500
    assert 0.1 < prototypes.new_cells < 0.8
    uncertainty = model.predict_labels()["cell_type_uncertainty"]
    chunks = model._latents_in_chunks(model._cells(model.adata))
    is_new = torch.cat([prototypes.is_new(number) for *_, number in chunks]).numpy()
    assert is_new.sum() == demo.n_obs - 500
    is_hidden = demo.obs["cell_type"].isna()
    for some in (uncertainty[is_hidden & is_new], uncertainty[is_hidden & ~is_new]):
        assert some.median() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("labels", [["a", "a"], ["a", "a", "b"], ["a"] * 8])
def test_few_labels_are_enough_to_go_on(toy, fit, labels):
    toy.obs["few"] = pd.Series([*labels, *[None] * (150 - len(labels))], toy.obs_names)
    found = fit(toy, 6, 2, setup={"labels_key": "few"}).predict_labels()
    assert found["few_uncertainty"].between(0, 1).all()


def test_of_several_modalities_and_keys(mosaic, fit):
    state = mosaic.obs["state"].astype(str)
    mosaic.obs["coarse"] = state.replace({"b": "a"}).where(np.arange(len(state)) % 2 == 0, None)
    model = fit(mosaic, 6, 5, setup={"labels_key": ["state", "coarse"]})
    ratios = [float(of_key.new_cells) for of_key in model._prototypes.values()]
    assert all(0.1 <= ratio <= 1 for ratio in ratios)
