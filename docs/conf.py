"""Configuration of the documentation: sphinx, MyST markdown, notebooks run at build time."""

import contextlib
import dataclasses
import io
import os
import shutil
from importlib.metadata import version as distribution_version
from pathlib import Path
from unittest import mock

import scmetaq
import scmetaq.cli
from scmetaq.model._recipe import RECIPES

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
COMMANDS = ("infer", "map", "evaluate")

project = "scmetaq"
author = "The scmetaq developers"
copyright = "2026, the scmetaq developers"
release = distribution_version("scmetaq")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints", "generated/recipes.md"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"scmetaq {release}"
html_static_path = ["_static"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# every build runs the tutorials, and one that fails, fails the build
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 1800

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
# our "Returns" sections are prose, not "name : type"
napoleon_custom_sections = [("Returns", "prose")]


def own_methods(cls: type) -> list[str]:
    """Public methods that scmetaq defines, and those of scvi-tools that every user needs."""
    names = [name for name in dir(cls) if not name.startswith("_")]
    return [name for name in names if is_own(cls, name) or name in ("save", "load")]


def is_own(cls: type, name: str) -> bool:
    """Whether a method comes from scmetaq and not from a base class of another package."""
    module = next(base.__module__ for base in cls.__mro__ if name in vars(base))
    return module.startswith("scmetaq") and callable(getattr(cls, name))


def copy_tutorials() -> None:
    """Bring the notebooks to where sphinx reads."""
    (HERE / "tutorials").mkdir(exist_ok=True)
    for notebook in (HERE.parent / "tutorials").glob("*.ipynb"):
        shutil.copy(notebook, HERE / "tutorials")


def write_cli_help() -> None:
    """Write what ``scmetaq COMMAND --help`` prints, for every command."""
    # patch: the command line sets variables of its own, which the tutorials must not inherit
    with mock.patch.dict(os.environ, COLUMNS="92", NO_COLOR="1"):
        for command in COMMANDS:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
                scmetaq.cli.main([command, "--help"])
            lines = [line.rstrip() for line in printed.getvalue().strip().splitlines()]
            (GENERATED / f"cli_{command}.txt").write_text("\n".join(lines) + "\n")


def write_recipes() -> None:
    """Write the settings of all recipes as a table."""
    columns = {name: dataclasses.asdict(recipe) for name, recipe in RECIPES.items()}
    rows = [["setting", *(f"`{name}`" for name in columns)], ["---"] * (len(columns) + 1)]
    for setting in next(iter(columns.values())):
        rows.append([f"`{setting}`", *(f"`{recipe[setting]}`" for recipe in columns.values())])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    (GENERATED / "recipes.md").write_text(table + "\n")


GENERATED.mkdir(exist_ok=True)
copy_tutorials()
write_cli_help()
write_recipes()
autosummary_context = {"own_methods": {"MetaQModel": own_methods(scmetaq.MetaQModel)}}
