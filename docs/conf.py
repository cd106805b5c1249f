"""Configuration of the documentation: sphinx, MyST markdown, notebooks run at build time."""

import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import sys
from importlib.metadata import distributions
from importlib.metadata import version as distribution_version
from pathlib import Path
from unittest import mock

import scmetaq
import scmetaq.cli
from scmetaq.model._recipe import RECIPES

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
COMMANDS = ("infer", "map", "evaluate", "compare")
MODELS = (scmetaq.MetaQModel, scmetaq.SCPoli, scmetaq.COEM)


def content_key() -> str:
    """Hash of all that the output of a tutorial depends on, besides its own cells."""
    package = Path(scmetaq.__file__).parent
    files = [path for path in sorted(package.rglob("*")) if path.is_file()]
    installed = sorted(f"{found.name} {found.version}" for found in distributions())
    digest = hashlib.sha256("\n".join([sys.version, *installed]).encode())
    for path in (path for path in files if path.suffix != ".pyc"):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


project = "scmetaq"
author = "The scmetaq developers"
copyright = "2026, the scmetaq developers"
release = distribution_version("scmetaq")
version = release

sys.path.insert(0, str(HERE))
extensions = [
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
# links to other packages need the lists of their names: a build without network goes without
if "READTHEDOCS" in os.environ:
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
    "mudata": (
        "https://mudata.scverse.org/stable/",
        (None, "https://mudata.readthedocs.io/stable/objects.inv"),
    ),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "pandas": ("https://pandas.pydata.org/docs/", None),
    "python": ("https://docs.python.org/3/", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
    "scipy": ("https://docs.scipy.org/doc/scipy/", None),
    "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
}
intersphinx_timeout = 20
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints", "generated/recipes.md"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"scmetaq {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# a tutorial that fails, fails the build; one that ran is not run again while nothing changed
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed" / content_key())
nb_execution_raise_on_error = True
nb_execution_timeout = 1800
nb_merge_streams = True
nb_output_stderr = "remove"

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
# our "Returns" sections are prose, not "name : type"
napoleon_custom_sections = [("Returns", "prose")]


def own_names(cls: type, directive: str) -> list[str]:
    """Public methods or properties of scmetaq, and the methods of scvi-tools that all need."""
    names = [name for name in dir(cls) if not name.startswith("_")]
    own = [name for name in names if is_own(cls, name) or name in ("save", "load")]
    is_wanted = callable if directive == "automethod" else lambda of: isinstance(of, property)
    return [name for name in own if is_wanted(getattr(cls, name))]


def is_own(cls: type, name: str) -> bool:
    """Whether a name comes from scmetaq and not from a base class of another package."""
    module = next(base.__module__ for base in cls.__mro__ if name in vars(base))
    return module.startswith("scmetaq") and name != "setup_annbatch"  # which only refuses


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
autosummary_context = {
    "own_names": {
        cls.__name__: {of: own_names(cls, of) for of in ("automethod", "autoproperty")}
        for cls in MODELS
    }
}
