"""Documentation that must keep up with the code, as far as building it does not show."""

import importlib.util
import inspect
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
import typer
from sklearn.cluster import KMeans

import scmetaq
import scmetaq.cli._app
import scmetaq.report

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


PLACES = {
    **{name: getattr(scmetaq, name) for name in ("data", "metrics", "pl", "tl")},
    "report": scmetaq.report,
}
MODELS = (scmetaq.MetaQModel, scmetaq.SCPoli, scmetaq.COEM)
COMMAND = typer.main.get_command(scmetaq.cli._app.app)
OPTIONS = {
    name: {option for of in command.params for option in of.opts}
    for name, command in COMMAND.commands.items()
}


def meanings(dotted):
    """What a name may stand for: that of a module, of a class, or of an object of a model."""
    first, *rest = dotted.split(".")
    if first in PLACES:
        found = [PLACES[first]]
    elif first in ("model", "query_model"):
        found = list(MODELS)
    elif first[0].isupper():
        found = [of for of in MODELS if of.__name__ == first]
    else:
        found, rest = list(MODELS), [first, *rest]
    for name in rest:
        found = [getattr(of, name) for of in found if hasattr(of, name)]
    return found


def unknown_of(code):
    """Names, keywords and options in code that do not exist."""
    if code.startswith("scmetaq "):
        name, *words = code.split()[1:]
        if name not in OPTIONS:
            return [name]
        return [word for word in words if word[:2] == "--" and word not in OPTIONS[name]]
    unknown = []
    for name, _, arguments in re.findall(r"([a-zA-Z_][\w.]*)(?:(\()([^()]*))?", code):
        if not (found := meanings(name)):
            unknown.append(name)
        known = {key for of in found if callable(of) for key in inspect.signature(of).parameters}
        unknown += [key for key in re.findall(r"(\w+)=", arguments) if key not in known]
    return unknown


def code_of(page, column):
    """All code in one column of the tables of a page."""
    for line in (ROOT / "docs" / page).read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| ") and len(cells) > column:
            yield from re.findall(r"`([^`]+)`", cells[column])


def test_all_that_the_comparison_names_is_there():
    codes = [
        of for of in code_of("comparison.md", 2) if of not in ("metacells.h5ad", "benchmarks/")
    ]
    assert len(codes) > 90
    assert {code: unknown_of(code) for code in codes if unknown_of(code)} == {}
    assert unknown_of("tl.aggregate(weights=)") == ["weights"]
    assert unknown_of("metrics.outer_fold") == ["metrics.outer_fold"]
    assert unknown_of("scmetaq compare --with") == ["--with"]


GUIDE = (ROOT / "docs" / "user_guide" / "coming_from.md").read_text()
OF_OTHERS = {part.split("\n")[0]: part for part in GUIDE.split("\n## ")[1:]}


@pytest.mark.slow
@pytest.mark.parametrize("other", OF_OTHERS)
def test_code_for_users_of_other_packages_runs(other):
    (code,) = re.findall(r"```python\n(.*?)```", OF_OTHERS[other], flags=re.DOTALL)
    names: dict = {}
    exec(code, names)
    if other == "SEACells":
        of_cells = names["adata"].obs["SEACell"]
        assert set(of_cells) <= set(names["adata"].obs_names)
        assert set(names["metacells"].obs_names) == set(of_cells)
        assert "diffusion_separation" in set(names["quality"]["metric"])
    elif other == "Metacells 2":
        assert 0 < names["ribosomal"].sum() < names["adata"].n_vars == names["metacells"].n_vars
        n_cells = names["metacells"].obs["n_cells"].sum()
        assert 0.9 * names["adata"].n_obs < n_cells < names["adata"].n_obs
        assert names["same"].obs["n_cells"].sum() == (names["numbers"] >= 0).sum()
    elif other == "SuperCell":
        assert set(names["found"]["method"]) == {"SuperCell", "walktrap"}
    elif other == "MetaQ's scripts":
        same, metacells = names["same"], names["metacells"]
        np.testing.assert_array_equal(same.X.toarray(), metacells.X.toarray())
    else:
        labels = names["labels"]["cell_type"].astype(str)
        assert (labels == names["query"].obs["cell_type"].astype(str)).mean() > 0.9


def test_calls_for_users_of_other_packages_exist():
    codes = [
        of for of in code_of("user_guide/coming_from.md", 1) if re.search(r"[(]|scmetaq |^--", of)
    ]
    of_commands = [of.split()[0] for of in codes if of.startswith("--")]
    assert len(of_commands) >= 5
    assert set(of_commands) <= set.union(*OPTIONS.values())
    calls = [of for of in codes if not of.startswith("--")]
    assert len(calls) > 30
    assert {code: unknown_of(code) for code in calls if unknown_of(code)} == {}
