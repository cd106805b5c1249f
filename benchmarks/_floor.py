"""The least time that a training step can take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch

from scmetaq.data._reference import MAX_REFERENCE_CELLS
from scmetaq.model._recipe import RecipeName, get_recipe
from scmetaq.model._training import default_batch_size
from scmetaq.module import MetaQModule
from scmetaq.nn import ModalityShape

_REPEATS = 12
_N_HIDDEN = 512


@dataclass(frozen=True)
class Rates:
    """What the machine can do: operations and bytes per second."""

    float32: float
    bfloat16: float
    bytes: float


def n_trained(name: RecipeName, n_cells: int) -> int:
    """Cells that a recipe trains on."""
    return n_cells if get_recipe(name).max_steps is None else min(n_cells, MAX_REFERENCE_CELLS)


def batch_size(name: RecipeName, n_cells: int) -> int:
    """Cells of a batch of a training on ``n_cells``."""
    size = get_recipe(name).batch_size
    return size if name == "published" else default_batch_size(size, n_trained(name, n_cells))


def decoded_cells(name: RecipeName, batch: int) -> int:
    """Cells of a batch that are decoded."""
    return ceil(batch * get_recipe(name).decoded_share)


def floor_of_a_step(
    name: RecipeName,
    n_genes: int,
    n_codes: int,
    batch: int,
    rates: Rates | None = None,
    *,
    mean: bool = True,
) -> dict[str, float]:
    """Multiply-adds and bytes of a training step of a recipe, and their time.

    Counted is what the mathematics needs, nothing of how it is done: products of the network
    forwards, and backwards for weights and inputs; the decoder of codes once per distinct code of
    a batch and only after the warm-up; parameters, gradients and moments of AdamW read and written
    once per step, and decoded parameters and their gradients written and read once. Products and
    memory traffic are taken to overlap, so that the floor is the larger of the two. In bfloat16
    only products change: parameters and likelihoods stay in single precision.

    The mean over a training with its warm-up, or, without ``mean``, a step that has codes. Rates
    are measured unless given.
    """
    recipe = get_recipe(name)
    n_selected = min(n_genes, 3_000)
    shape = ModalityShape(n_selected, n_components=recipe.n_components)
    module = MetaQModule({"rna": shape}, n_codes)
    part = module.parts["rna"]
    n_decoded = decoded_cells(name, batch)
    n_distinct = n_codes * (1 - (1 - 1 / n_codes) ** n_decoded)
    with_codes = 1 - recipe.warmup_fraction if mean else 1.0
    encoder = batch * multiply_adds(part.encoder, input_learns=False)
    plain = n_decoded * multiply_adds(part.decoder, input_learns=True)
    quantized = n_distinct * multiply_adds(part.quantized_decoder, input_learns=False)
    lookup = batch * module.codebook.codes.numel()
    n_multiply_adds = encoder + plain + with_codes * (quantized + lookup)
    always = n_parameters(part.encoder) + n_parameters(part.decoder)
    learnt = always + with_codes * n_parameters(part.quantized_decoder)
    decoded = 2 * n_selected * n_decoded * (1 + with_codes)
    n_bytes = 4 * (8 * learnt + 4 * decoded)
    rates = rates or measured_rates(n_decoded, 2 * n_selected)
    products, memory = 2 * n_multiply_adds / rates.float32, n_bytes / rates.bytes
    return {
        "multiply_adds": n_multiply_adds,
        "bytes": n_bytes,
        "gflops": rates.float32 / 1e9,
        "bfloat16_gflops": rates.bfloat16 / 1e9,
        "gb_per_s": rates.bytes / 1e9,
        "product_seconds": products,
        "memory_seconds": memory,
        "seconds": max(products, memory),
        "bfloat16_seconds": max(2 * n_multiply_adds / rates.bfloat16, memory),
    }


def measured_rates(n_cells: int, n_outputs: int, repeats: int = _REPEATS) -> Rates:
    """Best rates of the largest product of a step, and of memory."""
    single, half = (
        product_rate(n_cells, _N_HIDDEN, n_outputs, dtype, repeats)
        for dtype in (torch.float32, torch.bfloat16)
    )
    return Rates(single, half, memory_bandwidth(repeats))


def multiply_adds(network: torch.nn.Module, *, input_learns: bool) -> float:
    """Of one cell through the linear layers of a network, forwards and backwards."""
    sizes = [m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear)]
    return 3 * sum(sizes) - (0 if input_learns else sizes[0])


def n_parameters(module: torch.nn.Module) -> int:
    """Number of learnt numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def product_rate(n: int, k: int, m: int, dtype: torch.dtype, repeats: int) -> float:
    """Best rate of products of this shape, in operations per second."""
    a, b = torch.randn(n, k, dtype=dtype), torch.randn(m, k, dtype=dtype)
    return 2 * n * k * m / best_time(lambda: torch.nn.functional.linear(a, b), repeats)


def memory_bandwidth(repeats: int) -> float:
    """Best rate of reading and writing, in bytes per second, of a copy larger than caches."""
    source, target = torch.ones(1 << 26), torch.empty(1 << 26)
    return 2 * 4 * source.numel() / best_time(lambda: target.copy_(source), repeats)


def best_time(function: Callable[[], object], repeats: int) -> float:
    """Shortest of a few runs, in CPU seconds of this one thread, as runs are timed."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)
