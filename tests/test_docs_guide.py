"""Code of other pages of the guide, and what they say of it."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy

import scmetaq

GUIDE = Path(__file__).parents[1] / "docs" / "user_guide"


def run(page, section, names):
    """Names after the Python code of a section of a page."""
    (text,) = re.findall(
        rf"\n##+ {section}\n(.*?)(?=\n##+ |\Z)", (GUIDE / page).read_text(), re.DOTALL
    )
    blocks = re.findall(r"^ *```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for code in blocks:
        exec(textwrap.dedent(code), names)
    return names


@pytest.fixture(scope="module")
def lines():
    """Five cell lines in five batches."""
    return scmetaq.data.demo_batches()


@pytest.mark.slow
def test_metacells_of_an_embedding_by_scvi_and_the_entropy_of_their_weights(lines):
    adata = lines.copy()
    names = run("metaq.md", "An embedding of yours", {"adata": adata, "scmetaq": scmetaq})
    model = names["model"]
    np.testing.assert_allclose(
        np.corrcoef(model.get_latent_representation()[:, 0], adata.obsm["X_scVI"][:, 0])[0, 1], 1
    )
    metacell = model.get_assignments()["metacell"]
    assert metacell.nunique() == 30
    assert scmetaq.metrics.accuracy(metacell, adata.obs["cell_type"]) > 0.9
    adata.obsm["X_umap"] = adata.obsm["X_scVI"][:, :2]
    run("metaq.md", "Assignments", names | {"np": np, "scipy": scipy})
    entropy, margin = adata.obs["entropy"], model.get_assignments()["margin"]
    assert entropy.between(0, np.log(5) + 1e-6).all()
    is_close = margin < margin.quantile(0.2)  # to the border of another metacell
    assert entropy[is_close].mean() > 1.1 * entropy[~is_close].mean()


@pytest.mark.slow
def test_metacells_are_as_good_from_one_start_as_from_another(lines):
    adata = lines.copy()
    scmetaq.MetaQModel.setup_anndata(adata)
    names = run("evaluation.md", "Several starts", {"adata": adata, "scmetaq": scmetaq})
    found = list(names["found"].values())
    assert scmetaq.metrics.agreement(found[0], found[1]).ari < 0.999  # starts do differ
    table = names["table"]
    means = table.groupby(["metric", "method"])["value"].mean().unstack().loc["purity"]
    assert set(means.index) == {"kmeans", "random", "geometric"}
    assert means.min() > 0.9
    assert np.ptp(means) < 0.03


@pytest.mark.slow
def test_a_type_of_five_cells_is_kept_by_a_module_of_its_genes():
    cells = scmetaq.data.demo()
    is_b = (cells.obs["cell_type"] == "B").to_numpy()
    few = np.random.default_rng(0).choice(np.flatnonzero(is_b), 5, replace=False)
    adata = cells[np.sort([*np.flatnonzero(~is_b), *few])].copy()
    names = run("granularity.md", "Rare types", {**globals(), "adata": adata})
    assert "B genes" in set(adata.obs["module"])

    def n_kept(model):
        """B cells in metacells in which no other type has more cells."""
        found = pd.crosstab(model.get_assignments()["metacell"], adata.obs["cell_type"])
        return found["B"][found["B"] == found.max(axis=1)].sum()

    assert n_kept(names["model"]) == 5
    plain = scmetaq.MetaQModel(adata, n_metacells=30)
    plain.train()
    assert n_kept(plain) < 5


@pytest.mark.slow
def test_cells_of_a_new_batch_are_labelled_by_a_reference_of_metacells():
    names = run("scpoli.md", "A reference of metacells", {})
    metacells, query, labels = (names[of] for of in ("metacells", "query", "labels"))
    assert metacells.n_obs < 0.15 * names["reference"].n_obs
    assert np.asarray(metacells.X.sum(axis=1)).max() <= names["depth"]
    assert (metacells.obs["batch_fraction"] == 1).all()
    assert (labels["cell_type"].astype(str) == query.obs["cell_type"].astype(str)).mean() > 0.9
    assert names["scpoli"].adata.n_obs == metacells.n_obs
