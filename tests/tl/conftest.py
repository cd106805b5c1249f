import numpy as np
import pandas as pd
import pytest
from anndata import AnnData


@pytest.fixture
def samples():
    """24 samples in 4 dimensions: the first by treatment, the second by age, the others noise."""
    rng = np.random.default_rng(0)
    stim, age = np.repeat([0, 1], 12), rng.uniform(20, 80, 24)
    X = rng.normal(size=(24, 4))
    X[:, 0] += 4 * stim
    X[:, 1] += age / 20
    obs = pd.DataFrame(
        {
            "stim": pd.Categorical(np.array(["ctrl", "stim"])[stim]),
            "site": pd.Categorical(rng.choice(["a", "b", "c"], 24)),
            "age": age,
            "lot": [f"lot{i}" for i in range(24)],
            "assay": "v3",
        },
        index=[f"s{i}" for i in range(24)],
    )
    return AnnData(X, obs=obs, obsm={"X_pca": X - X.mean(0)})
