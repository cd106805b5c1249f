import numpy as np
import pandas as pd
import pytest

from scmetaq.report import _layout
from scmetaq.report._layout import lay_out


def test_stored_embedding_is_taken(adata, assignments):
    layout = lay_out(adata, assignments["metacell"])
    np.testing.assert_array_equal(layout.cells.obsm["X_umap"], adata.obsm["X_umap"])
    assert "stored in the input" in layout.origin


def test_embedding_tells_states_apart_and_leaves_the_cells_alone(adata, assignments):
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


def test_many_cells_are_sampled_with_what_belongs_to_them(adata, assignments, monkeypatch):
    monkeypatch.setattr(_layout, "MAX_CELLS", 25)
    cells = lay_out(adata, assignments["metacell"]).cells
    assert cells.n_obs == 25
    assert cells.obs_names.is_unique
    drawn = adata[cells.obs_names]
    np.testing.assert_array_equal(cells.obsm["X_umap"], drawn.obsm["X_umap"])
    expected = assignments.loc[cells.obs_names, "metacell"]
    pd.testing.assert_series_equal(cells.obs["metacell"], expected)
