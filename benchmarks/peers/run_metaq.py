"""MetaQ as its authors published it (``MetaQ_sc``): random codebook, 300 epochs, batches of 512.

usage: python run_metaq.py INPUT.h5ad N_METACELLS SEED OUT.npy [--epochs 300]

Their ``run_metaq`` runs unchanged up to the assignment, where this script takes it and leaves: the
files, metrics and figures that would follow fail with current libraries and are not the method.
Around the training three things are replaced, none of which changes its numbers: the file is read
beforehand, batches are collated in this process instead of by four workers started in every epoch,
and a batch is never larger than the data, which would leave no full batch to train on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import _runner
import anndata
import MetaQ_sc.data_utils
import MetaQ_sc.main
import numpy as np
from torch.utils.data import DataLoader


class Assigned(Exception):  # noqa: N818 - the good end of a run
    """Raised in place of their first step after the assignment."""


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Entry of the codebook nearest to each cell."""
    found: list[np.ndarray] = []

    def take(cells: anndata.AnnData, ids: np.ndarray, settings: argparse.Namespace) -> None:
        found.append(ids)
        raise Assigned

    MetaQ_sc.main.compute_metacell = take
    for phase in ("warm_one_epoch", "train_one_epoch"):
        setattr(MetaQ_sc.main, phase, timed(getattr(MetaQ_sc.main, phase)))
    parts = _runner.by_modality(adata)
    MetaQ_sc.data_utils.sc.read_h5ad = lambda name: parts[name]
    MetaQ_sc.data_utils.DataLoader = in_process
    with in_scratch_folder(), contextlib.suppress(Assigned):
        MetaQ_sc.run_metaq(
            data_path=list(parts),
            data_type=[kind.upper() for kind in parts],
            save_name="run",
            metacell_num=args.n_metacells,
            codebook_init="Random",
            train_epoch=args.epochs,
            batch_size=min(512, adata.n_obs),
            random_seed=args.seed,
            device="cpu",
        )
    return found[0]


def timed(epoch: Callable[..., Any]) -> Callable[..., Any]:
    """Their epoch, with its seconds noted."""
    clock = _runner.Clock()

    def with_clock(*args: Any, **options: Any) -> Any:
        clock.start()
        losses = epoch(*args, **options)
        _runner.EPOCHS.append(clock.lap())
        return losses

    return with_clock


def in_process(**options: Any) -> DataLoader:
    """Their loader without worker processes; shuffling draws the same numbers either way."""
    return DataLoader(**{**options, "num_workers": 0, "pin_memory": False})


@contextlib.contextmanager
def in_scratch_folder() -> Iterator[None]:
    """Stay in a temporary folder, for code that writes to the current one."""
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(home)


if __name__ == "__main__":
    parser = _runner.command_line(__doc__)
    parser.add_argument("--epochs", type=int, default=300)
    _runner.run("metaq", "MetaQ_sc", assign, parser.parse_args())
