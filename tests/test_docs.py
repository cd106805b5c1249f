"""Documentation that must keep up with the code, as far as building it does not show."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import anndata
import muon
import numpy as np
import pytest
import scanpy as sc
from sklearn.cluster import KMeans

import scmetaq

ROOT = Path(__file__).parents[1]


def test_every_public_function_and_model_is_on_an_api_page():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    for package in ("data", "metrics", "pl", "tl"):
        listed = re.findall(rf"^   {package}\.(\w+)$", pages, flags=re.MULTILINE)
        assert sorted(listed) == sorted(getattr(scmetaq, package).__all__)
    listed = re.findall(r"^   (\w+)$", pages, flags=re.MULTILINE)
    models = [name for name in scmetaq.__all__ if isinstance(getattr(scmetaq, name), type)]
    assert sorted(listed) == sorted(models)


@pytest.mark.parametrize("path", sorted((ROOT / "tutorials").glob("*.ipynb")), ids=lambda p: p.stem)
def test_tutorials_are_stored_without_output(path):
    cells = json.loads(path.read_text())["cells"]
    assert [c["id"] for c in cells if c.get("outputs") or c.get("execution_count")] == []


def test_citation_is_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_addresses_are_written_in_one_place_and_its_copy_for_the_registry():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    entry = (ROOT / "docs" / "meta.yaml").read_text()
    assert f"project_home: {urls['Source']}\n" in entry
    assert f"documentation_home: {urls['Documentation']}\n" in entry
    for path in (ROOT / "README.md", ROOT / "docs" / "conf.py", ROOT / "CITATION.cff"):
        assert urls["Source"] not in path.read_text()


def docs_numbers():
    path = ROOT / "benchmarks" / "docs_numbers.py"
    spec = importlib.util.spec_from_file_location("docs_numbers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NUMBERS = docs_numbers()


@pytest.mark.parametrize(
    "page", NUMBERS.pages(), ids=lambda page: f"{page.parent.name}/{page.name}"
)
def test_tables_and_numbers_are_those_of_the_results(page):
    text = page.read_text()
    assert NUMBERS.written(text) == text
    tables = [table for _, table in NUMBERS.TABLE.findall(text)]
    assert len(tables) == text.count("<!-- table: ") == text.count("<!-- /table -->")
    assert len(NUMBERS.NUMBER.findall(text)) == text.count("<!-- number: ")
    assert [line for table in tables for line in table.split("\n") if line[:1] not in "|"] == []
    # Markdown would take a whole line that starts with a marked number for HTML
    assert re.findall(r"^ *<!-- number.*", text, flags=re.MULTILINE) == []


def test_a_number_is_the_mean_over_data_sets_of_medians_over_seeds():
    medians = [
        row["purity"]["median"]
        for row in json.loads((NUMBERS.RESULTS / "rna.json").read_text())["summary"]
        if row["method"] == "scmetaq"
    ]
    mean = sum(medians) / len(medians)
    assert NUMBERS.number("rna; scmetaq; purity; .3f") == f"{mean:.3f}"
    with pytest.raises(KeyError, match="found none in rna.json"):
        NUMBERS.number("rna; no such method; purity; .3f")


@pytest.mark.slow
def test_tables_of_the_benchmarks_are_those_of_the_results():
    command = [sys.executable, ROOT / "benchmarks" / "report.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def citeseq():
    mdata = scmetaq.data.demo_citeseq()
    mdata.obs["cell_type"] = mdata.obs["batch"]
    return mdata


@pytest.mark.slow
@pytest.mark.parametrize("n_metacells", [30, 60, 200])
def test_the_map_of_the_guide_is_for_any_number_of_metacells(citeseq, n_metacells):
    """Of Gaussian neighbours and diffusion maps, which need no compiler."""
    page = (ROOT / "docs" / "user_guide" / "multiomics.md").read_text()
    code = page.split("### Continue with scanpy")[1].split("```python\n")[1].split("```")[0]
    code = code.replace("n_neighbors=10", "n_neighbors=10, method='gauss'")
    code = code.replace("sc.tl.umap", "sc.tl.diffmap")
    proteins = np.log1p(citeseq["adt"].X.toarray())
    by = KMeans(n_metacells, n_init=1, random_state=0).fit_predict(proteins)
    names = {"anndata": anndata, "muon": muon, "np": np, "sc": sc}
    names["metacells"] = scmetaq.tl.aggregate(citeseq, by)
    exec(code, names)
    joint = names["joint"]
    assert joint.n_obs == n_metacells
    assert np.isfinite(joint.obsm["X_diffmap"]).all()
    assert joint.uns["paga"]["connectivities"].shape == (2, 2)
