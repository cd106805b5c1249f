"""Scores of labels that are told from features."""

import numpy as np
import torch
from scipy import sparse

from scmetaq.model._label_scores import even_sample
from scmetaq.nn import PRESENT


def log_counts(adata):
    counts = adata.X.toarray()
    return np.log1p(1e4 * counts / counts.sum(1, keepdims=True))


def squared_distances(values, part):
    """By hand: whitened, and without what means of few cells err by."""
    away = values[:, None] - part.means.numpy()  # N x L x D
    white = np.einsum("nld,de->nle", away, part.whitening.numpy())
    return (white**2).sum(2) - part.spread.item() / part.n_cells.numpy()


def test_labels_are_those_of_both_distances(toy, fit):
    """Features that overlap more than those of the toy, so that the two do not always agree."""
    rng = np.random.default_rng(3)
    counts = rng.binomial(toy.X.toarray().astype(int), 0.15) + rng.poisson(1.0, toy.shape)
    toy.X = sparse.csr_matrix(counts, dtype=np.float32)
    model = fit(toy, setup={"labels_key": "state"})
    prototypes = model._prototypes["state"]
    log = log_counts(toy)
    scores = (log - log.mean(0)) @ prototypes.scores.axes.numpy()
    scores += prototypes.scores.offset.numpy()
    in_latent = squared_distances(model.get_latent_representation(), prototypes)
    expected = in_latent + 4 * squared_distances(scores, prototypes.scores)
    found = model.predict_labels()["state"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    clear = np.diff(np.sort(expected, axis=1)[:, :2])[:, 0] > 0.1
    assert clear.mean() > 0.9
    assert (found == expected.argmin(1))[clear].all()
    assert (in_latent.argmin(1) != expected.argmin(1))[clear].any()


def test_features_are_centred_log_counts(toy, fit):
    model = fit(toy, setup={"labels_key": "state"})
    cells = model._cells(model.adata_manager)
    found = model._in_blocks(lambda block: {"values": model._log_values(block)}, cells)["values"]
    log = log_counts(toy)
    np.testing.assert_allclose(found, log - log.mean(0), atol=2e-4)


def test_a_modality_that_a_cell_lacks_says_nothing(mosaic, fit):
    modalities = {"rna_layer": "rna", "adt_layer": "adt"}
    model = fit(mosaic, setup={"labels_key": "state", "modalities": modalities})
    cells = model._cells(model.adata_manager)

    def read(block):
        return {"values": model._log_values(block), "there": block.inputs["adt"][PRESENT]}

    found = model._in_blocks(read, cells)
    of_proteins = found["values"][:, 60:]
    assert of_proteins.shape == (150, 8)
    assert (of_proteins[found["there"][:, 0] == 0] == 0).all()
    assert (of_proteins[found["there"][:, 0] == 1] != 0).any(1).all()


def test_the_published_recipe_has_none(toy, fit):
    model = fit(toy, recipe="published", setup={"labels_key": "state"})
    assert not model._prototypes["state"].scores.is_fitted
    assert set(model.predict_labels()["state"]) <= {"a", "b", "c"}


def test_fewer_cells_are_enough(toy, fit, monkeypatch):
    whole = fit(toy.copy(), setup={"labels_key": "state"}).predict_labels()["state"]
    monkeypatch.setattr("scmetaq.model._label_scores._MOST_VALUES", 60 * 30)
    model = fit(toy, setup={"labels_key": "state"})
    assert model._prototypes["state"].scores.n_cells.tolist() == [10, 10, 10]
    assert (model.predict_labels()["state"] == whole).mean() > 0.95


def test_training_again_fits_them_anew(toy, fit, train):
    """Types that were added meanwhile are gone, as their prototypes are."""
    toy.obs["some"] = toy.obs["state"].astype(str).replace("c", "Unknown")
    model = fit(toy, setup={"labels_key": "some"})
    named = toy.copy()
    named.obs["some"] = toy.obs["state"]
    model.add_labels(named, "some")
    assert len(model._prototypes["some"].scores.means) == 3
    train(model, 1)
    assert len(model._prototypes["some"].scores.means) == 2
    assert set(model.predict_labels()["some"]) == {"a", "b"}


def test_samples_are_even_over_labels():
    codes = np.repeat([0, 1, -1, 2], [1000, 5, 300, 100])
    chosen = even_sample(codes, 65)
    assert np.bincount(codes[chosen]).tolist() == [30, 5, 30]
    assert (np.diff(chosen) > 0).all()
    assert len(even_sample(codes, 10_000)) == 1105
    assert torch.equal(*(torch.from_numpy(even_sample(codes, 65)) for _ in range(2)))
