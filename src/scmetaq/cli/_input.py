"""The cells that a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._errors import BadInput

if TYPE_CHECKING:
    from anndata import AnnData

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


def find_source(text: str) -> Source:
    """Check what can be checked of INPUT without reading it."""
    if text == DEMO:
        return Source(DEMO, None)
    path = Path(text)
    if path.suffix == ".h5mu":
        raise BadInput(
            f"{text} is MuData, which this version does not read yet: write one modality to an "
            ".h5ad file, e.g. mdata['rna'].write_h5ad('rna.h5ad'), and pass that."
        )
    if path.suffix not in (".h5ad", ".zarr"):
        raise BadInput(
            f"Expected INPUT to be an .h5ad file, a .zarr store or the word {DEMO}, found {text!r}."
        )
    if not path.exists():
        raise BadInput(f"There is no {text}: check the spelling and the folder.")
    if path.suffix == ".h5ad" and path.is_dir():
        raise BadInput(f"Expected {text} to be an .h5ad file, found a directory.")
    return Source(text, path)


def read_cells(source: Source) -> AnnData:
    """Read the cells into memory."""
    import anndata

    from scmetaq import data

    if source.path is None:
        return data.demo()
    read = anndata.read_zarr if source.path.suffix == ".zarr" else anndata.read_h5ad
    try:
        return read(source.path)
    except Exception as error:
        raise BadInput(
            f"{source.name} cannot be read as AnnData ({_reason(error)}): it may be truncated or "
            "of another format, so copy or download it again."
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
