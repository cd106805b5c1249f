import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._embedding import _round_steps
from scmetaq.pl._style import ACCENT, GREY, PALETTE


def tints(part):
    return {to_hex(color).upper() for color in part.get_facecolors()}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def points(ax):
    return np.concatenate([np.asarray(part.get_offsets()) for part in ax.collections])


def test_metacells_sit_at_the_mean_of_their_cells_in_the_colour_of_the_majority(adata):
    position = pd.DataFrame(adata.obsm["X_umap"], adata.obs_names)
    means = position.groupby(adata.obs["metacell"], observed=True).mean()
    drawn = pl.embedding(adata, color="cell_type").collections
    for part, expected in zip(drawn, (position, means), strict=True):
        found = sorted(map(tuple, np.asarray(part.get_offsets())))
        np.testing.assert_allclose(found, sorted(map(tuple, expected.to_numpy())))
    ax = pl.embedding(adata, color="cell_type")
    assert tints(ax.collections[1]) == set(PALETTE[:3])
    assert (legend(ax)[:3], legend(ax)[-1]) == (["B", "NK", "T"], "10 cells")
    adata.uns["cell_type_colors"] = ["#FF0000", "#00FF00", "#0000FF"]  # scanpy's
    drawn = pl.embedding(adata, color="cell_type").collections[1]
    assert tints(drawn) == set(adata.uns["cell_type_colors"])


def test_points_are_rasterised_given_axes_come_back_and_areas_grow_with_cells(adata):
    before = adata.copy()
    ax = pl.embedding(adata, color="cell_type")
    assert ax.collections[0].get_rasterized()
    assert pl.embedding(adata, ax=ax) is ax
    assert adata.obs.equals(before.obs)
    assert dict(adata.uns) == {}
    metacells = pl.embedding(adata).collections[1]
    assert tints(metacells) == {ACCENT}
    areas = metacells.get_sizes()
    np.testing.assert_allclose(areas / areas.max(), [1, 1, 1, 1 / 3, 1 / 3, 1 / 3])
    adata.obs["metacell"] = np.arange(60) % 4 - 1
    cells, metacells = pl.embedding(adata).collections
    assert (len(cells.get_offsets()), len(metacells.get_offsets())) == (60, 3)


def test_numbers_of_cells_have_a_scale_and_metacells_their_mean(adata):
    adata.obs.loc[adata.obs_names[:8], "depth"] = np.nan
    ax = pl.embedding(adata, color="depth")
    cells, metacells = ax.collections
    assert [of.get_ylabel() for of in ax.figure.axes[1:]] == ["depth"]
    assert legend(ax)[0] == "depth unknown"
    depth = adata.obs["depth"]
    means = depth.groupby(adata.obs["metacell"], observed=True).mean()
    np.testing.assert_allclose(sorted(cells.get_array().compressed()), sorted(depth.dropna()))
    np.testing.assert_allclose(sorted(metacells.get_array().compressed()), sorted(means.dropna()))
    assert cells.get_clim() == metacells.get_clim() == (depth.min(), depth.max())
    assert to_hex(cells.cmap(np.ma.masked)).upper() == GREY
    adata.obs["level"] = np.arange(60) % 3 + 0.0  # whole numbers are labels
    assert len(pl.embedding(adata, color="level").figure.axes) == 1


@pytest.mark.parametrize(
    ("largest", "steps"), [(1, [1]), (3, [2]), (60, [2, 10, 50]), (1500, [50, 200, 1000])]
)
def test_size_key_is_round(largest, steps):
    assert _round_steps(largest) == steps


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"color": "name"}, ValueError, "at most 100 labels.* 'name', found 120"),
        ({"basis": "X_one"}, ValueError, r"two columns, found shape \(120, 1\) of 'X_one'"),
        ({"color": "cell_type"}, ValueError, "found 'no colour' among those of the labels"),
        ({"basis": "X_tsne"}, KeyError, r"`basis` 'X_tsne'.*\['X_one', 'X_umap'\]"),
        ({"color": "kind"}, KeyError, "`color` 'kind'.*'cell_type'"),
        ({"metacell": "none"}, ValueError, "found none among 120"),
    ],
)
def test_bad_input_is_named(adata, arguments, error, message):
    adata = adata[[0, 1] * 60].copy()
    adata.obs_names_make_unique()
    adata.obs = adata.obs.assign(name=adata.obs_names, none=None)
    adata.obsm["X_one"] = adata.obsm["X_umap"][:, :1]
    adata.uns["cell_type_colors"] = ["red", "blue", "no colour"]
    with pytest.raises(TypeError, match="`adata` as an AnnData, found DataFrame"):
        pl.embedding(adata.obs)
    with pytest.raises(error, match=message):
        pl.embedding(adata, **arguments)


@pytest.fixture
def samples():
    """Six samples, one without a known treatment."""
    stim = pd.Categorical(["b", "b", "a", "a", "a", None])
    obs = pd.DataFrame(
        {"stim": stim, "age": [30.0, 41, 52, 63, 74, 85]}, [f"s{i}" for i in range(6)]
    )
    X = np.random.default_rng(0).normal(size=(6, 3))
    uns = {"pca": {"variance_ratio": np.array([0.614, 0.3, 0.086])}}
    return AnnData(X, obs=obs, obsm={"X_pca": X, "X_one": X[:, :1]}, uns=uns)


def test_samples_are_at_their_components(samples):
    ax = pl.conditions(samples)
    np.testing.assert_allclose(points(ax), samples.obsm["X_pca"][:, :2])
    assert tints(ax.collections[0]) == {ACCENT}
    assert ax.get_xlabel() == "PC1 (61% of the variance)"
    assert ax.get_ylabel() == "PC2 (30% of the variance)"
    assert [text.get_text() for text in ax.texts] == samples.obs_names.tolist()
    ax = pl.conditions(samples, basis="X_one")
    np.testing.assert_allclose(points(ax), np.c_[samples.obsm["X_one"], np.zeros(6)])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("one 1", "")
    assert list(ax.get_yticks()) == []


def test_categories_have_colours_in_order_or_scanpys(samples):
    samples.obs["stim"] = samples.obs["stim"].cat.rename_categories({"a": "_a"})
    before = samples.copy()
    ax = pl.conditions(samples, "stim")
    assert legend(ax) == ["_a", "b", "unknown"]
    of_a = ax.collections[0]
    np.testing.assert_allclose(of_a.get_offsets(), samples.obsm["X_pca"][2:5, :2])
    assert tints(of_a) == {PALETTE[0]}
    assert pl.conditions(samples, "stim", ax=ax) is ax
    assert samples.obs.equals(before.obs)
    assert list(samples.uns) == list(before.uns)
    samples.uns["stim_colors"] = ["#FF0000", "#00FF00"]
    ax = pl.conditions(samples[:2].copy(), "stim")
    assert tints(ax.collections[0]) == {"#00FF00"}


def test_numbers_have_a_scale_and_samples_without_one_are_grey(samples):
    ax = pl.conditions(samples, "age")
    assert [of.get_ylabel() for of in ax.figure.axes[1:]] == ["age"]
    np.testing.assert_allclose(ax.collections[0].get_array(), samples.obs["age"])
    samples.obs.loc[["s1", "s4"], "age"] = np.nan
    ax = pl.conditions(samples, "age")
    known, unknown = ax.collections
    np.testing.assert_allclose(unknown.get_offsets(), samples.obsm["X_pca"][[1, 4], :2])
    assert tints(unknown) == {GREY}
    assert len(known.get_offsets()) == 4
    assert legend(ax) == ["age unknown"]
    samples.obs["age"] = np.nan
    ax = pl.conditions(samples, "age")
    assert (len(ax.figure.axes), len(points(ax))) == (1, 6)


def test_few_samples_have_names_and_bad_ones_are_named(samples):
    assert len(pl.conditions(samples[:1].copy()).texts) == 1
    many = AnnData(np.zeros((40, 1)), obsm={"X_pca": np.random.default_rng(0).normal(size=(40, 2))})
    assert not pl.conditions(many).texts
    for given, options, error, message in (
        (samples, {"basis": "X_umap"}, KeyError, r"`basis` 'X_umap'.*\['X_one', 'X_pca'\]"),
        (samples, {"color": "dose"}, KeyError, "`color` 'dose'.*'age', 'stim'"),
        ({"donor": samples}, {}, TypeError, "found dict.*the entry of one key"),
    ):
        with pytest.raises(error, match=message):
            pl.conditions(given, **options)
    many = samples[[0] * 30].copy()
    many.obs_names_make_unique()
    many.obs["name"] = many.obs_names
    with pytest.raises(ValueError, match="at most 20 labels.* 'name', found 30"):
        pl.conditions(many, "name")
