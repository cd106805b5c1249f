"""Infer metacells of a file and write all that belongs to them."""

from __future__ import annotations

import io
import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ._errors import BadInput, bad_input
from ._input import read_cells
from ._output import staged
from ._quiet import quiet
from ._terminal import say, say_note, show_results

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData

    from scmetaq import MetaQModel

    from ._input import Source

Modality = Literal["rna", "adt", "atac"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]

CELLS_PER_METACELL = 50

RESULTS = {
    "metacells.h5ad": "metacells: mean counts in X, summed counts in layers['counts']",
    "assignments.csv": "metacell and margin of each cell",
    "model": "the trained model, for scmetaq.MetaQModel.load",
    "report.html": "pictures and the quality of the metacells",
}

NEXT_STEPS = """\
import anndata
import pandas as pd
import scanpy as sc
import scmetaq

# metacells are analysed as cells are; X holds mean counts per cell
metacells = anndata.read_h5ad({metacells})
sc.pp.normalize_total(metacells, target_sum=1e4)
sc.pp.log1p(metacells)
sc.pp.pca(metacells)
sc.pp.neighbors(metacells, n_neighbors=5)
sc.tl.umap(metacells)
sc.pl.umap(metacells, color={color}, size=20 * metacells.obs["n_cells"] ** 0.5)

# back to the cells: which metacell is theirs, and how clearly
cells = {read}
assignments = pd.read_csv({assignments}, index_col="barcode")
cells.obs[["metacell", "metacell_margin"]] = assignments[["metacell", "margin"]]
scmetaq.MetaQModel.load({model}, cells)  # the trained model, also for new cells
"""


@dataclass(frozen=True)
class InferOptions:
    """Options of ``scmetaq infer``, checked as far as that needs no data."""

    source: Source
    out: Path
    n_metacells: int | None
    layer: str | None
    modality: Modality
    batch_key: str | None
    covariate_keys: list[str]
    labels_keys: list[str]
    max_epochs: int | None
    seed: int
    accelerator: Accelerator
    overwrite: bool
    command: str
    debug: bool


def infer(options: InferOptions) -> None:
    """Read, check, train, judge and write, in this order."""
    started = time.perf_counter()
    with quiet(say_note, debug=options.debug) as notes:
        adata = read_cells(options.source)
        say(f"Read {adata.n_obs:,} cells x {adata.n_vars:,} features from {options.source.name}.")
        model = _set_up(adata, options)
        seconds = _train(model, options)
        say("Judging the metacells and writing the report.")
        metrics = _write(model, adata, options, notes, {"started": started, "training": seconds})
    show_results(metrics, options.out, RESULTS)


def _set_up(adata: AnnData, options: InferOptions) -> MetaQModel:
    """Make the model; whatever it refuses is bad input."""
    import scvi

    from scmetaq import MetaQModel

    with bad_input():
        _check_accelerator(options.accelerator)
        scvi.settings.seed = options.seed
        MetaQModel.setup_anndata(
            adata,
            modality=options.modality,
            layer=options.layer,
            batch_key=options.batch_key,
            categorical_covariate_keys=options.covariate_keys or None,
            labels_key=options.labels_keys or None,
        )
        return MetaQModel(adata, n_metacells=_number(adata.n_obs, options.n_metacells))


def _number(n_cells: int, asked: int | None) -> int:
    if asked is not None:
        return asked
    number = max(2, round(n_cells / CELLS_PER_METACELL))
    say(f"--n-metacells is left out: {number:,}, one per {CELLS_PER_METACELL} cells.")
    return number


def _check_accelerator(name: Accelerator) -> None:
    import torch

    there = {"gpu": torch.cuda.is_available() or torch.backends.mps.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if not there.get(name, True):
        raise BadInput(f"PyTorch finds no {name} here: leave --accelerator out, or pass cpu.")


def _train(model: MetaQModel, options: InferOptions) -> float:
    started = time.perf_counter()
    say(f"Training {model.n_metacells:,} metacells.")
    # stdout is for results, and scvi-tools prints there when training fails
    with redirect_stdout(sys.stderr if options.debug else io.StringIO()):
        model.train(
            options.max_epochs,
            accelerator=options.accelerator,
            enable_progress_bar=sys.stderr.isatty(),
        )
    return time.perf_counter() - started


def _write(
    model: MetaQModel,
    adata: AnnData,
    options: InferOptions,
    notes: list[str],
    seconds: Mapping[str, float],
) -> pd.DataFrame:
    """Write every result, and return the table of quality."""
    from scmetaq import metrics
    from scmetaq.report import write_report

    assignments = model.get_assignments()
    metacells = model.get_metacells()
    first_labels = next(iter(options.labels_keys), None)
    quality = metrics.evaluate(adata, assignments["metacell"], first_labels, layer=options.layer)
    with staged(options.out, overwrite=options.overwrite) as folder:
        metacells.write_h5ad(folder / "metacells.h5ad", compression="gzip")
        assignments.to_csv(folder / "assignments.csv", index_label="barcode")
        model.save(str(folder / "model"))
        write_report(
            folder / "report.html",
            adata,
            assignments,
            metrics=quality,
            labels_key=options.labels_keys,
            layer=options.layer,
            facts=_facts(model, adata, options, seconds),
            history=model.history,
            quantization=model.get_quantization_report(),
            next_steps=_next_steps(options),
            notes=notes,
        )
    return quality


def _facts(
    model: MetaQModel, adata: AnnData, options: InferOptions, seconds: Mapping[str, float]
) -> dict[str, object]:
    total = time.perf_counter() - seconds["started"]
    return {
        "Input": options.source.name,
        "Cells × features": f"{adata.n_obs:,} × {adata.n_vars:,}",
        "Modality": options.modality,
        "Counts": "X" if options.layer is None else f"layer {options.layer!r}",
        "Metacells asked for": f"{model.n_metacells:,}",
        "Labels": ", ".join(options.labels_keys) or "none",
        "Batch": options.batch_key or "none",
        "Covariates": ", ".join(options.covariate_keys) or "none",
        "Method": "MetaQ, scmetaq's default recipe",
        "Epochs": len(model.history["train_loss"]),
        "Seed": options.seed,
        "Device": str(model.device),
        "Time": f"{total:.0f} s, of which training {seconds['training']:.0f} s",
        "Command": options.command,
    }


def _next_steps(options: InferOptions) -> str:
    """Code for this very run."""
    paths = {Path(name).stem: json.dumps((options.out / name).as_posix()) for name in RESULTS}
    return NEXT_STEPS.format(
        **paths,
        color=json.dumps(next(iter(options.labels_keys), "n_cells")),
        read=_reading(options.source),
    )


def _reading(source: Source) -> str:
    if source.path is None:
        return "scmetaq.data.demo()"
    function = "read_zarr" if source.path.suffix == ".zarr" else "read_h5ad"
    return f"anndata.{function}({json.dumps(source.name)})"
