"""Draw ``docs/_static/cards/*.png``: a picture of each tutorial, for the landing page.

That of the atlas is `benchmarks/results/atlas.svg`.

usage: uv run python docs/make_cards.py [TUTORIAL ...]      (all of them, in minutes)
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "_static" / "cards"
PICTURES = {
    "quickstart": "cell-17",
    "multiomics": "cell-27",
    "integration": "cell-10",
    "reference_mapping": "cell-11",
    "scpoli": "cell-17",
    "coem": "cell-13",
    "downstream": "cell-05",
}
"""The code cell of each tutorial whose first picture is taken."""
WIDTH = 560


def main(names: list[str]) -> None:
    """Run the tutorials up to their picture and keep a small copy of it."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        notebook = nbformat.read(ROOT / "tutorials" / f"{name}.ipynb", as_version=4)
        last = [of["id"] for of in notebook.cells].index(PICTURES[name])
        notebook.cells = notebook.cells[: last + 1]
        NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
        save(notebook, name)
        print(TARGET / f"{name}.png")


def save(notebook: nbformat.NotebookNode, name: str) -> None:
    """Write the picture of an executed tutorial."""
    (cell,) = [of for of in notebook.cells if of["id"] == PICTURES[name]]
    data = [of.data["image/png"] for of in cell.outputs if "image/png" in of.get("data", {})]
    picture = Image.open(io.BytesIO(base64.b64decode(data[0]))).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    picture.quantize(128).save(TARGET / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
