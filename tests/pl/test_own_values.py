import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scmetaq import metrics, pl
from scmetaq.metrics import compactness
from scmetaq.pl._own_values import own_values


@pytest.fixture
def adata():
    """Two pure metacells, of 90 and of 10 cells."""
    rng = np.random.default_rng(0)
    rate = np.repeat([[9, 1, 5, 2, 7, 3], [1, 9, 2, 5, 3, 7]], [90, 10], axis=0)
    obs = pd.DataFrame({"metacell": ["a"] * 90 + ["b"] * 10}, index=np.arange(100).astype(str))
    return AnnData(sp.csr_matrix(rng.poisson(20.0 * rate)).astype(np.float32), obs=obs)


def test_a_metacell_is_as_compact_as_alone(adata):
    frame = metrics.evaluate(adata)
    own = own_values(frame)[frame["metric"] == "compactness"]
    cells = adata.X.toarray()
    log = np.log1p(cells / cells.sum(1, keepdims=True) * 1e4)
    alone = [
        compactness(log[name], np.zeros(len(log[name]))).item()
        for name in (slice(90), slice(90, 100))
    ]
    np.testing.assert_allclose(own, alone, rtol=1e-5)
    assert (frame.loc[own.index, "value"] > 1).any()
    others = frame["metric"].isin(["n_cells", "inv", "size_max"])
    pd.testing.assert_series_equal(own_values(frame)[others], frame.loc[others, "value"])


def test_weights_are_those_of_the_method_and_the_modality(adata):
    one = metrics.evaluate(adata)
    adata.obs["metacell"] = ["a"] * 50 + ["b"] * 50
    other = metrics.evaluate(adata)
    both = pd.concat(
        [
            frame.assign(method=method, modality=modality)
            for method, frame in (("x", one), ("y", other))
            for modality in ("rna", np.nan)
        ],
        ignore_index=True,
    )
    alone = [own_values(frame) for frame in (one, one, other, other)]
    pd.testing.assert_series_equal(own_values(both), pd.concat(alone, ignore_index=True))


def test_without_sizes_values_stay(adata):
    frame = metrics.evaluate(adata)
    frame = frame[frame["metric"] != "n_cells"]
    pd.testing.assert_series_equal(own_values(frame), frame["value"])


def test_boxes_are_of_metacells_and_the_mean_of_cells(adata):
    frame = metrics.evaluate(adata)
    (panel,) = pl.metrics(frame, "compactness")
    box = panel.patches[0]
    assert 0 < box.get_x() < box.get_x() + box.get_width() <= 1
    rows = frame[frame["metric"] == "compactness"]
    assert panel.collections[0].get_offsets()[0][0] == pytest.approx(rows["value"].mean())
