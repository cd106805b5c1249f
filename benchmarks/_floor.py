"""The least time that a training step can take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from scmetaq.model._recipe import RecipeName, get_recipe
from scmetaq.module import MetaQModule
from scmetaq.nn import ModalityShape

_REPEATS = 12


def floor_of_a_step(name: RecipeName, n_genes: int, n_codes: int) -> dict[str, float]:
    """Multiply-adds and bytes of a mean training step of a recipe, and their time.

    Counted is what the mathematics needs, nothing of how it is done: products of the network
    forwards, and backwards for weights and inputs; the decoder of codes once per distinct code of
    a batch and only after the warm-up; parameters, gradients and moments of AdamW read and written
    once per step, and decoded parameters and their gradients written and read once. Products and
    memory traffic are taken to overlap, so that the floor is the larger of the two.
    """
    recipe = get_recipe(name)
    batch = recipe.batch_size
    n_selected = min(n_genes, 3_000)
    module = MetaQModule({"rna": ModalityShape(n_selected)}, n_codes)
    part = module.parts["rna"]
    n_decoded = int(batch * recipe.decoded_share)
    n_distinct = n_codes * (1 - (1 - 1 / n_codes) ** n_decoded)
    with_codes = 1 - recipe.warmup_fraction
    encoder = batch * multiply_adds(part.encoder, input_learns=False)
    plain = n_decoded * multiply_adds(part.decoder, input_learns=True)
    quantized = n_distinct * multiply_adds(part.quantized_decoder, input_learns=False)
    lookup = batch * module.codebook.codes.numel()
    n_multiply_adds = encoder + plain + with_codes * (quantized + lookup)
    always = n_parameters(part.encoder) + n_parameters(part.decoder)
    learnt = always + with_codes * n_parameters(part.quantized_decoder)
    decoded = 2 * n_selected * n_decoded * (1 + with_codes)
    n_bytes = 4 * (8 * learnt + 4 * decoded)
    rate, bandwidth = product_rate(n_decoded, 512, 2 * n_selected), memory_bandwidth()
    return {
        "multiply_adds": n_multiply_adds,
        "bytes": n_bytes,
        "gflops": rate / 1e9,
        "gb_per_s": bandwidth / 1e9,
        "product_seconds": 2 * n_multiply_adds / rate,
        "memory_seconds": n_bytes / bandwidth,
        "seconds": max(2 * n_multiply_adds / rate, n_bytes / bandwidth),
    }


def multiply_adds(network: torch.nn.Module, *, input_learns: bool) -> float:
    """Of one cell through the linear layers of a network, forwards and backwards."""
    sizes = [m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear)]
    return 3 * sum(sizes) - (0 if input_learns else sizes[0])


def n_parameters(module: torch.nn.Module) -> int:
    """Number of learnt numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def product_rate(n: int, k: int, m: int) -> float:
    """Best rate of single-precision products of this shape, in operations per second."""
    a, b = torch.randn(n, k), torch.randn(m, k)
    return 2 * n * k * m / best_time(lambda: torch.nn.functional.linear(a, b))


def memory_bandwidth() -> float:
    """Best rate of reading and writing, in bytes per second, of a copy larger than caches."""
    source, target = torch.ones(1 << 26), torch.empty(1 << 26)
    return 2 * 4 * source.numel() / best_time(lambda: target.copy_(source))


def best_time(function: Callable[[], object]) -> float:
    """Shortest of a few runs, in CPU seconds of this one thread, as runs are timed."""
    times = []
    for _ in range(_REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)
