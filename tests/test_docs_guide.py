"""Code of other pages of the guide, and what they say of it."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy

import scmetaq

GUIDE = Path(__file__).parents[1] / "docs" / "user_guide"


def run(page, section, names):
    """Names after the Python code of a section of a page."""
    (text,) = re.findall(
        rf"\n##+ {section}\n(.*?)(?=\n##+ |\Z)", (GUIDE / page).read_text(), re.DOTALL
    )
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for code in blocks:
        exec(code, names)
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
