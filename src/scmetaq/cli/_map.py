"""Map new cells onto a trained model."""

from __future__ import annotations

import io
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import BadInput, bad_input, report_of
from ._infer import Accelerator, check_accelerator
from ._input import read_cells
from ._modalities import describe
from ._output import staged
from ._quiet import quiet
from ._terminal import say, say_note, show_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd

    from scmetaq import MetaQModel

    from ._input import Source

RESULTS = {
    "metacells.h5ad": "metacells of the new cells: mean counts in X, sums in layers['counts']",
    "metacells.h5mu": "metacells of the new cells: per modality mean counts and sums",
    "assignments.csv": "metacell and margin of each cell",
    "labels.csv": "label, uncertainty and whether it is unknown, of each cell",
    "model": "the model with the new conditions, for scmetaq.MetaQModel.load",
    "report.html": "pictures and the quality of the metacells",
}
PREDICTED = "{}_predicted"
MIN_CELLS_OF_REPORT = 50
"""With fewer cells there is neither a picture nor a quality worth a page."""


@dataclass(frozen=True)
class MapOptions:
    """Options of ``scmetaq map``, checked as far as that needs no data."""

    source: Source
    model: Path
    out: Path
    accelerator: Accelerator
    new_metacells: bool
    overwrite: bool
    command: str
    debug: bool


def check_model(path: Path) -> None:
    """Check what can be checked of a saved model without reading it."""
    if not (path / "model.pt").is_file():
        raise BadInput(
            f"There is no model in {path}: expected the folder that scmetaq infer or "
            "MetaQModel.save wrote, with a file model.pt."
        )


def map_cells(options: MapOptions) -> None:
    """Read, check, map and write, in this order."""
    started = time.perf_counter()
    with quiet(say_note, debug=options.debug):
        model = _query_model(options)
        _train(model, options)
        labels = _labels(model, say_note)
        assignments = model.get_assignments()
        metacells: Any = model.get_metacells()
        files = ["assignments.csv", "model"]
        with staged(options.out, overwrite=options.overwrite) as folder:
            assignments.to_csv(folder / "assignments.csv", index_label="barcode")
            if labels is not None:
                labels.to_csv(folder / "labels.csv", index_label="barcode")
                files.insert(1, "labels.csv")
            if hasattr(metacells, "mod"):
                files.insert(0, "metacells.h5mu")
                metacells.write_h5mu(folder / files[0], compression="gzip")
            else:
                files.insert(0, "metacells.h5ad")
                metacells.write_h5ad(folder / files[0], compression="gzip")
            model.save(str(folder / "model"))
        if len(assignments) >= MIN_CELLS_OF_REPORT:
            say("Judging the metacells and writing the report.")
            with report_of(options.out) as path:
                facts = _report_facts(model, options, started)
                _write_report(path, model, assignments, labels, facts)
            files.append(path.name)
    show_facts(
        _facts(model, assignments, labels), options.out, {name: RESULTS[name] for name in files}
    )


def _query_model(options: MapOptions) -> MetaQModel:
    """Make the model of the query; whatever it refuses is bad input."""
    from scmetaq import MetaQModel

    data = read_cells(options.source)
    say(f"Read {describe(data, _modalities(data))} from {options.source.name}.")
    with bad_input():
        check_accelerator(options.accelerator)
        model = MetaQModel.load_query_data(data, options.model, accelerator=options.accelerator)
    for name in _lacking(model.adata):
        say_note(f"No cell has {name}: metacells and labels are found without it.")
    for kind, missing in model.missing_features.items():
        if len(missing):
            say_note(
                f"{len(missing):,} {kind} features of the model are missing and filled in, e.g. "
                f"{missing[0]!r}."
            )
    return model


def _modalities(data: Any) -> dict[str, str]:
    return {name: name for name in data.mod} if hasattr(data, "mod") else {}


def _train(model: MetaQModel, options: MapOptions) -> None:
    """Fit new conditions, and grow metacells if asked to."""
    new = {key: found for key, found in model.new_conditions.items() if found}
    for key, categories in new.items():
        shown = ", ".join(map(str, categories[:5])) + (", ..." if len(categories) > 5 else "")
        say(f"Fitting {len(categories)} new in {key!r}: {shown}.")
    # stdout is for results, and scvi-tools prints there when training fails
    with redirect_stdout(sys.stderr if options.debug else io.StringIO()):
        model.train(accelerator=options.accelerator, enable_progress_bar=False)
    if options.new_metacells:
        names = model.add_metacells()
        say(f"New metacells for cells that the model has none for: {len(names)}.")


def _labels(model: MetaQModel, note: Callable[[str], None]) -> pd.DataFrame | None:
    """Labels of the cells where the model has learnt any."""
    if not _setup_arguments(model).get("labels_key"):
        return None
    try:
        return model.predict_labels()
    except ValueError as error:
        note(str(error))
        return None


def _write_report(
    path: Path,
    model: MetaQModel,
    assignments: pd.DataFrame,
    labels: pd.DataFrame | None,
    facts: dict[str, object],
) -> None:
    """Write the page about the metacells of the new cells, by their predicted labels."""
    from scmetaq.report import write_report

    arguments = _setup_arguments(model)
    data = _measured(model.adata, arguments)
    known = {key: values for key, values in _predicted(labels).items() if values.notna().any()}
    found = {PREDICTED.format(key): values for key, values in known.items()}
    for name, values in found.items():
        data.obs[name] = values
    batch = arguments.get("batch_key")
    write_report(
        path,
        data,
        assignments,
        labels_key=list(found),
        batch_key=batch if batch in data.obs and data.obs[batch].nunique() > 1 else None,
        embedding=model.get_latent_representation(),
        facts=facts,
        quantization=model.get_quantization_report(),
    )


def _lacking(data: Any) -> list[str]:
    """Names of the modalities that no cell has."""
    parts = data.mod if hasattr(data, "mod") else {}
    return [name for name, part in parts.items() if part.n_obs == 0]


def _measured(data: Any, arguments: Mapping[str, Any]) -> Any:
    """Return cells with their raw counts in ``X``, without the modalities that no cell has."""
    if not hasattr(data, "mod"):
        return _with_counts(data, arguments["layer"])
    layers = {
        arguments["modalities"].get(name): arguments[name] for name in arguments if "layer" in name
    }
    lacking = _lacking(data)
    measured = type(data)(
        {
            name: _with_counts(part, layers.get(name))
            for name, part in data.mod.items()
            if name not in lacking
        }
    )
    measured.obs = data.obs.loc[measured.obs_names]
    return measured


def _with_counts(part: Any, layer: str | None) -> Any:
    """Return the same cells with a layer as ``X``."""
    if layer is None:
        return part
    return type(part)(
        part.layers[layer], obs=part.obs, var=part.var, obsm=dict(part.obsm), uns=part.uns
    )


def _report_facts(model: MetaQModel, options: MapOptions, started: float) -> dict[str, object]:
    found = {f"New in {key}": ", ".join(map(str, new)) for key, new in model.new_conditions.items()}
    lacks = {kind: len(missing) for kind, missing in model.missing_features.items()}
    absent = _lacking(model.adata)
    return {
        "Input": options.source.name,
        "Model": str(options.model),
        **{name: text or "none" for name, text in found.items()},
        **{f"Features filled in, {kind}": f"{n:,}" for kind, n in lacks.items()},
        **({"Modalities that no cell has": ", ".join(absent)} if absent else {}),
        "Time": f"{time.perf_counter() - started:.0f} s",
        "Command": options.command,
    }


def _setup_arguments(model: MetaQModel) -> dict[str, Any]:
    registry: Any = model.registry
    return registry["setup_args"]


def _predicted(labels: pd.DataFrame | None) -> dict[str, pd.Series]:
    """Label of each cell by key; missing where the type is unknown."""
    if labels is None:
        return {}
    keys = [name.removesuffix("_unknown") for name in labels if name.endswith("_unknown")]
    return {key: labels[key].where(~labels[f"{key}_unknown"]) for key in keys}


def _facts(
    model: MetaQModel, assignments: pd.DataFrame, labels: pd.DataFrame | None
) -> dict[str, str]:
    n_used = assignments["metacell"].nunique()
    facts = {
        "cells": f"{len(assignments):,}",
        "metacells with new cells": f"{n_used:,} of {model.n_metacells:,}",
        "margin, median": f"{assignments['margin'].median():.4g}",
    }
    for key, values in _predicted(labels).items():
        facts[f"cells of unknown {key}"] = f"{int(values.isna().sum()):,}"
    return facts
