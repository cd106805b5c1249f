from typing import Any, cast

import torch
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from scmetaq.nn import (
    Channel,
    ChannelName,
    CountParameters,
    Gaussian,
    GaussianMixture,
    ModalityShape,
)
from scmetaq.nn._gaussian import GaussianHead, gaussian_kl
from scmetaq.nn._inputs import Inputs, nested
from scmetaq.nn._layers import hidden_layers

from ._base import ModalityModule, total


class CoemModule(ModalityModule):
    r"""Variational autoencoder of several modalities of the same cells.

    Letters: ``B`` cells of a batch, ``G`` features of a modality, ``M`` selected ones, ``H`` hidden
    units, ``D`` dimensions of the joint latent ``z``.

    Parameters
    ----------
    modalities
        Sizes and count distribution of each modality by its name.
    channels
        What the channels of each modality are made of.
    n_latent
        Dimension of the latent.
    n_hidden
        Hidden units of each channel.
    n_components
        Components of the prior.
    consistency_weight
        Weight of the divergences between the joint posterior and those of one modality.
    decoded_share
        Share of the cells of a training batch that are decoded, see :class:`MetaQModule`.
    """

    parts: dict[str, Channel]
    """Networks and features of each modality."""

    def __init__(
        self,
        modalities: dict[str, ModalityShape],
        channels: dict[str, ChannelName],
        *,
        n_latent: int = 20,
        n_hidden: int = 128,
        n_components: int = 20,
        consistency_weight: float = 0.1,
        decoded_share: float = 1.0,
    ):
        super().__init__()
        self.decoded_share = decoded_share
        self.consistency_weight = consistency_weight
        parts = {
            name: Channel(shape, channels[name], n_hidden=n_hidden, n_latent=n_latent)
            for name, shape in modalities.items()
        }
        self.parts = cast(Any, nn.ModuleDict(parts))
        self.joint = hidden_layers([n_hidden * len(parts), n_hidden])
        n_read = sum(part.n_read for part in parts.values())
        self.posterior = GaussianHead(n_hidden + n_read, n_latent)
        self.prior = GaussianMixture(n_components, n_latent)

    def set_weights(self, weights: dict[str, float]) -> None:
        """Set the shares of the modalities in the variance of what is read; multiples are equal."""
        mean = sum(weights.values()) / len(weights)
        for name, part in self.parts.items():
            part.scale.fill_((weights[name] / mean) ** 0.5)

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Inputs]:
        return {"inputs": nested(tensors, self.parts)}

    @auto_move_data
    def inference(self, inputs: Inputs, conditions: Tensor | None = None) -> dict[str, Any]:
        """Posteriors of cells.

        Parameters
        ----------
        inputs
            Output of :meth:`read`.
        conditions
            Ignored: this model knows none.

        Returns
        -------
        ``joint``, the posterior by all modalities; ``alone``, that by each of them; ``z``
        ``(B, D)``, a draw of the joint posterior in training and its mean otherwise.
        """
        read = {name: part.components(inputs[name]) for name, part in self.parts.items()}
        hidden = {name: part.encoder(read[name]) for name, part in self.parts.items()}  # B x H
        of_all = self.joint(torch.cat(list(hidden.values()), 1))  # B x H
        # components are concatenated with hidden units: layers need not learn what is linear
        joint = self.posterior(torch.cat([of_all, *read.values()], 1))
        return {
            "joint": joint,
            "alone": {k: part.alone(hidden[k], read[k]) for k, part in self.parts.items()},
            "z": joint.sample() if self.training else joint.mean,
        }

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"]}

    @auto_move_data
    def generative(self, z: Tensor) -> dict[str, CountParameters]:
        """Count distributions of each modality decoded from latents ``(B, D)``.

        In training the first ``decoded_share`` of the batch is decoded.
        """
        n = self.n_decoded(len(z))
        return {name: part.decode(z[:n]) for name, part in self.parts.items()}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, CountParameters],
        kl_weight: float = 1.0,
    ) -> LossOutput:
        r"""Objective of a batch, in nats per cell.

        .. math::
            L = -\sum_m \log p(x_m | z) + \beta\, KL(q(z | x) \| p(z))
            + \alpha \beta \sum_m KL(q(z | x) \| q(z | x_m))

        with :math:`\beta` the ``kl_weight`` and :math:`\alpha` the ``consistency_weight``.
        """
        data = nested(tensors, self.parts)
        joint: Gaussian = inference_outputs["joint"]
        n = self.n_decoded(len(joint.mean))
        by_modality = self.summed_nll(generative_outputs, data)
        reconstruction = total(by_modality.values())  # n
        kl = self.prior(joint)  # B
        alone = inference_outputs["alone"].values()
        consistency = total(gaussian_kl(joint, by_one) for by_one in alone)  # B
        divergence = kl.mean() + self.consistency_weight * consistency.mean()
        extra = {f"reconstruction_loss_{k}": v.mean() for k, v in by_modality.items()}
        extra["consistency_loss"] = consistency.mean()
        return LossOutput(
            loss=reconstruction.mean() + kl_weight * divergence,
            reconstruction_loss=reconstruction,
            kl_local=kl[:n],
            extra_metrics={k: v.detach() for k, v in extra.items()},
        )
