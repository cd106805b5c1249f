"""The cells that a command works on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._errors import BadInput

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

DEMO = "demo"
DEMO_LABELS = "cell_type"
DEMO_OUT = "scmetaq-demo"


class Source(NamedTuple):
    """Where cells come from: a path, or the data that come with the package."""

    name: str
    path: Path | None

    @property
    def is_demo(self) -> bool:
        """Whether these are the demo data."""
        return self.path is None

    @property
    def is_mudata(self) -> bool:
        """Whether these are cells with several modalities."""
        path = self.path
        return path is not None and (path.suffix == ".h5mu" or (path / "mod").is_dir())

    @property
    def reading(self) -> str:
        """Code that reads the cells."""
        if self.path is None:
            return "scmetaq.data.demo()"
        package = "mudata" if self.is_mudata else "anndata"
        return f"{package}.read_{self.path.suffix[1:]}({json.dumps(self.name)})"


def find_source(text: str) -> Source:
    """Check what can be checked of INPUT without reading it."""
    if text == DEMO:
        return Source(DEMO, None)
    path = Path(text)
    if path.suffix not in (".h5ad", ".h5mu", ".zarr"):
        raise BadInput(
            "Expected INPUT to be an .h5ad or .h5mu file, a .zarr store or the word "
            f"{DEMO}, found {text!r}."
        )
    if not path.exists():
        raise BadInput(f"There is no {text}: check the spelling and the folder.")
    if path.suffix != ".zarr" and path.is_dir():
        raise BadInput(f"Expected {text} to be an {path.suffix} file, found a directory.")
    return Source(text, path)


def read_cells(source: Source) -> AnnData | MuData:
    """Read the cells into memory."""
    import anndata
    import mudata

    from scmetaq import data

    if source.path is None:
        return data.demo()
    package = mudata if source.is_mudata else anndata
    kind = "MuData" if source.is_mudata else "AnnData"
    read = getattr(package, f"read_{source.path.suffix[1:]}")
    try:
        cells = read(source.path)
    except Exception as error:
        raise BadInput(
            f"{source.name} cannot be read as {kind} ({_reason(error)}): it may be truncated or "
            "of another format, so copy or download it again."
        ) from error
    if source.is_mudata and not cells.mod:
        raise BadInput(
            f"{source.name} cannot be read as MuData: it holds no modalities. If it is AnnData, "
            "give it the ending .h5ad."
        )
    return cells


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
