"""Infer metacells of a file and write all that belongs to them."""

from __future__ import annotations

import io
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from . import _next_steps
from ._errors import BadInput, bad_input, report_of
from ._input import read_cells
from ._modalities import Labels, describe, facts, find_labels, find_layers, find_modalities
from ._output import staged
from ._quiet import quiet
from ._terminal import say, say_note, show_results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from scmetaq import MetaQModel

    from ._input import Source

Modality = Literal["rna", "adt", "atac"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]

CELLS_PER_METACELL = 50

RESULTS = {
    "metacells.h5ad": "metacells: mean counts in X, summed counts in layers['counts']",
    "metacells.h5mu": "metacells: per modality mean counts in X, sums in layers['counts']",
    "assignments.csv": "metacell and margin of each cell",
    "model": "the trained model, for scmetaq.MetaQModel.load",
    "report.html": "pictures and the quality of the metacells",
}


@dataclass(frozen=True)
class InferOptions:
    """Options of ``scmetaq infer``, checked as far as that needs no data."""

    source: Source
    out: Path
    n_metacells: int | None
    layer: str | None
    modality: Modality | None
    batch_key: str | None
    covariate_keys: list[str]
    labels_keys: list[str]
    max_epochs: int | None
    seed: int
    accelerator: Accelerator
    overwrite: bool
    command: str
    debug: bool


class _Cells(NamedTuple):
    """What was read, and what the options mean there."""

    data: AnnData | MuData
    names: dict[str, str]
    """Name of the modality by kind of counts; none of an AnnData, which is one."""
    labels: Labels
    batch: Labels
    covariates: Labels

    @property
    def is_mosaic(self) -> bool:
        """Whether cells lack modalities."""
        data: Any = self.data
        return any(data.mod[name].n_obs < data.n_obs for name in self.names.values())


def infer(options: InferOptions) -> None:
    """Read, check, train, judge and write, in this order."""
    started = time.perf_counter()
    with quiet(say_note, debug=options.debug) as notes:

        def note(message: str) -> None:
            notes.append(message)
            say_note(message)

        cells = _read(options, note)
        model = _set_up(cells, options)
        seconds = _train(model, options)
        _write(model, cells, options)
        say("Judging the metacells and writing the report.")
        with report_of(options.out) as path:
            metrics = _report(
                path, model, cells, options, notes, {"started": started, "training": seconds}
            )
    show_results(metrics, options.out, _written(options))


def _written(options: InferOptions) -> dict[str, str]:
    """Results of cells with one modality, or of those with several."""
    other = "metacells.h5ad" if options.source.is_mudata else "metacells.h5mu"
    return {name: text for name, text in RESULTS.items() if name != other}


def check_options(options: InferOptions) -> None:
    """Refuse options that do not go together."""
    if options.source.is_mudata and options.modality is not None:
        raise BadInput(
            "--modality says what an AnnData holds; the modalities of MuData are found by their "
            "names (rna, adt or prot, atac): leave it out."
        )


def _read(options: InferOptions, note: Callable[[str], None]) -> _Cells:
    data = read_cells(options.source)
    names = find_modalities(data, note) if options.source.is_mudata else {}
    say(f"Read {describe(data, names)} from {options.source.name}.")
    batch = [options.batch_key] if options.batch_key else []
    return _Cells(
        data,
        names,
        find_labels(data, options.labels_keys),
        find_labels(data, batch, "--batch-key"),
        find_labels(data, options.covariate_keys, "--covariate-key"),
    )


def _set_up(cells: _Cells, options: InferOptions) -> MetaQModel:
    """Make the model; whatever it refuses is bad input."""
    import scvi

    from scmetaq import MetaQModel

    data, names, labels, batch, covariates = cells
    columns: dict[str, Any] = {
        "batch_key": next(iter(batch.columns), None),
        "categorical_covariate_keys": covariates.columns or None,
        "labels_key": labels.columns or None,
    }
    with bad_input():
        check_accelerator(options.accelerator)
        scvi.settings.seed = options.seed
        if names:
            layers = find_layers(data, names, options.layer)
            modalities = {f"{kind}_layer": name for kind, name in names.items()}
            for argument, of in zip(columns, (batch, covariates, labels), strict=True):
                if of.modality is not None:
                    modalities[argument] = of.modality
            of_kinds: dict[str, Any] = {f"{kind}_layer": layer for kind, layer in layers.items()}
            MetaQModel.setup_mudata(data, modalities=modalities, **of_kinds, **columns)
        else:
            modality = options.modality or "rna"
            MetaQModel.setup_anndata(data, modality=modality, layer=options.layer, **columns)
        return MetaQModel(data, n_metacells=_number(data.n_obs, options.n_metacells))


def _number(n_cells: int, asked: int | None) -> int:
    if asked is not None:
        return asked
    number = max(2, round(n_cells / CELLS_PER_METACELL))
    say(f"--n-metacells is left out: {number:,}, one per {CELLS_PER_METACELL} cells.")
    return number


def check_accelerator(name: Accelerator) -> None:
    """Refuse a device that is not there."""
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


def _write(model: MetaQModel, cells: _Cells, options: InferOptions) -> None:
    """Write every result but the report."""
    assignments = model.get_assignments()
    metacells: Any = model.get_metacells()
    with staged(options.out, overwrite=options.overwrite) as folder:
        if cells.names:
            metacells.write_h5mu(folder / "metacells.h5mu", compression="gzip")
        else:
            metacells.write_h5ad(folder / "metacells.h5ad", compression="gzip")
        assignments.to_csv(folder / "assignments.csv", index_label="barcode")
        model.save(str(folder / "model"))


def _report(
    path: Path,
    model: MetaQModel,
    cells: _Cells,
    options: InferOptions,
    notes: list[str],
    seconds: Mapping[str, float],
) -> pd.DataFrame:
    """Judge the metacells, write the report, and return the table of quality."""
    from scmetaq import metrics
    from scmetaq.report import write_report

    data, names, labels, batch, _ = cells
    assignments = model.get_assignments()
    quality = metrics.evaluate(
        data,
        assignments["metacell"],
        labels.first(data),
        conditions=batch.first(data),
        layer=options.layer,
        modalities=list(names.values()) or None,
    )
    write_report(
        path,
        data,
        assignments,
        metrics=quality,
        labels_key=labels.names,
        batch_key=next(iter(batch.names), None),
        layer=options.layer,
        embedding=model.get_latent_representation() if names else None,
        facts=_facts(model, cells, options, seconds),
        history=model.history,
        quantization=model.get_quantization_report(),
        next_steps=_code(cells, options),
        notes=notes,
    )
    return quality


def _facts(
    model: MetaQModel, cells: _Cells, options: InferOptions, seconds: Mapping[str, float]
) -> dict[str, object]:
    total = time.perf_counter() - seconds["started"]
    weights = model.modality_weights if len(cells.names) > 1 else None
    return {
        "Input": options.source.name,
        **({} if cells.names else {"Modality": options.modality or "rna"}),
        **facts(cells.data, cells.names, options.layer, weights),
        "Metacells asked for": f"{model.n_metacells:,}",
        "Labels": ", ".join(cells.labels.names) or "none",
        "Batch": ", ".join(cells.batch.names) or "none",
        "Covariates": ", ".join(cells.covariates.names) or "none",
        "Method": "MetaQ, scmetaq's default recipe",
        "Epochs": len(model.history["train_loss"]),
        "Seed": options.seed,
        "Device": str(model.device),
        "Time": f"{total:.0f} s, of which training {seconds['training']:.0f} s",
        "Command": options.command,
    }


def _code(cells: _Cells, options: InferOptions) -> str:
    """Code to go on with, for this very run."""
    written = _written(options)
    paths = {name.split(".")[0]: (options.out / name).as_posix() for name in written}
    color = next(iter(cells.labels.columns), "n_cells")
    if not cells.names:
        return _next_steps.of_cells(paths, options.source.reading, color)
    return _next_steps.of_modalities(
        paths,
        options.source.reading,
        color,
        color_of=cells.labels.modality,
        names=cells.names,
        is_mosaic=cells.is_mosaic,
    )
