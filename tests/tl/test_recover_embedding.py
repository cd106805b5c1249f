import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier

from scmetaq.tl import aggregate, recover_embedding, spectral_metacells

ROTATION = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0]


def integrated(x):
    """What stands for an integration: a rotation, a shift, one dimension fewer."""
    return (3 * x @ ROTATION + 7)[:, :3]


@pytest.fixture(scope="module")
def cells():
    """600 cells along curves in four dimensions, in 40 metacells, ten cells in none."""
    rng = np.random.default_rng(0)
    x = np.repeat(3 * rng.normal(size=(4, 4)), 150, axis=0) + rng.normal(size=(600, 4))
    names = pd.Series([f"mc{i:02d}" for i in spectral_metacells(x, 40)], dtype=object)
    names[:10] = None
    obs = pd.DataFrame({"metacell": names.to_numpy()}, index=[f"cell{i}" for i in range(600)])
    return AnnData(sparse.csr_matrix(rng.poisson(2.0, (600, 8))), obs=obs, obsm={"X_pca": x})


@pytest.fixture(scope="module")
def metacells(cells):
    """Metacells in the integrated space, in another order than their names'."""
    frame = pd.DataFrame(cells.obsm["X_pca"], cells.obs_names)
    means = frame.groupby(cells.obs["metacell"]).mean().sample(frac=1, random_state=0)
    obs = pd.DataFrame(index=means.index.astype(str))
    return AnnData(obs=obs, obsm={"X_harmony": integrated(means.to_numpy())})


def test_cells_follow_their_metacells_and_bend_where_a_plane_cannot(cells, metacells):
    z = recover_embedding(cells, metacells, "X_harmony", basis="X_pca")
    expected = integrated(cells.obsm["X_pca"])
    assert z.shape == (600, 3)
    assert z.dtype == np.float32
    unexplained = ((z - expected) ** 2).sum() / ((expected - expected.mean(0)) ** 2).sum()
    assert unexplained < 0.02
    assert ((z - expected)[:10] ** 2).mean() < 0.1 * expected.var()  # those in no metacell
    bent = changed(metacells, X_bent=np.abs(metacells.obsm["X_harmony"] - 7))
    z = recover_embedding(cells, bent, "X_bent", basis="X_pca")
    expected = np.abs(integrated(cells.obsm["X_pca"]) - 7)
    x = cells.obsm["X_pca"]
    plane = LinearRegression().fit(x, expected).predict(x)
    assert ((z - expected) ** 2).mean() < 0.5 * ((plane - expected) ** 2).mean()


def test_counts_of_blood_cells_are_enough(blood):
    cells = blood.copy()
    by = pd.Series(np.arange(400) // 8, cells.obs_names)  # in an order that puts types together
    order = cells.obs["cell_type"].argsort()
    cells.obs["metacell"] = pd.Series(by.to_numpy(), cells.obs_names[order]).astype(str)
    metacells = aggregate(cells)
    profiles = np.log1p(metacells.X.toarray())
    metacells.obsm["X_int"] = np.linalg.svd(profiles - profiles.mean(0))[0][:, :10]
    z = recover_embedding(cells, metacells, "X_int")
    neighbors = KNeighborsClassifier(3).fit(metacells.obsm["X_int"], metacells.obs["cell_type"])
    assert (neighbors.predict(z) == cells.obs["cell_type"].to_numpy()).mean() > 0.7
    assert "X_int" not in cells.obsm


def test_order_of_metacells_does_not_matter_and_the_seed_decides(cells, metacells):
    z = recover_embedding(cells, metacells, "X_harmony", basis="X_pca", seed=3)
    again = recover_embedding(cells, metacells[::-1].copy(), "X_harmony", basis="X_pca", seed=3)
    np.testing.assert_array_equal(z, again)
    other = recover_embedding(cells, metacells, "X_harmony", basis="X_pca", seed=4)
    assert not np.array_equal(z, other)
    # nothing is written
    before = cells.copy()
    recover_embedding(cells, metacells, "X_harmony", by=cells.obs["metacell"])
    assert set(cells.obsm) == {"X_pca"}
    np.testing.assert_array_equal(cells.obsm["X_pca"], before.obsm["X_pca"])
    pd.testing.assert_frame_equal(cells.obs, before.obs)


def changed(adata, **obsm):
    other = adata.copy()
    other.obsm.update(obsm)
    return other


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"use_rep": "X_x"}, KeyError, r"`metacells.obsm`, found no 'X_x'.*'X_harmony'"),
        ({"basis": "X_x"}, KeyError, r"`adata.obsm`, found no 'X_x'.*'X_pca'"),
        ({"by": "leiden"}, KeyError, "`by` to name a column of `obs`, found no 'leiden'"),
        ({"layer": "raw", "basis": None}, KeyError, "`layer` to name a layer, found no 'raw'"),
        ({"layer": "scaled", "basis": None}, ValueError, "in layer 'scaled', found .* negative"),
        (
            {"basis": "X_sparse"},
            TypeError,
            r"`adata.obsm\['X_sparse'\]` as a dense array, found a sparse",
        ),
        ({"use_rep": "X_nan"}, ValueError, "missing or huge"),
        ({"by": lambda c, m: pd.Series(m.obs_names[0], c.obs_names)}, ValueError, "at least two"),
        ({"metacells": lambda c, m: m[:1].copy()}, ValueError, r"found 39 unknown, e.g. \['mc"),
        ({"metacells": lambda c, m: m.obs}, TypeError, "`metacells` as an AnnData, found DataF"),
    ],
)
def test_bad_input_is_named(cells, metacells, arguments, error, message):
    missing = metacells.obsm["X_harmony"].copy()
    missing[0, 0] = np.nan
    cells = changed(cells, X_sparse=sparse.csr_matrix(cells.obsm["X_pca"]))
    cells.layers["scaled"] = cells.X - 1.0 * (cells.X > 0).multiply(5)
    given = {"metacells": changed(metacells, X_nan=missing), "use_rep": "X_harmony"}
    given |= {"basis": "X_pca"} | arguments
    given = {k: v(cells, metacells) if callable(v) else v for k, v in given.items()}
    with pytest.raises(error, match=message):
        recover_embedding(cells, **given)
