"""Map new cells onto a trained model."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import BadInput, bad_input
from ._infer import Accelerator, check_accelerator
from ._input import read_cells
from ._modalities import describe
from ._output import staged
from ._quiet import quiet
from ._terminal import say, say_note, show_facts

if TYPE_CHECKING:
    from collections.abc import Callable
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
}


@dataclass(frozen=True)
class MapOptions:
    """Options of ``scmetaq map``, checked as far as that needs no data."""

    source: Source
    model: Path
    out: Path
    accelerator: Accelerator
    new_metacells: bool
    overwrite: bool
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
    registry: Any = model.registry
    if not registry["setup_args"].get("labels_key"):
        return None
    try:
        return model.predict_labels()
    except ValueError as error:
        note(str(error))
        return None


def _facts(
    model: MetaQModel, assignments: pd.DataFrame, labels: pd.DataFrame | None
) -> dict[str, str]:
    n_used = assignments["metacell"].nunique()
    facts = {
        "cells": f"{len(assignments):,}",
        "metacells with new cells": f"{n_used:,} of {model.n_metacells:,}",
        "margin, median": f"{assignments['margin'].median():.4g}",
    }
    for column, values in ({} if labels is None else labels).items():
        if column.endswith("_unknown"):
            facts[f"cells of unknown {column.removesuffix('_unknown')}"] = f"{int(values.sum()):,}"
    return facts
