"""What the README promises: its commands, its quickstart, its links."""

import re
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
