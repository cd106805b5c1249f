"""The commands: what each reads, works on, writes and reports."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import typer

from scmetaq._errors import InputError

from ._checkpoints import Checkpoints
from ._inputs import as_modality, check_accelerator, read_assignments, split, with_counts
from ._job import (
    DEMO_LABELS,
    JUDGING,
    REPORT,
    Job,
    JudgingJob,
    code_after,
    column_option,
    write_assignments,
    write_model,
    write_table,
)
from ._output import Output
from ._terminal import CELLS_PER_METACELL, say

MIN_CELLS_OF_REPORT = 50  # of fewer mapped cells there is no report: it would mean little

_ASSIGNMENTS = "metacell and margin of each cell"

_OF_NO_RESULT = {"input", "out", "overwrite", "debug", "command", "resume"}
"""Options that do not decide what the results are."""

Accelerator = Literal["auto", "cpu", "gpu", "mps"]


@dataclass(kw_only=True)
class Infer(JudgingJob):
    """Infer metacells and write them, the assignment of each cell, the model and a report."""

    results = {
        "metacells.h5ad": "metacells: mean counts in X, summed counts in layers['counts']",
        "metacells.h5mu": "metacells: per modality mean counts in X, sums in layers['counts']",
        "assignments.csv": _ASSIGNMENTS,
        "model": "the trained model, for scmetaq.MetaQModel.load",
        "run.json": "options and input files of this run",
        "report.html": REPORT,
    }

    n_metacells: int | None = typer.Option(
        None, metavar="K", min=2, help="Number of metacells; one per 50 cells by default."
    )
    cells_per_metacell: float | None = typer.Option(
        None, metavar="N", help="Cells that a metacell has on average, in place of --n-metacells."
    )
    counts_per_metacell: float | None = typer.Option(
        None, metavar="N", help="Raw counts (UMIs) that a metacell has on average, likewise."
    )
    min_size: int | None = typer.Option(
        None, metavar="N", min=1, help="Fewest cells in a metacell; needs scmetaq[bounds]."
    )
    max_size: int | None = typer.Option(
        None, metavar="N", min=1, help="Most cells in a metacell; needs scmetaq[bounds]."
    )
    modality: Literal["rna", "adt", "atac"] | None = typer.Option(
        None,
        help="Kind of counts of an .h5ad file, rna by default; those of an .h5mu file are known by "
        "the names of its modalities: rna, adt or prot, atac.",
    )
    batch_key: str | None = column_option("Column of obs with the batch.")
    covariate_key: list[str] | None = column_option(
        "Column of obs with a covariate; several after INPUT, or repeated."
    )
    labels_key: list[str] | None = column_option(
        "Column of obs with labels to judge by, also of one modality (rna:COLUMN); several after "
        "INPUT, or repeated. Not used in training, unless --label-weight is given."
    )
    label_weight: float = typer.Option(
        0.0,
        metavar="W",
        help="Weight of the first --labels-key in the grouping: 1 keeps types apart.",
    )
    features: str | None = column_option("Boolean column of var: features to group cells by.")
    exclude_features: str | None = column_option(
        "Boolean column of var: features never to group cells by; metacells have them."
    )
    use_rep: str | None = typer.Option(
        None, metavar="KEY", help="Embedding in obsm to group cells by, in place of a learnt one."
    )
    max_epochs: int | None = typer.Option(
        None, metavar="N", min=1, help="Epochs; by default what the data need."
    )
    seed: int = typer.Option(0, metavar="S", min=0, help="The same seed gives the same result.")
    accelerator: Accelerator = typer.Option("auto", help="Device to train on.")
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on after the last finished stage of an interrupted run, or begin if there is "
        "none: the same command can be repeated until all is done.",
    )

    def _output(self, out: Path) -> Output:
        names = sorted({of.name for of in fields(self)} - _OF_NO_RESULT)
        options = {name: getattr(self, name) for name in names}
        of_job: Any = {"resume": self.resume, "notes": self.notes, "note": self.note}
        return Checkpoints(out, self.results, options, self.source.paths, **of_job)

    def _check(self) -> list[Path]:
        if not self.source.paths:
            self.out = self.out or Path("scmetaq-demo")
            self.labels_key = self.labels_key or [DEMO_LABELS]
        if self.source.is_mudata and self.modality is not None:
            problem = "--modality says what an AnnData holds; the modalities of MuData are found"
            raise InputError(f"{problem} by their names (rna, adt or prot, atac): leave it out.")
        return []

    def _set_up(self) -> None:
        import scvi

        from scmetaq import MetaQModel

        cells, n_metacells = self.cells, self.n_metacells
        columns = self._find_columns(
            labels_key=self.labels_key,
            batch_key=self.batch_key,
            categorical_covariate_keys=self.covariate_key,
        )
        check_accelerator(self.accelerator)
        scvi.settings.seed = self.seed
        setup: dict[str, Any] = {name: of.keys or None for name, of in columns.items()}
        setup |= {name: getattr(self, name) for name in ("features", "exclude_features", "use_rep")}
        setup["batch_key"] = next(iter(columns["batch_key"].keys), None)
        if cells.kinds:
            modalities = {f"{kind}_layer": name for kind, name in cells.kinds.items()}
            setup |= {argument: cells.layer_of(name) for argument, name in modalities.items()}
            modalities |= {name: of.modality for name, of in columns.items() if of.modality}
            MetaQModel.setup_mudata(cells.data, modalities=modalities, **setup)
        else:
            modality = self.modality or "rna"
            MetaQModel.setup_anndata(cells.data, modality=modality, layer=self.layer, **setup)
        size = {name: getattr(self, name) for name in ("cells_per_metacell", "counts_per_metacell")}
        if n_metacells is None and all(value is None for value in size.values()):
            n_metacells = max(2, round(cells.data.n_obs / CELLS_PER_METACELL))
            per = f"one per {CELLS_PER_METACELL} cells"
            say(f"--n-metacells is left out: {n_metacells:,}, {per}.")
        self.model = MetaQModel(cells.data, n_metacells, label_weight=self.label_weight, **size)

    def _work(self) -> None:
        started, show_bar = time.perf_counter(), sys.stderr.isatty()
        stage = self.output.last_stage
        if stage in ("", "statistics", "training"):
            say(f"Training {self.model.n_metacells:,} metacells.")
        self.model._stored = self.output
        options = {name: getattr(self, name) for name in ("min_size", "max_size", "accelerator")}
        with redirect_stdout(sys.stderr if show_bar else sys.stdout):  # of the bar
            self.model.train(self.max_epochs, enable_progress_bar=show_bar, **options)
        self.of_which = f", of which training {time.perf_counter() - started:.0f} s"
        if stage:
            self.of_which = f" since the run went on after {stage}"

    def _write(self, output: Output) -> None:
        say("Assigning cells and aggregating metacells.")
        self.assignments = None

        def assign() -> Any:
            self.assignments = self.model.get_assignments()
            return self.assignments

        path = write_assignments(output, assign)
        if self.assignments is None:  # the stage was finished
            self.assignments = read_assignments(path).set_axis(self.cells.data.obs_names)
        write_model(output, self.model, self.assignments)

    def _page(self) -> dict[str, Any]:
        say(JUDGING)
        model, cells, labels = self.model, self.cells, self.columns["labels_key"]
        facts = {
            **({} if cells.kinds else {"Modality": self.modality or "rna"}),
            **cells.facts(model.modality_weights if len(cells.kinds) > 1 else None),
            **({"Weight of labels": self.label_weight} if self.label_weight else {}),
            "Metacells asked for": f"{model.n_metacells:,}",
            "Method": "MetaQ, scmetaq's default recipe",
            "Epochs": len(model.history["train_loss"]),
            "Seed": self.seed,
            "Device": str(model.device),
        }
        return self._judge(self.assignments, facts) | {
            "embedding": model.get_latent_representation() if cells.kinds else None,
            "history": model.history,
            "quantization": model.get_quantization_report(),
            "next_steps": code_after(
                "infer",
                self.out,
                ["metacells.h5mu" if cells.kinds else "metacells.h5ad", "assignments.csv", "model"],
                cells=cells.code(self.source),
                kinds=cells.kinds,
                is_mosaic=cells.is_mosaic,
                color=json.dumps(next(iter(labels.keys), "n_cells")),
                modality=labels.modality,
            ),
            "of_which": self.of_which,
        }


@dataclass(kw_only=True)
class Map(Job):
    """Map new cells onto a trained model: metacells, and labels with their uncertainty."""

    results = {
        "metacells.h5ad": "metacells of the new cells: mean counts in X, sums in layers['counts']",
        "metacells.h5mu": "metacells of the new cells: per modality mean counts and sums",
        "assignments.csv": _ASSIGNMENTS,
        "labels.csv": "label, uncertainty and whether it is unknown, of each cell",
        "model": "the model with the new conditions, for scmetaq.MetaQModel.load",
        "report.html": REPORT,
    }
    remedies = {"trust": "Pass --trust if you trust whoever made it."}

    input: list[str] = typer.Argument(
        metavar="QUERY...",
        help="New cells with raw counts: one or several .h5ad files, .h5mu files or .zarr stores.",
    )
    model: Path | None = typer.Option(
        None,
        metavar="DIR",
        help="Folder of the trained model, e.g. results/model of [bold]scmetaq infer[/].",
    )
    trust: bool = typer.Option(False, "--trust", help="Read a pickle too, which can run any code.")
    new_metacells: bool = typer.Option(
        False, "--new-metacells", help="Add metacells for states that the model lacks."
    )
    accelerator: Accelerator = typer.Option("auto", help="Device to use.")

    def _check(self) -> list[Path]:
        if self.model is None:
            raise InputError("Missing option --model DIR: which model should cells be mapped onto?")
        if not (self.model / "model.pt").is_file():
            problem = f"There is no model in {self.model}: expected the folder that scmetaq infer"
            raise InputError(f"{problem} or MetaQModel.save wrote, with a file model.pt.")
        return [self.model]

    def _set_up(self) -> None:
        from scmetaq import MetaQModel

        check_accelerator(self.accelerator)
        known = MetaQModel.load(
            str(self.model), False, accelerator=self.accelerator, trust=self.trust
        )
        query = as_modality(
            split(self.cells.data, known.registry["setup_args"]), known.get_var_names()
        )
        self.mapped = MetaQModel.load_query_data(query, known, layer=self.layer)
        self.arguments: dict[str, Any] = dict(self.mapped.registry["setup_args"])
        parts = getattr(self.mapped.adata, "mod", {})
        self.absent = [name for name, part in parts.items() if part.n_obs == 0]
        for name in self.absent:
            self.note(f"No cell has {name}: metacells and labels are found without it.")
        for kind, missing in self.mapped.missing_features.items():
            if len(missing):
                self.note(
                    f"{len(missing):,} {kind} features of the model are missing and filled in, "
                    f"e.g. {missing[0]!r}."
                )

    def _work(self) -> None:
        mapped = self.mapped
        for key, new in mapped.new_conditions.items():
            if new:
                shown = ", ".join(map(str, new[:5])) + (", ..." if len(new) > 5 else "")
                say(f"Fitting {len(new)} new in {key!r}: {shown}.")
        mapped.train(accelerator=self.accelerator, enable_progress_bar=False)
        if self.new_metacells:
            names = mapped.add_metacells()
            say(f"New metacells for cells that the model has none for: {len(names)}.")
        self.assignments, self.labels = mapped.get_assignments(), None
        if self.arguments.get("labels_key"):
            try:
                self.labels = mapped.predict_labels()
            except ValueError as error:
                self.note(error)

    def _known_labels(self) -> dict[str, Any]:
        """Label of each cell by key; missing where the type is unknown."""
        table = {} if self.labels is None else self.labels
        keys = [name.removesuffix("_unknown") for name in table if name.endswith("_unknown")]
        return {key: table[key].where(~table[f"{key}_unknown"]) for key in keys}

    def _write(self, output: Output) -> None:
        if (labels := self.labels) is not None:
            output.write("labels.csv", lambda path: write_table(path, labels))
        write_assignments(output, lambda: self.assignments)
        write_model(output, self.mapped, self.assignments)

    def _page(self) -> dict[str, Any] | None:
        if len(self.assignments) < MIN_CELLS_OF_REPORT:
            return None
        say(JUDGING)
        mapped, data = self.mapped, with_counts(self.mapped.adata, self.arguments)
        known = {key: labels for key, labels in self._known_labels().items() if labels.count()}
        for key, labels in known.items():
            data.obs[f"{key}_predicted"] = labels
        batch = self.arguments.get("batch_key")
        facts = {"Model": str(self.model)}
        for key, new in mapped.new_conditions.items():
            facts[f"New in {key}"] = ", ".join(map(str, new)) or "none"
        for kind, missing in mapped.missing_features.items():
            facts[f"Features filled in, {kind}"] = f"{len(missing):,}"
        if self.absent:
            facts["Modalities that no cell has"] = ", ".join(self.absent)
        return {
            "adata": data,
            "assignments": self.assignments,
            "labels_key": [f"{key}_predicted" for key in known],
            "batch_key": batch if batch in data.obs and data.obs[batch].nunique() > 1 else None,
            "embedding": mapped.get_latent_representation(),
            "quantization": mapped.get_quantization_report(),
            "facts": facts,
        }

    def _rows(self) -> Iterable[tuple[str, ...]]:
        n_used, n_all = self.assignments["metacell"].nunique(), self.mapped.n_metacells
        yield "cells", f"{len(self.assignments):,}"
        yield "metacells with new cells", f"{n_used:,} of {n_all:,}"
        yield "margin, median", f"{self.assignments['margin'].median():.4g}"
        for key, labels in self._known_labels().items():
            yield f"cells of unknown {key}", f"{labels.isna().sum():,}"
