import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse


@pytest.fixture
def expression(rng):
    """90 cells in three states over 40 features, dense."""
    centres = rng.normal(size=(3, 40))
    return centres[np.repeat([0, 1, 2], 30)] + 0.5 * rng.normal(size=(90, 40))


@pytest.fixture
def assignment(rng):
    """Seven metacells of uneven sizes for 90 cells."""
    return rng.choice(7, size=90, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])


@pytest.fixture
def adata(rng):
    """120 cells x 60 genes of raw counts in four states, with metacells and labels."""
    state = np.repeat(np.arange(4), 30)
    rate = rng.gamma(1.0, 2.0, size=(4, 60))[state]
    obs = pd.DataFrame(
        {
            "metacell": pd.Categorical([f"mc{s * 2 + i % 2:02d}" for i, s in enumerate(state)]),
            "cell_type": pd.Categorical(np.array(list("ABCD"))[rng.permuted(state)]),
        },
        index=[f"cell{i}" for i in range(120)],
    )
    return AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs)


@pytest.fixture
def cloud(rng):
    """300 cells along a bent path in 5 dimensions: one connected piece."""
    t = np.sort(rng.uniform(0, 3, size=300))
    path = np.column_stack([t, np.sin(2 * t), np.cos(3 * t), t**2 / 3, np.zeros_like(t)])
    return path + 0.15 * rng.normal(size=(300, 5))


@pytest.fixture(scope="session")
def of_seacells():
    """What SEACells' own functions say of 20 metacells of 300 blood cells, and these."""
    reference = json.loads(Path(__file__).with_name("seacells.json").read_text())
    names = ("embedding", "labels", "metacells", "compactness", "separation", "purity")
    return {name: np.array(reference[name]) for name in names}


@pytest.fixture
def of_cloud(rng):
    """Metacells for the cloud: 20 of its path, and one of a single cell."""
    assignment = np.arange(300) // 15
    assignment[7] = 20
    return assignment
