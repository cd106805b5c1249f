import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmetaq.report import _pictures
from scmetaq.report._pictures import lay_out
from scmetaq.report._tables import summarize_labels


def svg(source):
    kind, content = source.split(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


@pytest.fixture
def layout(adata, assignments):
    return lay_out(adata, assignments["metacell"])


def test_pictures_are_drawings_that_repeat_and_leave_no_figure(adata, assignments, layout):
    labels = adata.obs["cell_type"].astype("category")
    summary = summarize_labels(assignments["metacell"], labels)
    pictures = [
        _pictures.embedding(layout, labels).source,
        _pictures.purity(summary),
        _pictures.training({"train_loss_epoch": pd.Series(np.arange(10.0))}),
    ]
    for picture in pictures:
        assert re.search(r"<svg .*</svg>", svg(picture), re.DOTALL)
    assert plt.get_fignums() == []
    assert _pictures.purity(summary) == pictures[1]


def test_labels_have_the_users_colours_unless_they_are_too_many(layout, adata, assignments):
    labels = pd.Series([f"type {i}" for i in range(60)], layout.cells.obs_names, name="fine")
    assert _pictures.embedding(layout, labels).color is None
    labels = adata.obs["cell_type"].astype("category")
    summary = summarize_labels(assignments["metacell"], labels)
    colors = ["#123456", "#654321", "#abcdef"]
    for picture in (
        _pictures.embedding(layout, labels, colors).source,
        _pictures.purity(summary, colors),
    ):
        assert all(color in svg(picture) for color in colors)


def test_the_rarest_of_many_labels_and_curves_that_are_zero_are_left_out(monkeypatch):
    labels = pd.Series([f"type {i}" for i in range(45) for _ in range(46 - i)], name="fine")
    labels = labels.astype("category")
    summary = summarize_labels(labels.rename("metacell"), labels)
    rows = svg(_pictures.purity(summary)).count("<!-- type ")
    assert rows == 40
    drawn = {}
    real = _pictures.pl.training

    def training(history):
        drawn.update(history)
        return real(history)

    monkeypatch.setattr(_pictures.pl, "training", training)
    zero = pd.DataFrame({"n_empty_codes_train": np.zeros(10)})
    loss = pd.DataFrame({"train_loss_epoch": np.arange(10.0)})
    _pictures.training({"n_empty_codes_train": zero, "train_loss_epoch": loss})
    assert list(drawn) == ["train_loss_epoch"]


def test_curves_of_few_epochs_are_not_drawn():
    few = pd.DataFrame({"loss": np.arange(9.0) + 1})
    steps = pd.DataFrame({"loss": np.arange(90.0) + 1})
    assert _pictures.training({"train_loss_epoch": few, "train_loss_step": steps}) is None
    assert _pictures.training({}) is None


def test_places_of_metacells_are_those_of_their_circles(layout):
    picture = _pictures.embedding(layout)
    text = svg(picture.source)
    size = [float(of) for of in re.search(r'viewBox="0 0 (\S+) (\S+)"', text).groups()]
    circles = re.findall(r'<path d="([^"]*)', text.split('id="PathCollection_1"')[1])[:6]
    corners = [np.array(re.findall(r"[\d.]+", path), float).reshape(-1, 2) for path in circles]
    found = np.array([(of.min(0) + of.max(0)) / 2 for of in corners]) / size
    places = picture.places
    assert list(places.index) == [f"mc{i}" for i in range(6)]
    order = [np.lexsort(of.T) for of in (found, places.to_numpy())]
    np.testing.assert_allclose(found[order[0]], places.to_numpy()[order[1]], atol=1e-3)


def test_a_stored_embedding_or_a_latent_is_drawn_if_given(adata, assignments, rng):
    layout = lay_out(adata, assignments["metacell"])
    np.testing.assert_array_equal(layout.cells.obsm["X_umap"], adata.obsm["X_umap"])
    assert "stored in the input" in layout.origin
    latent = rng.normal(size=(60, 4)) + 10 * np.repeat([0, 1, 2], 20)[:, None]
    stored = lay_out(adata, assignments["metacell"], embedding=latent)
    assert "stored in the input" in stored.origin
    del adata.obsm["X_umap"]
    layout = lay_out(adata, assignments["metacell"], embedding=latent)
    assert layout.origin == "UMAP of the model's latent, its own view of the cells"
    centres = layout.cells.obsm[layout.basis].reshape(3, 20, 2).mean(1)
    assert np.isfinite(centres).all()
    few = lay_out(adata[:10], assignments["metacell"][:10], embedding=latent[:10])
    np.testing.assert_array_equal(few.cells.obsm[few.basis], latent[:10, :2])


def test_an_embedding_that_cannot_be_drawn_is_not_used(adata, assignments):
    bad, cells = np.full((60, 2), np.nan), sp.csr_matrix(np.eye(60, 2))
    for stored in (np.zeros((60, 1)), cells, bad, np.zeros((60, 2), complex)):
        adata.obsm["X_umap"] = stored
        layout = lay_out(adata, assignments["metacell"])
        position = layout.cells.obsm[layout.basis]
        assert position.shape == (60, 2)
        assert np.isfinite(position).all()
        assert "principal components" in layout.origin


def test_embedding_separates_states_and_leaves_the_cells_alone(adata, assignments):
    del adata.obsm["X_umap"]
    before = adata.copy()
    layout = lay_out(adata, assignments["metacell"])
    position = layout.cells.obsm[layout.basis]
    assert position.shape == (60, 2)
    assert np.isfinite(position).all()
    assert "principal components of log-normalised counts" in layout.origin
    centres = position.reshape(3, 20, 2).mean(1)
    within = np.linalg.norm(position.reshape(3, 20, 2) - centres[:, None], axis=2).mean()
    between = np.linalg.norm(centres[:, None] - centres[None], axis=2)[~np.eye(3, dtype=bool)].min()
    assert between > 2 * within
    assert (adata.X != before.X).nnz == 0
    assert list(adata.obsm) == []


def test_a_layer_is_used(adata, assignments):
    del adata.obsm["X_umap"]
    adata = adata[:10].copy()
    adata.layers["counts"] = adata.X[:, ::-1].copy()
    assignment = assignments["metacell"][:10]
    of_layer = lay_out(adata, assignment, layer="counts").cells.obsm["X_pca"]
    adata.X = adata.layers["counts"]
    np.testing.assert_allclose(of_layer, lay_out(adata, assignment).cells.obsm["X_pca"])


@pytest.mark.parametrize("n_cells", [2, 3, 10])
def test_a_handful_of_cells_can_be_drawn(adata, assignments, n_cells):
    del adata.obsm["X_umap"]
    layout = lay_out(adata[:n_cells], assignments["metacell"][:n_cells])
    position = layout.cells.obsm[layout.basis]
    assert position.shape == (n_cells, 2)
    assert np.isfinite(position).all()


def test_many_cells_are_sampled(adata, assignments, monkeypatch):
    monkeypatch.setattr(_pictures, "MAX_CELLS", 25)
    layout = lay_out(adata, assignments["metacell"])
    cells = layout.cells
    assert cells.n_obs == 25
    assert cells.obs_names.is_unique
    drawn = adata[cells.obs_names]
    np.testing.assert_array_equal(cells.obsm["X_umap"], drawn.obsm["X_umap"])
    expected = assignments.loc[cells.obs_names, "metacell"]
    pd.testing.assert_series_equal(cells.obs["metacell"], expected)


def test_modalities_are_drawn_together_and_cells_without_one_at_its_mean(mdata, assignments):
    del mdata.obsm["X_umap"]
    both = ["rna", "adt"]
    mosaic = lay_out(mdata, assignments["metacell"], modalities=both)
    assert "log-normalised counts of rna, independent" in mosaic.origin
    assert mosaic.cells.obsm[mosaic.basis].shape == (60, 2)
    paired = mdata[mdata["adt"].obs_names][:15].copy()
    layout = lay_out(paired, assignments["metacell"][:15], modalities=both)
    assert layout.origin == "principal components of log-normalised counts of rna and adt"
    proteins = lay_out(mdata[45:].copy(), assignments["metacell"][45:], modalities=["rna"])
    assert proteins.cells.n_obs == 15
    few = mdata[34:46].copy()
    layout = lay_out(few, assignments["metacell"][34:46], modalities=["adt"])
    np.testing.assert_array_equal(layout.cells.obsm[layout.basis][6:], 0)


def test_neighbours_of_many_cells_are_a_sparse_matrix_that_scanpy_takes(rng):
    neighbors = _pictures._Neighbors(n_neighbors=5, random_state=0)
    found = neighbors.fit_transform(rng.normal(size=(60, 4)).astype(np.float32))
    assert isinstance(found, sp.csr_matrix)
    assert found.shape == (60, 60)
    assert len(np.unique(found.getnnz(axis=1))) == 1
