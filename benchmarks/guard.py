"""Fail when a training step does more work than it used to: counts that no noisy clock can hide.

usage: python benchmarks/guard.py [--update]

Counted on the demo data, with a fixed seed, per step of the default recipe with codes: operations
sent to the device (its kernel launches), numbers put through torch's log-gamma and digamma, values
that the host waits for, and bytes allocated; once as a step is done on a CPU, where a look at the
values saves work, and once as on a GPU, where it would cost a wait. Each count is compared with
``results/guard.json``; ``--update`` writes the present ones there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any, Final
from unittest import mock

import scvi
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import scmetaq
from scmetaq.data._training_set import training_set
from scmetaq.train import MetaQTrainingPlan

STORED: Final = Path(__file__).parent / "results" / "guard.json"
TOLERANCE: Final = 0.02
"""Share by which a count may grow: libraries change theirs a little."""
GAMMA: Final = ("aten.lgamma", "aten.digamma")
WAITS: Final = ("aten._local_scalar_dense", "aten.nonzero", "aten.unique", "aten._unique2")
BATCH: Final = 64
MODULE: Final = "scmetaq.module._metaq"


def main() -> int:
    """Count, compare, and say what grew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="keep the present counts")
    found = counts()
    with mock.patch("scmetaq.nn._inputs.on_cpu", no), mock.patch(f"{MODULE}.on_cpu", no):
        found |= {f"{name}_of_a_gpu": n for name, n in counts().items()}
    if parser.parse_args().update:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    kept = json.loads(STORED.read_text())
    grown = {name: n for name, n in found.items() if n > kept[name] * (1 + TOLERANCE)}
    for name, n in found.items():
        print(f"{name:29} {n:>12,} (was {kept[name]:,}){'  GREW' if name in grown else ''}")
    return 1 if grown else 0


def no(values: torch.Tensor) -> bool:
    """Whether values are in the host's memory, as a GPU has it."""
    return False


def counts() -> dict[str, int]:
    """Work of one training step."""
    module, batch = one_batch()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], fused=True)

    def step() -> None:
        optimizer.zero_grad()
        module(batch)[2].loss.backward()
        optimizer.step()

    step()  # the optimiser makes its moments
    with CountCalls() as calls:
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profiled.events())
    return {
        "operations": calls.n.total(),
        "gamma_numbers": sum(calls.numbers[name] for name in GAMMA),
        "waits_of_the_host": sum(calls.n[name] for name in WAITS),
        "bytes_allocated": allocated,
    }


def one_batch() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A module whose codebook is there, and a batch of its training set."""
    scvi.settings.seed = 0
    adata = scmetaq.data.demo()
    scmetaq.MetaQModel.setup_anndata(adata)
    model = scmetaq.MetaQModel(adata, n_metacells=40)
    prepared = model._prepare()
    model.module.learn_decoders()
    module = MetaQTrainingPlan(model.module).module.train()
    cells = training_set(prepared.inputs).create_torch_dataset()[list(range(BATCH))]
    return module, {name: torch.as_tensor(values) for name, values in cells.items()}


class CountCalls(TorchDispatchMode):
    """Counts calls of every operation, and the numbers that they return."""

    def __init__(self) -> None:
        super().__init__()
        self.n: Counter[str] = Counter()
        self.numbers: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Count the call and make it."""
        out = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket)
        self.n[name] += 1
        self.numbers[name] += out.numel() if isinstance(out, torch.Tensor) else 0
        return out


if __name__ == "__main__":
    raise SystemExit(main())
