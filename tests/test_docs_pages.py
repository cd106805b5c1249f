"""What the pages of the documentation are made of: methods, commands, examples, formulas."""

import ast
import doctest
import inspect
import re
import runpy
import shutil
import types
from pathlib import Path

import pytest
import typer

import scmetaq
import scmetaq.cli._app

ROOT = Path(__file__).parents[1]
MODELS = (scmetaq.MetaQModel, scmetaq.SCPoli, scmetaq.COEM)


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """Names of the configuration of the pages, which writes next to itself."""
    docs = tmp_path_factory.mktemp("of_docs") / "docs"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    return {**runpy.run_path(docs / "conf.py"), "docs": docs}


def test_pages_of_the_models_list_all_methods_and_properties(conf):
    for cls in MODELS:
        listed = conf["autosummary_context"]["own_names"][cls.__name__]
        methods = set(listed["automethod"])
        assert methods >= {"train", "get_latent_representation", "save", "load", "setup_mudata"}
        for name, of in inspect.getmembers(cls):
            module = getattr(of, "__module__", "") or ""
            if module.startswith("scmetaq") and name[0] != "_" and inspect.isroutine(of):
                assert name in methods | {"setup_annbatch"}
    own_names = conf["autosummary_context"]["own_names"]
    assert "modality_weights" in own_names["MetaQModel"]["autoproperty"]
    assert {"predict_labels", "load_query_data"} <= set(own_names["SCPoli"]["automethod"])


def test_every_command_is_on_the_page_of_the_command_line(conf):
    page = (ROOT / "docs" / "api" / "cli.md").read_text()
    for name in typer.main.get_command(scmetaq.cli._app.app).commands:
        assert f"../generated/cli_{name}.txt\n" in page
        assert "--out" in (conf["docs"] / "generated" / f"cli_{name}.txt").read_text()


def test_output_of_tutorials_is_kept_until_package_or_libraries_change(conf, tmp_path, monkeypatch):
    content_key = conf["content_key"]
    assert conf["nb_execution_mode"] == "cache"
    assert Path(conf["nb_execution_cache_path"]).name == content_key()

    files = [tmp_path / "__init__.py", tmp_path / "page.j2", tmp_path / "compiled.pyc"]
    for file in files:
        file.write_text("first")
    package = types.SimpleNamespace(__file__=str(files[0]))
    monkeypatch.setitem(content_key.__globals__, "scmetaq", package)
    key = content_key()
    files[2].write_text("changed")
    assert content_key() == key
    files[1].write_text("changed")
    assert content_key() != key
    files[1].write_text("first")
    assert content_key() == key
    monkeypatch.setitem(content_key.__globals__, "distributions", lambda: [])
    assert content_key() != key


EXAMPLES = [
    found
    for of in (*MODELS, scmetaq.MetaQModel.load_query_data, *vars(scmetaq.tl).values())
    if callable(of)
    for found in doctest.DocTestFinder(recurse=False).find(of, of.__qualname__)
    if found.examples
]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_of_docstrings_run(example):
    assert len(EXAMPLES) >= 5
    names = {"scmetaq": scmetaq}
    for step in example.examples:
        exec(step.source, names)


to_mathml = runpy.run_path(ROOT / "docs" / "mathml.py")["to_mathml"]


def formulas():
    """All formulas of pages and docstrings."""
    for path in (ROOT / "docs").glob("**/*.md"):
        text = re.sub(r"```.*?```|`[^`\n]+`", "", path.read_text(), flags=re.DOTALL)
        yield from re.findall(r"\$\$(.+?)\$\$", text, flags=re.DOTALL)
        yield from re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
    for path in (ROOT / "src").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                continue
            text = ast.get_docstring(node) or ""
            yield from re.findall(r":math:`([^`]+)`", text)
            block = r"^( *)\.\. math::(.*(?:\n(?:\1 {3,}.+|(?=\n\1 {3,})))*)"
            yield from (of for _, of in re.findall(block, text, flags=re.MULTILINE))


def test_formulas_are_drawn_without_a_script():
    found = list(formulas())
    assert len(found) > 300
    for formula in found:
        assert to_mathml(formula).startswith("<math")
    drawn = to_mathml(r"\Big\| a \Big\|^2 \big(b \dots c\big)", is_block=True)
    assert drawn.count("minsize") == 4
