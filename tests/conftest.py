import contextlib
import html
import io
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import scvi
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import scmetaq
import scmetaq.cli

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="session", autouse=True)
def _quiet(tmp_path_factory):
    """Lightning and scvi-tools tell about devices and transfers at every step."""
    scvi.settings.verbosity = logging.WARNING
    scvi.settings.logging_dir = str(tmp_path_factory.mktemp("scvi_log"))  # not the checkout
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real data next to the repository, which developers have; else skip."""
    if not REAL_DATA.is_dir():
        pytest.skip("no folder of real data next to the repository")
    return REAL_DATA


@pytest.fixture(scope="session")
def blood():
    """400 cells x 500 genes of the demo data. Shared: take a copy to change or register it."""
    adata = scmetaq.data.demo()
    cells = np.sort(np.random.default_rng(0).choice(adata.n_obs, 400, replace=False))
    adata = adata[cells].copy()
    energy = np.asarray(adata.X.power(2).sum(0)).ravel()
    return adata[:, np.sort(np.argsort(-energy, kind="stable")[:500])].copy()


@pytest.fixture(scope="session")
def _toy():
    """150 cells x 60 genes of raw counts in three states, no empty cell or gene."""
    rng = np.random.default_rng(0)
    state = np.repeat([0, 1, 2], 50)
    rate = rng.gamma(0.5, 3.0, size=(3, 60))[state] * rng.gamma(5, 0.2, size=(150, 1))
    counts = rng.poisson(rate + 0.05).astype(np.float32)
    counts[np.arange(60), np.arange(60)] += 1
    obs = pd.DataFrame(
        {"state": pd.Categorical(np.array(["a", "b", "c"])[state]), "depth": counts.sum(1)},
        index=[f"cell{i}" for i in range(150)],
    )
    counts[:, 0] += 1
    var = pd.DataFrame({"chrom": ["chr1"] * 60}, index=[f"gene{i}" for i in range(60)])
    return AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture(scope="session")
def paired(_toy):
    """The toy counts with 8 proteins and 80 peaks that know of the same three states."""
    rng = np.random.default_rng(1)
    state = _toy.obs["state"].cat.codes.to_numpy()
    proteins = rng.poisson(rng.gamma(1, 20.0, size=(3, 8))[state] + 1).astype(np.float32)
    peaks = rng.poisson(rng.gamma(0.5, 1.0, size=(3, 80))[state] + 0.05).astype(np.float32)
    peaks[:, 0] += 1
    peaks[np.arange(80), np.arange(80)] += 1
    names = {
        "adt": [f"protein{i}" for i in range(8)],
        "atac": [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(80)],
    }
    parts = {
        kind: AnnData(
            sparse.csr_matrix(X), pd.DataFrame(index=_toy.obs_names), pd.DataFrame(index=n)
        )
        for (kind, n), X in zip(names.items(), (proteins, peaks), strict=True)
    }
    mdata = MuData({"rna": _toy.copy(), **parts})
    mdata.obs["state"] = _toy.obs["state"]
    return mdata


@pytest.fixture
def toy_mdata(paired):
    """A copy of the toy counts of three modalities, to change and to register."""
    return paired.copy()


@pytest.fixture
def mosaic(paired):
    """RNA of all 150 cells, proteins of the last 100, peaks of every third."""
    parts = {"rna": slice(None), "adt": slice(50, None), "atac": slice(None, None, 3)}
    mdata = MuData({kind: paired[kind][cells].copy() for kind, cells in parts.items()})
    mdata.obs["state"] = paired.obs["state"]
    return mdata


@pytest.fixture
def toy(_toy):
    """A copy of the toy counts, to change and to register."""
    return _toy.copy()


def _fit_as(cls, data, *args, max_epochs=3, setup=None, train=None, seed=0, **kwargs):
    """Register, build and train in one go; ``setup`` and ``train`` are keyword arguments."""
    scvi.settings.seed = seed
    register = cls.setup_mudata if isinstance(data, MuData) else cls.setup_anndata
    register(data, **(setup or {}))
    return _train(cls(data, *args, **kwargs), max_epochs, **(train or {}))


def _fit(adata, n_metacells=6, max_epochs=3, **kwargs):
    return _fit_as(scmetaq.MetaQModel, adata, n_metacells, max_epochs=max_epochs, **kwargs)


def _train(model, max_epochs=3, **kwargs):
    """Train without a progress bar, on the CPU unless told otherwise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        model.train(max_epochs, **{**TRAINER, **kwargs})
    return model


@pytest.fixture(scope="session")
def fit():
    return _fit


@pytest.fixture(scope="session")
def fit_as():
    return _fit_as


@pytest.fixture(scope="session")
def train():
    return _train


@pytest.fixture(scope="session")
def model(blood):
    """Trained on real cells, read only: ten metacells of 400 cells."""
    return _fit(blood.copy(), 10, 4)


@pytest.fixture(scope="session")
def assignments(model):
    return model.get_assignments()


@pytest.fixture(scope="session")
def toy_model(_toy):
    """Trained on the toy counts, read only: six metacells of 150 cells."""
    return _fit(_toy.copy())


class Outcome(NamedTuple):
    """What a call of the command line left behind."""

    status: int
    out: str
    err: str

    def refuses(self, *words: str) -> bool:
        """Whether this is bad input, told in one line with these words and without a traceback."""
        line = self.err.strip().splitlines()[-1]
        told = all(word in line for word in words) and line.startswith("Error: ")
        return self.status == 2 and told and "Traceback" not in self.err


def _run(*arguments: object) -> Outcome:
    """Call the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            scmetaq.cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Outcome(status, out.getvalue(), err.getvalue())


def _fingerprint(adata):
    """Everything of an object that a refused or a reading call may not touch."""
    return {
        "X": None if adata.X is None else sparse.csr_matrix(adata.X).toarray().tobytes(),
        "obs": adata.obs.to_csv(),
        "var": adata.var.to_csv(),
        "uns": sorted(key for key in adata.uns if not key.startswith("_scvi")),
        "layers": sorted(str(name) for name in adata.layers),
        "obsm": sorted(adata.obsm),
    }


@pytest.fixture(scope="session")
def fingerprint():
    return _fingerprint


@pytest.fixture(scope="session")
def run():
    return _run


def _printed_code(out: Path) -> str:
    """Code to go on with, as the report in a folder shows it, without UMAP.

    Fuzzy simplicial sets and UMAP compile for minutes; Gaussian neighbours and diffusion maps are
    called in the same way and need no compiler.
    """
    page = (out / "report.html").read_text()
    code = html.unescape(page.split("<pre><code>")[1].split("</code></pre>")[0])
    assert "n_neighbors=5" in code
    code = code.replace("n_neighbors=5", "n_neighbors=5, method='gauss'")
    return code.replace("sc.tl.umap", "sc.tl.diffmap").replace("sc.pl.umap", "sc.pl.diffmap")


@pytest.fixture(scope="session")
def printed_code():
    return _printed_code
