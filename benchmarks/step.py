"""What a training step spends its time on, and how fast cells are assigned: one command to a table.

usage: python benchmarks/step.py --data DIR [--cells 20000] [--genes 2000]

The parts of a step with codes are timed alone, on one thread and a batch of resampled cells: matrix
products of the three networks in their shapes, the optimiser, likelihoods with their gradients,
and cutting a batch out of the training set. What a bare step takes beyond them is all else that is
computed; what a step takes inside training beyond the bare one and the batch is the framework.
The rates of the floor are measured between the steps of the training, every tenth, so that what
else the machine does hits both. Medians of CPU seconds. Pin it to one core:
``taskset -c 1 python benchmarks/step.py ...``.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from statistics import median
from typing import Any, Final

import scvi
import torch
from _datasets import DATASETS
from _floor import Rates, batch_size, decoded_cells, floor_of_a_step, measured_rates
from _markdown import Report, save, table
from _methods import HERE
from _resample import resampled
from _runs import cpu_model
from lightning.pytorch import Callback
from torch import nn

import scmetaq
from scmetaq.data._training_set import training_set
from scmetaq.model._recipe import RECIPES, RecipeName
from scmetaq.nn import CountParameters, count_nll
from scmetaq.nn._inputs import COUNTS
from scmetaq.nn._likelihoods import non_zero_counts
from scmetaq.train import MetaQTrainingPlan

SOURCE: Final = "pbmc3k"
REPEATS: Final = 40
FLOORS: Final = {
    "floor: products": "product_seconds",
    "floor: memory": "memory_seconds",
    "floor in bfloat16": "bfloat16_seconds",
}
STEPS_PER_PROBE: Final = 10
"""Steps from one measurement of the machine's rates to the next."""
EPOCHS: Final = {"default": None, "published": 6}
"""Of the training in which whole steps are timed; None: all."""


def main() -> None:
    """Time everything, write results and tables."""
    args = command_line().parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dataset = resampled(DATASETS[SOURCE], args.data, args.cells, args.genes, args.cache)
    adata, _ = dataset.read(args.cache)
    n_codes = dataset.n_metacells(args.cache)
    rows, models = [], {}
    for recipe in RECIPES:
        model, times = trained(adata, n_codes, recipe)
        models[recipe] = model
        size = batch_size(recipe, args.cells)
        floor = floor_of_a_step(recipe, args.genes, n_codes, size, times.rates(), mean=False)
        parts = parts_of_a_step(model, recipe, size, times.seconds)
        rows.append({"recipe": recipe, "batch_size": size, **parts, **floor})
    model = models["default"]
    results = {
        "machine": {"cpu": cpu_model(), "threads": 1},
        "source": SOURCE,
        "n_cells": args.cells,
        "n_genes": args.genes,
        "steps": rows,
        "cells_per_second": args.cells / typical(model.get_assignments, 5),
        "aggregation_seconds": typical(model.get_metacells, 3) - typical(model.get_assignments, 3),
    }
    save(args, "step", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "step.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "speed")
    return parser


class StepTimes(Callback):
    """CPU seconds from the start of one batch with codes to that of the next, and rates between."""

    def __init__(self, n_decoded: int, n_outputs: int) -> None:
        self.seconds: list[float] = []
        self._probes: list[Rates] = []
        self._size = (n_decoded, n_outputs)
        self._last: float | None = None

    def on_train_epoch_start(self, *args: Any) -> None:
        """What happens between epochs is not a step."""
        self._last = None

    def on_train_batch_start(self, _: Any, plan: Any, *args: Any) -> None:
        """One more step has ended; after a measurement, the next one is not timed."""
        now = time.process_time()
        if self._last is not None and plan.module.codebook.is_fitted:
            self.seconds.append(now - self._last)
            if len(self.seconds) % STEPS_PER_PROBE == 0:
                self._probes.append(measured_rates(*self._size, repeats=3))
                self._last = None
                return
        self._last = now

    def rates(self) -> Rates:
        """Medians of the measurements."""
        columns = zip(*(astuple(probe) for probe in self._probes), strict=True)
        return Rates(*(median(column) for column in columns))


def trained(adata: Any, n_codes: int, recipe: RecipeName) -> tuple[Any, StepTimes]:
    """A model, and the times of its steps."""
    scvi.settings.seed = 0
    scmetaq.MetaQModel.setup_anndata(adata)
    model = scmetaq.MetaQModel(adata, n_codes, recipe=recipe)
    n_decoded = decoded_cells(recipe, batch_size(recipe, adata.n_obs))
    times = StepTimes(n_decoded, 2 * min(adata.n_vars, 3_000))
    epochs = EPOCHS[recipe]
    model.train(max_epochs=epochs, accelerator="cpu", callbacks=[times], enable_progress_bar=False)
    return model, times


def parts_of_a_step(
    model: Any, recipe: RecipeName, size: int, steps: list[float]
) -> dict[str, float]:
    """Seconds of each part."""
    cells = training_set(model._prepare().inputs).create_torch_dataset()
    rows = list(range(size))
    batch = {name: torch.as_tensor(values) for name, values in cells[rows].items()}
    module = MetaQTrainingPlan(copy.deepcopy(model.module)).module.train()
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        module(batch)[2].loss.backward()
        optimizer.step()

    step()
    n = decoded_cells(recipe, size)
    losses = likelihoods(module, batch, n)  # of parameters as they are after training
    found = {
        "step": median(steps),
        "bare": typical(step),
        "products": typical(products(module, size, n)),
        "optimizer": typical(optimizer.step),
        "likelihoods": typical(losses),
        "batch": typical(lambda: cells[rows]),
    }
    parts = sum(found[name] for name in ("products", "optimizer", "likelihoods"))
    found["rest"] = found["bare"] - parts
    found["framework"] = found["step"] - found["bare"] - found["batch"]
    return found


def products(module: Any, size: int, n_decoded: int) -> Callable[[], None]:
    """All linear layers of a step, forwards and backwards."""
    part, n_codes = module.parts["rna"], len(module.codebook.codes)
    n_distinct = round(n_codes * (1 - (1 - 1 / n_codes) ** n_decoded))
    nets = ((part.encoder, size), (part.decoder, n_decoded), (part.quantized_decoder, n_distinct))
    layers = [(m, n) for net, n in nets for m in net.modules() if isinstance(m, nn.Linear)]
    inputs = [torch.randn(n, layer.in_features, requires_grad=True) for layer, n in layers]
    slopes = [torch.randn(n, layer.out_features) for layer, n in layers]

    def run() -> None:
        for (layer, _), x, slope in zip(layers, inputs, slopes, strict=True):
            layer.zero_grad()
            x.grad = None
            layer(x).backward(slope)

    return run


def likelihoods(module: Any, batch: dict[str, torch.Tensor], n: int) -> Callable[[], None]:
    """Losses of cells and of their codes, with their gradients."""
    with torch.no_grad():
        decoded: CountParameters = module(batch)[1]["plain"]["rna"]
    leaves = CountParameters(*(v if v is None else v.clone().requires_grad_() for v in decoded))
    assert leaves.other is not None
    factor = batch["rna_size_factor"][:n]

    def run() -> None:
        counts = non_zero_counts(batch[f"rna_{COUNTS}"][:n])
        for _ in range(2):
            leaves.log_rate.grad = leaves.other.grad = None
            count_nll(leaves, counts, factor).mean().backward()

    return run


def typical(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median CPU seconds of a call."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return median(times)


def report(results: dict[str, Any]) -> Report:
    """Milliseconds of each part, and how fast cells are assigned."""
    parts = ("products", "optimizer", "likelihoods", "rest", "batch", "framework")
    lines = []
    for row in results["steps"]:
        times = (row[name] for name in ("step", *parts, *FLOORS.values()))
        ratio = row["step"] / row["seconds"]
        cells = [f"{1e3 * seconds:.1f}" for seconds in times]
        lines.append([row["recipe"], str(row["batch_size"]), *cells, f"{ratio:.1f}"])
    heading = ["recipe", "cells", "step", *parts, *FLOORS, "step over floor"]
    intro = (
        f"{results['machine']['cpu']}, one thread. {results['n_cells']:,} cells x "
        f"{results['n_genes']:,} genes, resampled from `{results['source']}`. Milliseconds."
    )
    after = (
        f"Assignment by the trained model: {results['cells_per_second']:,.0f} cells per CPU s. "
        f"Sums and means of their counts: {results['aggregation_seconds']:.2f} s."
    )
    return Report("\n\n".join([intro, table(heading, lines), after]))


if __name__ == "__main__":
    main()
