import numpy as np
import pytest
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._embedding import _round_steps
from scmetaq.pl._style import ACCENT, PALETTE


def test_metacells_sit_at_the_mean_of_their_cells(adata):
    cells, metacells = pl.embedding(adata, color="cell_type").collections
    position = adata.obsm["X_umap"]
    drawn = sorted(map(tuple, np.asarray(metacells.get_offsets())))
    means = [
        position[adata.obs["metacell"] == m].mean(axis=0) for m in adata.obs["metacell"].unique()
    ]
    np.testing.assert_allclose(drawn, sorted(map(tuple, means)))
    np.testing.assert_allclose(
        sorted(map(tuple, np.asarray(cells.get_offsets()))), sorted(map(tuple, position))
    )


def test_area_grows_with_the_number_of_cells(adata):
    metacells = pl.embedding(adata).collections[1]
    areas = metacells.get_sizes()
    np.testing.assert_allclose(areas / areas.max(), [1, 1, 1, 1 / 3, 1 / 3, 1 / 3])


def test_colours_are_of_the_majority_label(adata):
    ax = pl.embedding(adata, color="cell_type")
    found = {to_hex(c).upper() for c in ax.collections[1].get_facecolors()}
    assert found == set(PALETTE[:3])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[:3] == ["B", "NK", "T"]
    assert texts[-1] == "10 cells"


def test_scanpys_colours_are_kept(adata):
    adata.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    drawn = pl.embedding(adata, color="cell_type").collections[1].get_facecolors()
    assert {to_hex(c) for c in drawn} == {"#ff0000", "#00ff00", "#0000ff"}


def test_without_labels_metacells_are_of_one_colour(adata):
    drawn = pl.embedding(adata).collections[1].get_facecolors()
    assert {to_hex(c).upper() for c in drawn} == {ACCENT}


def test_cells_without_metacell_are_drawn_as_cells_only(adata):
    numbers = np.arange(60) % 4 - 1
    adata.obs["metacell"] = numbers
    cells, metacells = pl.embedding(adata).collections
    assert len(cells.get_offsets()) == 60
    assert len(metacells.get_offsets()) == 3


def test_points_are_rasterised_and_input_is_not_changed(adata):
    before = adata.copy()
    ax = pl.embedding(adata, color="cell_type")
    assert ax.collections[0].get_rasterized()
    assert adata.obs.equals(before.obs)
    assert dict(adata.uns) == {}


def test_given_axes_come_back(adata):
    ax = pl.embedding(adata)
    assert pl.embedding(adata, ax=ax) is ax


@pytest.mark.parametrize(
    ("largest", "steps"), [(1, [1]), (3, [2]), (60, [2, 10, 50]), (1500, [50, 200, 1000])]
)
def test_size_key_is_round(largest, steps):
    assert _round_steps(largest) == steps


def test_bad_input_is_named(adata):
    with pytest.raises(KeyError, match=r"no 'X_tsne'.*\['X_umap'\]"):
        pl.embedding(adata, basis="X_tsne")
    with pytest.raises(KeyError, match="no 'kind'.*'cell_type'"):
        pl.embedding(adata, color="kind")
    with pytest.raises(TypeError, match="labels in 'depth', found decimal numbers"):
        pl.embedding(adata, color="depth")
    adata.obs["metacell"] = None
    with pytest.raises(ValueError, match="found none among 60"):
        pl.embedding(adata)
