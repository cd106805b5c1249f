"""Damage to files that commands read, and how the commands end."""

import json
import shutil
from pathlib import Path

import anndata
import mudata
import numpy as np
import zarr

FORMS = ("flip", "truncate", "zero", "swap")
AT_MOST = 90
"""Seconds that a command may take."""


def damage(path, form, rng):
    """Damage a file, or one of a folder, and return which and where."""
    file = path
    if path.is_dir():
        files = sorted(of for of in path.rglob("*") if of.is_file())
        sizes = np.array([of.stat().st_size + 1 for of in files], float)
        # half of the time any file, else any byte
        weights = sizes / sizes.sum() if rng.random() < 0.5 else None
        file = files[rng.choice(len(files), p=weights)]
    content = bytearray(file.read_bytes())
    size = max(1, len(content))
    place, length = int(rng.integers(size)), int(rng.integers(1, 1 + min(4096, size // 4 + 1)))
    if form == "flip" and content:
        content[place] ^= 1 << int(rng.integers(8))
    elif form == "truncate":
        del content[place:]
    elif form == "zero":
        content[place : place + length] = bytes(len(content[place : place + length]))
    elif form == "swap":
        other = int(rng.integers(size))
        length = min(length, abs(place - other), size - max(place, other))
        first, second = (slice(at, at + length) for at in (place, other))
        content[first], content[second] = content[second], content[first]
    file.write_bytes(content)
    return f"{form} {file.relative_to(path.parent)} at {place:,} of {size:,}"


def make(forks, folder, cells, mcells):
    """Write what commands read; the words of the command for each kind of file, and its options."""
    query, mquery = cells[::2].copy(), mcells[::2].copy()
    cells.write_h5ad(folder / "cells.h5ad")
    mcells.write_h5mu(folder / "cells.h5mu")
    query.write_h5ad(folder / "plain.h5ad")
    query.write_h5ad(folder / "packed.h5ad", compression="gzip")
    query.write_zarr(folder / "query.zarr")
    checked = {"compressors": [zarr.codecs.ZstdCodec(checksum=True)]}
    anndata.io.write_zarr(folder / "checked.zarr", query, **checked)
    mquery.write_h5mu(folder / "query.h5mu")
    mquery.write_h5mu(folder / "packed.h5mu", compression="gzip")
    few = ("--n-metacells", 6, "--max-epochs", 2, "--accelerator", "cpu", "--batch-key", "lane")
    for name, out in (("cells.h5ad", "out"), ("cells.h5mu", "mout")):
        status, *_, said = forks("infer", folder / name, "--out", folder / out, *few)
        assert status == 0, said
    shutil.copy(folder / "out" / "assignments.csv", folder / "table.csv")
    model, mmodel = (("--model", folder / of / "model") for of in ("out", "mout"))
    cpu = ("--accelerator", "cpu")
    return {
        "model": (model[1], ("map", folder / "plain.h5ad", *model, *cpu), {}),
        "h5ad": (folder / "plain.h5ad", ("map", folder / "plain.h5ad", *model, *cpu), {}),
        "h5ad, gzip": (folder / "packed.h5ad", ("map", folder / "packed.h5ad", *model, *cpu), {}),
        "h5ad, in blocks": (
            folder / "plain.h5ad",
            ("map", folder / "plain.h5ad", *model, *cpu),
            {"on_disk": True},
        ),
        "h5mu": (folder / "query.h5mu", ("map", folder / "query.h5mu", *mmodel, *cpu), {}),
        "h5mu, gzip": (folder / "packed.h5mu", ("map", folder / "packed.h5mu", *mmodel, *cpu), {}),
        "zarr": (folder / "query.zarr", ("map", folder / "query.zarr", *model, *cpu), {}),
        "zarr, in blocks": (
            folder / "query.zarr",
            ("map", folder / "query.zarr", *model, *cpu),
            {"on_disk": True},
        ),
        "zarr, checksums": (
            folder / "checked.zarr",
            ("map", folder / "checked.zarr", *model, *cpu),
            {"on_disk": True},
        ),
        "csv": (
            folder / "table.csv",
            ("evaluate", folder / "cells.h5ad", folder / "table.csv"),
            {},
        ),
    }


def results(out):
    """Bytes of all results but the report and the model, whose file holds the time."""
    files = [of for of in out.iterdir() if of.is_file() and of.name != "report.html"]
    return {of.name: of.read_bytes() for of in files}


class Trial:
    """A kind of file, and what the command makes of it while it is whole."""

    def __init__(self, forks, path, words, options, out):
        self.forks, self.path, self.words, self.out = forks, path, words, out
        self.options = {"at_most": AT_MOST, **options}
        self.kept = path.with_name(f"kept-{path.name}")
        shutil.rmtree(self.kept, ignore_errors=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, self.kept)
        self.expected = None
        outcome, _ = self.run()
        assert outcome == "same", outcome

    def run(self):
        """How the command ends, and what it says last."""
        status, _, _, said = self.forks(*self.words, "--out", self.out, **self.options)
        lines = said.strip().splitlines()
        errors = [line for line in lines if line.startswith("Error: ")]
        last = lines[-1] if lines else ""
        found = results(self.out) if self.out.exists() else None
        shutil.rmtree(self.out, ignore_errors=True)
        self.expected = self.expected or found
        if status is None or "Traceback" in said or status not in (0, 2):
            kind = "hang" if status is None else "crash" if status < 0 else "failure"
            return f"{kind} ({status})", last
        if status == 2:
            is_clear = len(errors) == 1 and errors[0] == last and found is None
            return "refused" if is_clear else "unclear", last
        if found == self.expected:
            return "same", last
        return "other data" if self.is_other_data() else "wrong", last

    def is_other_data(self):
        """Whether the file is whole as far as its format knows, but with other content."""
        if self.path.is_dir() and (self.path / "model.pt").exists():
            return False
        if self.path.suffix == ".csv":
            return self.path.read_bytes() != self.kept.read_bytes()
        read = {".h5mu": mudata.read_h5mu, ".zarr": anndata.read_zarr}
        read = read.get(self.path.suffix, anndata.read_h5ad)
        return _content(read(self.path)) != _content(read(self.kept))

    def damaged(self, form, seed):
        """Damage the file, and return what was done, how the command ends and what it says."""
        told = damage(self.path, form, np.random.default_rng(seed))
        try:
            return (told, *self.run())
        finally:
            if self.path.is_dir():
                shutil.rmtree(self.path)
                shutil.copytree(self.kept, self.path)
            else:
                shutil.copy(self.kept, self.path)


def _content(data):
    """Everything that a command may read of cells, as text."""
    parts = getattr(data, "mod", {"": data})
    found = [data.obs.to_csv()]
    for part in parts.values():
        X = part.X.toarray() if hasattr(part.X, "toarray") else np.asarray(part.X)
        found += [part.obs.to_csv(), part.var.to_csv(), X.tobytes().hex()]
    return json.dumps(found)


def trials(forks, folder, cells, mcells, kinds=None):
    """A trial of each kind of file."""
    folder = Path(folder)
    made = make(forks, folder, cells, mcells)
    return {
        kind: Trial(forks, *made[kind], folder / "damaged")
        for kind in made
        if not kinds or kind in kinds
    }
