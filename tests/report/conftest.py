import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData


@pytest.fixture(autouse=True)
def _no_screen():
    """Draw without a screen, and with no figure that another test left open."""
    plt.switch_backend("agg")
    plt.close("all")


@pytest.fixture
def adata(rng):
    """60 cells in six metacells and three labels, with an embedding."""
    state = np.repeat([0, 1, 2], 20)
    counts = rng.poisson(rng.gamma(0.5, 3, (3, 30))[state] + 0.2).astype(np.float32)
    counts[:, 0] += 1
    labels = np.array(["B", "NK", "T<cell>"])[state].astype(object)
    obs = pd.DataFrame({"cell_type": labels}, index=[f"cell{i}" for i in range(60)])
    position = rng.normal(size=(60, 2)) + 10 * state[:, None]
    return AnnData(sp.csr_matrix(counts), obs=obs, obsm={"X_umap": position})


@pytest.fixture
def assignments(adata):
    """Five cells of each label in one metacell, fifteen in another; the last cell in none."""
    names = [f"mc{i // 20 * 2 + (i % 20 > 4)}" for i in range(60)]
    frame = pd.DataFrame({"metacell": names, "margin": 0.5}, index=adata.obs_names)
    frame.loc[frame["metacell"] == "mc3", "margin"] = 0.1
    frame.loc["cell59", "metacell"] = None
    return frame


@pytest.fixture
def mdata(adata, rng):
    """The cells with proteins, which the last 20 lack, and labels in the obs of the RNA."""
    counts = sp.csr_matrix(rng.poisson(5, size=(40, 6)).astype(np.float32) + 1)
    names = pd.DataFrame(index=[f"protein{i}" for i in range(6)])
    mdata = MuData({"rna": adata, "adt": AnnData(counts, adata.obs[[]][:40].copy(), names)})
    mdata.obsm["X_umap"] = adata.obsm["X_umap"]
    return mdata
