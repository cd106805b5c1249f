"""Cells encoded block by block, in this process or on the workers of dask."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from scmetaq._parallel import in_parts
from scmetaq.data._cells import SPAN, Cells
from scmetaq.data._training_set import csr_tensor
from scmetaq.nn._inputs import EMBEDDING, LABELS, SIZES, Inputs

BLOCK = 1_024
"""Cells per pass of the encoder. Fixed, and the last block padded, so that a cell's result
does not depend on how many cells come with it."""


class Block(NamedTuple):
    """A block of cells as the module takes them."""

    inputs: Inputs
    """What it reads of them."""
    counts: dict[str, torch.Tensor]
    """Their raw counts by kind."""
    conditions: torch.Tensor


Function = Callable[[Any, Block], dict[str, torch.Tensor]]
"""What a module finds of a block of cells, by name, each ``(n_cells, any)``."""


def in_blocks(module: Any, function: Function, cells: Cells) -> dict[str, np.ndarray]:
    """Apply a function block by block, in evaluation mode, and join what it returns."""
    was_training = module.training
    module.eval()
    found: dict[str, np.ndarray] = {}
    starts = range(0, cells.n_cells, SPAN)
    places = [slice(start, min(start + SPAN, cells.n_cells)) for start in starts]
    spans = (cells.only(np.arange(of.start, of.stop)) for of in places)
    options: dict[str, Any] = {"n_parts": len(places), "shown_as": "Encoding cells"}
    options["is_local"] = module.device.type != "cpu"
    results = in_parts(_of_span, (module, function), spans, **options)
    for chosen, result in zip(places, results, strict=True):
        for name, rows in result.items():
            if name not in found:
                found[name] = np.empty((cells.n_cells, *rows.shape[1:]), rows.dtype)
            found[name][chosen] = rows
    module.train(was_training)
    return found


@torch.inference_mode()
def _of_span(shared: tuple[Any, Function], cells: Cells) -> dict[str, np.ndarray]:
    """Apply a function to each block of a span, and join what it returns."""
    module, function = shared
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, cells.n_cells, BLOCK):
        chosen = slice(start, min(start + BLOCK, cells.n_cells))
        for name, values in function(module, _read(module, cells, chosen)).items():
            rows = values[: chosen.stop - start].cpu().numpy()
            found.setdefault(name, []).append(rows)
    return {name: np.concatenate(rows) for name, rows in found.items()}


def _read(module: Any, cells: Cells, chosen: slice) -> Block:
    """At most a block of cells, padded to a block."""
    counts, present, device = {}, {}, module.device
    for kind, of_kind in cells.counts.items():
        rows = csr_tensor(of_kind.of(chosen), BLOCK)
        # MPS knows no sparse matrices
        counts[kind] = (rows.to_dense() if device.type == "mps" else rows).to(device)
        is_present = of_kind.is_present[chosen].astype(np.float32)[:, None]
        present[kind] = _padded(is_present).to(device)
    conditions = _padded(cells.conditions[chosen]).to(device)
    given = {name: _padded(of[chosen]).to(device) for name, of in given_of(cells).items()}
    inputs = module.read(counts, present, conditions, sizes=given.get(SIZES))
    inputs = {kind: of_kind | given for kind, of_kind in inputs.items()}
    return Block(inputs, counts, conditions)


def half_latents(module: Any, cells: Cells) -> torch.Tensor:
    """Latents in half precision: those of many cells are kept in memory."""

    def encode(module: Any, block: Block) -> dict[str, torch.Tensor]:
        return {"z": module.inference(block.inputs, block.conditions)["z"].half()}

    return torch.from_numpy(in_blocks(module, encode, cells)["z"]).to(module.device)


def given_of(cells: Cells) -> dict[str, np.ndarray]:
    """Inputs that cells bring besides their counts, by name, each ``(n_cells, any)``."""
    every = {EMBEDDING: cells.embedding, LABELS: cells.labels, SIZES: cells.sizes}
    return {name: values for name, values in every.items() if values is not None}


def _padded(rows: np.ndarray) -> torch.Tensor:
    """Rows of a block, and rows of zeros up to its size."""
    return torch.from_numpy(np.pad(rows, ((0, BLOCK - len(rows)), (0, 0))))
