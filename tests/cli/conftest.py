from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from forked import Forks

import scmetaq

FEW_EPOCHS = ("--max-epochs", 3, "--accelerator", "cpu")


class Inferred(NamedTuple):
    """A finished run: what it read, what it said and where it wrote."""

    cells: Any
    path: Path
    metacells: str
    n_metacells: int
    labels: str
    outcome: Any
    out: Path

    @property
    def table(self) -> Path:
        return self.out / "assignments.csv"


@pytest.fixture(scope="session")
def cells(blood):
    """160 real cells with labels, an embedding of their own and a layer that is no counts."""
    adata = blood[:160].copy()
    adata = adata[:, np.asarray((adata.X > 0).sum(0)).ravel() > 0].copy()
    adata.layers["lognorm"] = sp.csr_matrix(np.log1p(adata.X.toarray() / 3))
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    adata.obs["lane"] = pd.Categorical(np.array(["l1", "l2"])[np.arange(160) % 2])
    adata.obs["decimal"] = np.linspace(0, 1, 80).repeat(2)
    adata.obs["run"], adata.obs["level"] = "only", np.arange(160) % 3
    adata.obs["nothing"] = pd.Series(pd.NA, index=adata.obs_names, dtype="string")
    return adata


@pytest.fixture(scope="session")
def mcells(paired):
    """The toy cells with an embedding of their own, and labels that are in one modality only."""
    mdata = paired.copy()
    mdata["rna"].obs["kind"] = pd.Categorical(np.array(["x", "y"])[np.arange(150) % 2])
    for name in ("adt", "atac"):
        mdata[name].obs["donor"] = "d1"
    for name in ("donor2", "donor3"):
        mdata["adt"].obs[name] = pd.Categorical(np.array(["x", "y"])[np.arange(150) // 75])
    mdata["rna"].layers["raw"] = mdata["rna"].X.copy()
    mdata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(150, 2))
    return mdata


@pytest.fixture(scope="session")
def path(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def mpath(mcells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5mu"
    mcells.write_h5mu(path)
    return path


@pytest.fixture(scope="session")
def inferred_adata(run, cells, path, tmp_path_factory):
    """Written to a directory in a folder of its own."""
    out = tmp_path_factory.mktemp("inferred") / "deep" / "run"
    words = ("--n-metacells", 6, "--labels-key", "cell_type", "--batch-key", "lane", *FEW_EPOCHS)
    outcome = run("infer", path, *words, "--out", out)
    assert outcome.status == 0, outcome.err
    return Inferred(cells, path, "metacells.h5ad", 6, "cell_type", outcome, out)


@pytest.fixture(scope="session")
def inferred_mdata(run, mcells, mpath, tmp_path_factory):
    out = tmp_path_factory.mktemp("inferred") / "run"
    words = ("--n-metacells", 15, "--labels-key", "state", *FEW_EPOCHS)
    outcome = run("infer", mpath, *words, "--out", out)
    assert outcome.status == 0, outcome.err
    return Inferred(mcells, mpath, "metacells.h5mu", 15, "state", outcome, out)


@pytest.fixture(params=["adata", "mdata"])
def inferred(request):
    return request.getfixturevalue(f"inferred_{request.param}")


@pytest.fixture
def untrained(monkeypatch):
    """No run gets as far as training, which fails with what the model was set up with."""

    def train(self, *args, **kwargs):
        raise RuntimeError(f"out of [memory] {self.registry['setup_args']}\nsecond line")

    monkeypatch.setattr(scmetaq.MetaQModel, "train", train)


@pytest.fixture
def earlier(tmp_path):
    """Directory of an earlier result."""
    out = tmp_path / "earlier"
    out.mkdir()
    (out / "report.html").write_text("old")
    return out


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()
