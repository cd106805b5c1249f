"""The methods compared: which script runs each, in which environment, under which name."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Method:
    """One row of the tables."""

    name: str
    script: str
    """Path of its runner below ``benchmarks``."""
    what: str
    """What it is, in a few words of Markdown."""
    flags: tuple[str, ...] = ()
    environment: str | None = None
    """Environment of a peer; None: that of this process."""
    cache_name: str | None = None
    """Name in the cache, where it differs."""
    is_floor: bool = False
    """Shown for orientation, never called best."""

    @property
    def is_ours(self) -> bool:
        """Whether it is this package, on one modality."""
        return self.script == "methods/run_scmetaq.py"

    @property
    def stem(self) -> str:
        """Name in the files of the cache."""
        return self.cache_name or self.name

    def python(self, peers: Path) -> Path | None:
        """Interpreter that runs it; None if its environment is missing."""
        if self.environment is None:
            return Path(sys.executable)
        interpreter = peers.resolve() / self.environment / "bin" / "python"
        return interpreter if interpreter.exists() else None

    def command(self, python: Path, data: Path, n_metacells: int, seed: int, out: Path) -> list:
        """Command line of one run, as the runners of the peers take it."""
        arguments = [data.resolve(), n_metacells, seed, out.resolve(), *self.flags]
        return [str(part) for part in (python, HERE / self.script, *arguments)]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("scmetaq", "methods/run_scmetaq.py", "this package, default recipe"),
        Method(
            "walktrap",
            "methods/run_walktrap.py",
            "the algorithm of SuperCell: random walks on the graph of 5 neighbours in 10 principal "
            "components of log counts (igraph)",
        ),
        Method(
            "scmetaq-published",
            "methods/run_scmetaq.py",
            'this package, `recipe="published"`: MetaQ as its paper and its authors run it',
            flags=("--recipe", "published"),
        ),
        Method(
            "kmeans-pca-scaled",
            "methods/run_kmeans.py",
            "k-means (one start) on 50 principal components of z-scored, clipped log1p counts "
            "per 10k of the 3,000 most variable genes",
            flags=("--scaled",),
        ),
        Method(
            "kmeans-pca",
            "methods/run_kmeans.py",
            "the same on log counts that are not scaled",
        ),
        Method(
            "scvi-kmeans",
            "methods/run_scvi.py",
            "k-means (one start) on scVI latents, scvi-tools' defaults, the same genes",
        ),
        Method(
            "metaq-authors",
            "peers/run_metaq.py",
            "MetaQ, the authors' package",
            environment="metaq",
            cache_name="metaq",
        ),
        Method("seacells", "peers/run_seacells.py", "SEACells", environment="seacells"),
        Method("metacells2", "peers/run_metacells2.py", "metacells 2", environment="metacells"),
        Method(
            "random",
            "methods/run_random.py",
            "cells dealt at random into equal groups: the floor, never called best",
            is_floor=True,
        ),
    )
}
