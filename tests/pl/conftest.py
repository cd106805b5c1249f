import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData


@pytest.fixture(autouse=True)
def _figures(monkeypatch):
    """Draw without a screen, and leave no figure open."""
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.fixture
def adata():
    """60 cells in three labels and six metacells, on a plane."""
    rng = np.random.default_rng(0)
    state = np.repeat([0, 1, 2], 20)
    obs = pd.DataFrame(
        {
            "metacell": pd.Categorical([f"mc{s * 2 + (i % 20 > 4)}" for i, s in enumerate(state)]),
            "cell_type": pd.Categorical(np.array(["B", "NK", "T"])[state]),
            "depth": rng.normal(size=60),
        },
        index=[f"cell{i}" for i in range(60)],
    )
    position = rng.normal(size=(60, 2)) + 10 * state[:, None]
    return AnnData(np.ones((60, 1), np.float32), obs=obs, obsm={"X_umap": position})


@pytest.fixture
def metacells():
    """Six metacells with sizes, majority labels and their fractions."""
    obs = pd.DataFrame(
        {
            "n_cells": [5, 15, 5, 15, 5, 15],
            "cell_type": pd.Categorical(list("BBBBTT"), categories=["B", "NK", "T"]),
            "cell_type_fraction": [1, 0.9, 0.8, 0.7, 0.6, 0.95],
        },
        index=[f"mc{i}" for i in range(6)],
    )
    return AnnData(np.ones((6, 1), np.float32), obs=obs)
