from typing import Any

from torch import Tensor

from scmetaq.module import SCPoliModule

from ._annealed_plan import AnnealedTrainingPlan


class SCPoliTrainingPlan(AnnealedTrainingPlan):
    """Training of a :class:`~scmetaq.module.SCPoliModule`.

    Logs what :class:`AnnealedTrainingPlan` does and, once there are prototypes, their loss.

    Parameters
    ----------
    module
        The module to train.
    eta
        Weight of the prototype loss.
    **kwargs
        Arguments of :class:`AnnealedTrainingPlan`, among them ``kl_warmup_fraction`` and
        ``max_kl_weight``.
    """

    def __init__(self, module: SCPoliModule, *, eta: float = 1.0, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.loss_kwargs["eta"] = eta

    def set_prototypes(self, prototypes: list[Tensor]) -> None:
        """Hold cells to these prototypes from now on, ``(n_labels, n_latent)`` for each level."""
        self.loss_kwargs["prototypes"] = prototypes
