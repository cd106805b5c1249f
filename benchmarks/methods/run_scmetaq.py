"""scmetaq, by its default recipe or by the one its method was published with.

usage: python run_scmetaq.py INPUT.h5ad N_METACELLS SEED OUT.npy [--recipe published]
    [--epochs N] [--evenness 0]
"""

from __future__ import annotations

import argparse
from typing import Any

import _shared
import anndata
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import scvi

import scmetaq


class EpochTimes(pl.Callback):
    """Notes the seconds of every epoch, with the loading of its batches and its logging.

    The step in which codes are fitted is left out, and counted like the others of its epoch.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first step begins."""
        self.clock, self.steps, self.had_codes = _shared.Clock(), [], False
        self.clock.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """A step ends."""
        seconds, has_codes = self.clock.lap(), pl_module.module.codebook.is_fitted
        if has_codes == self.had_codes:
            self.steps.append(seconds)
        self.had_codes = has_codes

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch ends."""
        if self.steps:
            _shared.EPOCHS.append(np.mean(self.steps) * trainer.num_training_batches)
        self.steps = []


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell."""
    scvi.settings.seed = args.seed
    scmetaq.MetaQModel.setup_anndata(adata, batch_key=args.batch_key)
    model = scmetaq.MetaQModel(
        adata, n_metacells=args.n_metacells, recipe=args.recipe, evenness=args.evenness
    )
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    model.train(max_epochs=args.epochs, callbacks=[EpochTimes()], **options)
    return pd.factorize(model.get_assignments()["metacell"], sort=True)[0]


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--recipe", choices=["default", "published"], default="default")
    parser.add_argument("--batch-key", help="condition to correct for; by default none")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--evenness", type=float, default=0.2)
    args = parser.parse_args()
    name = "scmetaq" if args.recipe == "default" else "scmetaq-published"
    _shared.run(name, "scmetaq", assign, args)
