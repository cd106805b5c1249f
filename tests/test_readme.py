"""What the README promises: its commands, its quickstart, its links."""

import re
import runpy
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_two_commands_do_everything_and_ci_runs_them():
    commands = [block.strip() for block in code_blocks("bash")]
    assert commands == [
        "pip install uv && uv run scmetaq infer demo",
        "pip install uv && uv run pytest",
    ]
    main_job, tests = (block.strip() for block in code_blocks("bash"))
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert tests in lines
    # the results go to a scratch folder there, hence the further words
    assert any(line.startswith(f"{main_job} --out ") for line in lines)


@pytest.mark.slow
def test_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (snippet,) = code_blocks("python")
    names: dict = {}
    exec(snippet, names)

    assert len(snippet.splitlines()) <= 12
    adata, metacells = names["adata"], names["metacells"]
    assert metacells.shape == (40, adata.n_vars)
    assert metacells.layers["counts"].sum() == adata.X.sum()
    assert "purity" in capsys.readouterr().out
    assert (tmp_path / "metacells.h5ad").exists()


def test_links_lead_somewhere_and_the_quality_table_is_there():
    targets = re.findall(r"\]\(([^)#]+)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (ROOT / target).exists()] == []
    table = README.split("<!-- table: rna -->")[1].split("<!-- /table -->")[0]
    assert "| scmetaq |" in table


def test_the_landing_page_has_the_same_code_and_a_picture_of_every_tutorial():
    page = (ROOT / "docs" / "index.md").read_text()
    assert re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S) == code_blocks("python")
    pictures = re.findall(r"^```\{image\} (\S+)", page, flags=re.MULTILINE)
    assert [of for of in pictures if not (ROOT / "docs" / of).exists()] == []
    for tutorial in (ROOT / "tutorials").glob("*.ipynb"):
        assert f"](tutorials/{tutorial.stem})" in page
    assert page.count("{container} card\n```{image}") == len(
        list((ROOT / "tutorials").glob("*.ipynb"))
    )


def test_links_on_a_registry_page_lead_into_the_repository(monkeypatch):
    interface = types.SimpleNamespace(MetadataHookInterface=object)
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    for parent in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    hook = runpy.run_path(ROOT / "hatch_build.py")["ReadmeHook"]()
    hook.root = str(ROOT)
    metadata = {"urls": {"Source": "https://host/us/it"}}
    hook.update(metadata)
    text = metadata["readme"]["text"]
    targets = re.findall(r"\]\(([^)]+)", text)
    assert [of for of in targets if not of.startswith(("https://", "#"))] == []
    assert "![Cells" in text
    assert "](https://host/us/it/raw/main/docs/_static/overview.png)" in text
    assert "](https://host/us/it/blob/main/tutorials/quickstart.ipynb)" in text
