"""Documentation that must keep up with the code, as far as building it does not show."""

import json
import re
import tomllib
from pathlib import Path

import pytest

import scmetaq

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["data", "metrics", "pl", "tl"])
def test_every_public_function_is_on_an_api_page(package):
    listed = re.findall(rf"^   {package}\.(\w+)$", api_pages(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(getattr(scmetaq, package).__all__)


def test_every_model_is_on_an_api_page():
    listed = re.findall(r"^   (\w+)$", api_pages(), flags=re.MULTILINE)
    models = [name for name in scmetaq.__all__ if isinstance(getattr(scmetaq, name), type)]
    assert sorted(listed) == sorted(models)


@pytest.mark.parametrize("path", sorted((ROOT / "tutorials").glob("*.ipynb")), ids=lambda p: p.stem)
def test_tutorials_are_stored_without_output(path):
    cells = json.loads(path.read_text())["cells"]
    assert [c["id"] for c in cells if c.get("outputs") or c.get("execution_count")] == []


def test_citation_is_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def api_pages() -> str:
    return "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
