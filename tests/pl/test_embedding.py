import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._embedding import _round_steps
from scmetaq.pl._style import ACCENT, GREY, PALETTE


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
    assert {to_hex(c).upper() for c in metacells.get_facecolors()} == {ACCENT}
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


def test_cells_without_metacell_are_drawn_as_cells_only(adata):
    numbers = np.arange(60) % 4 - 1
    adata.obs["metacell"] = numbers
    cells, metacells = pl.embedding(adata).collections
    assert len(cells.get_offsets()) == 60
    assert len(metacells.get_offsets()) == 3


def test_points_are_rasterised_and_given_axes_come_back(adata):
    before = adata.copy()
    ax = pl.embedding(adata, color="cell_type")
    assert ax.collections[0].get_rasterized()
    assert pl.embedding(adata, ax=ax) is ax
    assert adata.obs.equals(before.obs)
    assert dict(adata.uns) == {}


@pytest.mark.parametrize(
    ("largest", "steps"), [(1, [1]), (3, [2]), (60, [2, 10, 50]), (1500, [50, 200, 1000])]
)
def test_size_key_is_round(largest, steps):
    assert _round_steps(largest) == steps


def test_bad_input_is_named(adata):
    many = adata[[0, 1] * 60].copy()
    many.obs_names_make_unique()
    many.obs["name"] = many.obs_names
    with pytest.raises(ValueError, match="at most 100 labels in 'name', found 120"):
        pl.embedding(many, color="name")
    adata.obsm["X_one"] = adata.obsm["X_umap"][:, :1]
    with pytest.raises(ValueError, match=r"two columns in `obsm\['X_one'\]`, found .*\(60, 1\)"):
        pl.embedding(adata, basis="X_one")
    adata.uns["cell_type_colors"] = ["red", "blue", "no colour"]
    with pytest.raises(ValueError, match="found 'no colour' among those chosen"):
        pl.embedding(adata, color="cell_type")
    with pytest.raises(KeyError, match=r"no 'X_tsne'.*\['X_one', 'X_umap'\]"):
        pl.embedding(adata, basis="X_tsne")
    with pytest.raises(KeyError, match="no 'kind'.*'cell_type'"):
        pl.embedding(adata, color="kind")
    with pytest.raises(TypeError, match="labels in 'depth', found decimal numbers"):
        pl.embedding(adata, color="depth")
    adata.obs["metacell"] = None
    with pytest.raises(ValueError, match="found none among 60"):
        pl.embedding(adata)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_integers_with_missing_values_are_labels(adata):
    adata.obs["group"] = np.where(np.arange(60) % 4 == 3, np.nan, np.arange(60) % 4)
    assert legend(pl.embedding(adata, color="group"))[:4] == ["0", "1", "2", "no label"]


def test_cells_without_a_label_are_in_the_legend(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"B": "_B"})
    assert "no label" not in legend(pl.embedding(adata, color="cell_type"))
    adata.obs.loc["cell0", "cell_type"] = None
    ax = pl.embedding(adata, color="cell_type")
    assert legend(ax)[:4] == ["_B", "NK", "T", "no label"]
    assert to_hex(ax.get_legend().legend_handles[3].get_color()).upper() == GREY
    adata.obs["nothing"] = pd.Categorical([None] * 60)
    ax = pl.embedding(adata, color="nothing")
    assert legend(ax)[0] == "no label"
    assert {to_hex(c).upper() for c in ax.collections[1].get_facecolors()} == {GREY}


def test_many_long_names_fit_and_differ_in_colour(adata):
    adata.obs["fine"] = [f"a rather long name of a cell type, number {i}" for i in range(60)]
    ax = pl.embedding(adata, color="fine")
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
    assert ax.bbox.width / ax.figure.dpi > 4
    drawn = [sign.get_color() for sign in ax.get_legend().legend_handles[:60]]
    assert len(set(drawn)) == 60
    shown = legend(ax)[:60]
    assert len(set(shown)) == 60
    assert max(map(len, shown)) <= 30
