from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

_WATCHED = ("quantized_loss_train", "codebook_loss_train")


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
        self._last: list[float] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the losses of this epoch with those of the one before."""
        metrics = trainer.callback_metrics
        if not all(name in metrics for name in _WATCHED):
            return
        now = [float(metrics[name]) for name in _WATCHED]
        if self._last is not None:
            moved = max(abs(a - b) for a, b in zip(now, self._last, strict=True))
            self.n_calm = self.n_calm + 1 if moved < self.tolerance else 0
        self._last = now
        if self.n_calm >= self.patience:
            trainer.should_stop = True
