import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._style import ACCENT, GREY, PALETTE


@pytest.fixture
def samples():
    """Six samples, one without a known treatment."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "stim": pd.Categorical(["b", "b", "a", "a", "a", None]),
            "age": [30.0, 41, 52, 63, 74, 85],
        },
        index=[f"s{i}" for i in range(6)],
    )
    X = rng.normal(size=(6, 3))
    uns = {"pca": {"variance_ratio": np.array([0.614, 0.3, 0.086])}}
    return AnnData(X, obs=obs, obsm={"X_pca": X, "X_one": X[:, :1]}, uns=uns)


def drawn(ax):
    """Positions of all points."""
    return np.concatenate([np.asarray(part.get_offsets()) for part in ax.collections])


def test_samples_are_at_their_components(samples):
    ax = pl.conditions(samples)
    np.testing.assert_allclose(drawn(ax), samples.obsm["X_pca"][:, :2])
    assert {to_hex(c).upper() for c in ax.collections[0].get_facecolors()} == {ACCENT}
    assert ax.get_xlabel() == "PC1 (61% of the variance)"
    assert ax.get_ylabel() == "PC2 (30% of the variance)"
    assert [text.get_text() for text in ax.texts] == samples.obs_names.tolist()


def test_categories_have_colours_in_order(samples):
    samples.obs["stim"] = samples.obs["stim"].cat.rename_categories({"a": "_a"})
    ax = pl.conditions(samples, "stim")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["_a", "b", "unknown"]
    of_a = ax.collections[0]
    np.testing.assert_allclose(of_a.get_offsets(), samples.obsm["X_pca"][2:5, :2])
    assert to_hex(of_a.get_facecolors()[0]).upper() == PALETTE[0]


def test_scanpys_colours_are_kept_also_of_some_of_the_categories(samples):
    samples.uns["stim_colors"] = ["#ff0000", "#00ff00"]
    ax = pl.conditions(samples[:2].copy(), "stim")
    assert to_hex(ax.collections[0].get_facecolors()[0]) == "#00ff00"


def test_numbers_have_a_scale(samples):
    ax = pl.conditions(samples, "age")
    assert len(ax.figure.axes) == 2
    np.testing.assert_allclose(ax.collections[0].get_array(), samples.obs["age"])
    assert ax.figure.axes[1].get_ylabel() == "age"


def test_one_component_is_a_line(samples):
    ax = pl.conditions(samples, basis="X_one")
    np.testing.assert_allclose(drawn(ax), np.c_[samples.obsm["X_one"], np.zeros(6)])
    assert ax.get_xlabel() == "one 1"
    assert ax.get_ylabel() == ""
    assert list(ax.get_yticks()) == []


def test_given_axes_come_back_and_nothing_is_changed(samples):
    before = samples.copy()
    ax = pl.conditions(samples, "stim")
    assert pl.conditions(samples, "stim", ax=ax) is ax
    assert samples.obs.equals(before.obs)
    assert list(samples.uns) == list(before.uns)


def test_one_sample_has_its_name_and_many_have_none(samples):
    assert len(pl.conditions(samples[:1].copy()).texts) == 1
    many = AnnData(np.zeros((40, 1)), obsm={"X_pca": np.random.default_rng(0).normal(size=(40, 2))})
    assert not pl.conditions(many).texts


def test_bad_input_is_named(samples):
    with pytest.raises(KeyError, match=r"no 'X_umap'.*\['X_one', 'X_pca'\]"):
        pl.conditions(samples, basis="X_umap")
    with pytest.raises(KeyError, match="no 'dose'.*'age', 'stim'"):
        pl.conditions(samples, "dose")
    with pytest.raises(TypeError, match="found dict.*the entry of one key"):
        pl.conditions({"donor": samples})
    many = samples[[0] * 30].copy()
    many.obs_names_make_unique()
    many.obs["name"] = many.obs_names
    with pytest.raises(ValueError, match="at most 20 categories in 'name', found 30"):
        pl.conditions(many, "name")


def test_samples_whose_number_is_missing_are_grey(samples):
    samples.obs.loc[["s1", "s4"], "age"] = np.nan
    ax = pl.conditions(samples, "age")
    known, unknown = ax.collections
    np.testing.assert_allclose(unknown.get_offsets(), samples.obsm["X_pca"][[1, 4], :2])
    assert {to_hex(c).upper() for c in unknown.get_facecolors()} == {GREY}
    assert len(known.get_offsets()) == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["age unknown"]
    samples.obs["age"] = np.nan
    ax = pl.conditions(samples, "age")
    assert len(ax.figure.axes) == 1
    assert len(drawn(ax)) == 6
