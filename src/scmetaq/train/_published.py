"""What only the published method does in training: it disturbs codes and has a stop rule."""

from typing import Final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from scmetaq.nn import Codebook

USAGE_MOMENTUM: Final = 0.9
r""":math:`\eta` of the moving average of code usage (Eq. 11)."""


@torch.no_grad()
def update_usage(codebook: Codebook, assignment: Tensor) -> None:
    """Move the average share of cells of each code towards this batch's (Eq. 11)."""
    share = codebook.count_cells(assignment) / len(assignment)
    codebook.usage.lerp_(share, 1 - USAGE_MOMENTUM)


@torch.no_grad()
def adjust_small(codebook: Codebook, z: Tensor) -> None:
    r"""Pull hardly used codes towards cells that no code serves well (Eq. 12, 13).

    Cell ``i`` is drawn with probability proportional to
    :math:`\max_j \mathrm{softmax}_j(1 - s_{ij})`, code ``k`` moves towards its draw by
    :math:`\beta = \exp(-100\,U_k K - \epsilon)`.
    """
    need = (1 - codebook.similarity(z)).softmax(dim=1).amax(dim=1)  # B
    drawn = z[torch.multinomial(need, codebook.n_codes, replacement=True)]  # K x D
    step = torch.exp(-100 * codebook.usage * codebook.n_codes - 1e-3)  # K
    codebook.codes.lerp_(drawn.to(codebook.codes), step[:, None])


@torch.no_grad()
def adjust_large(codebook: Codebook, z: Tensor) -> None:
    r"""Push crowded codes towards cells of middling similarity (Eq. 14, 15).

    :math:`\beta = \exp(-10\,\bar U / U_k - \epsilon)` with the mean usage for the paper's
    misprinted factor, and only once the moving average has filled up.
    """
    usage, similarity = codebook.usage, codebook.similarity(z)  # K, B x K
    has_filled_up = usage.sum() + 1e-4 >= 1  # stays on the device
    middle = similarity.median(dim=0).values  # K
    weight = (-(similarity - middle).abs()).softmax(dim=0)  # B x K
    drawn = z[torch.multinomial(weight.T, 1).squeeze(1)]  # K x D
    step = torch.exp(-10 * usage.mean() / usage.clamp_min(1e-12) - 1e-3)  # K
    codebook.codes.lerp_(drawn.to(codebook.codes), (step * has_filled_up)[:, None])


class StopRule(Callback):
    """Stops training when the codes have settled: the paper's stop rule.

    Parameters
    ----------
    patience
        Number of epochs in a row in which both the quantized reconstruction loss and the
        codebook loss move by less than ``tolerance``.
    tolerance
        See ``patience``; in units of the losses.
    """

    def __init__(self, patience: int = 10, tolerance: float = 1e-5):
        self.patience = patience
        self.tolerance = tolerance
        self.n_calm = 0
        self._last: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the losses of this epoch with those of the one before."""
        metrics = trainer.callback_metrics
        if "quantized_loss_train" not in metrics:  # there are no codes yet
            return
        now = [float(metrics[f"{name}_loss_train"]) for name in ("quantized", "codebook")]
        moves = [abs(a - b) for a, b in zip(now, self._last, strict=False)]
        self.n_calm = self.n_calm + 1 if moves and max(moves) < self.tolerance else 0
        self._last = now
        if self.n_calm >= self.patience:
            trainer.should_stop = True
