from typing import Any, cast

from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from scmetaq.nn import (
    ConditionalPart,
    ConditionEmbedding,
    CountParameters,
    ModalityShape,
    prototype_loss,
)
from scmetaq.nn._gaussian import gaussian_kl, gaussian_product
from scmetaq.nn._inputs import LABELS, PRESENT, Inputs, nested

from ._base import ReferenceMappingModule, total


class SCPoliModule(ReferenceMappingModule):
    r"""Variational autoencoder that knows the conditions of cells, with prototypes of labels.

    Letters: ``B`` cells of a batch, ``G`` features of a modality, ``M`` selected ones, ``D``
    dimensions of the latent ``z``, ``L`` levels of labels.

    Parameters
    ----------
    modalities
        Sizes and count distribution of each modality by its name.
    conditions
        Number of categories of each condition key. Their embeddings join the input of the first
        layer of every encoder and decoder.
    n_latent
        Dimension of the latent.
    n_embedding
        Dimension of the embedding of each condition.
    n_hidden, n_layers
        Width and number of hidden layers; by default one, of the square root of the number of
        features that a modality reads.
    dropout
        Share of hidden units that are silenced at each step of training.
    decoded_share
        Share of the cells of a training batch that are decoded, see :class:`MetaQModule`.
    """

    parts: dict[str, ConditionalPart]
    """Networks and features of each modality."""

    def __init__(
        self,
        modalities: dict[str, ModalityShape],
        *,
        conditions: dict[str, int] | None = None,
        n_latent: int = 10,
        n_embedding: int = 10,
        n_hidden: int | None = None,
        n_layers: int = 1,
        dropout: float = 0.05,
        decoded_share: float = 1.0,
    ):
        super().__init__()
        self.decoded_share = decoded_share
        self.condition_embedding = ConditionEmbedding(conditions or {}, n_embedding)
        n_conditions = self.condition_embedding.n_dims
        parts = {
            name: ConditionalPart(
                shape,
                n_latent=n_latent,
                n_conditions=n_conditions,
                n_hidden=n_hidden,
                n_layers=n_layers,
                dropout=dropout,
            )
            for name, shape in modalities.items()
        }
        self.parts = cast(Any, nn.ModuleDict(parts))

    @auto_move_data
    def inference(self, inputs: Inputs, conditions: Tensor) -> dict[str, Any]:
        """Posteriors of cells: the product of those by the modalities that a cell has.

        Parameters
        ----------
        inputs
            Output of :meth:`read`.
        conditions
            Category of each condition key, ``(B, n_keys)`` int64.

        Returns
        -------
        ``posterior``, and ``z`` ``(B, D)``, a draw of it in training and its mean otherwise.
        """
        condition = self.condition_embedding(conditions)  # B x E
        experts = [part.encode(inputs[name], condition) for name, part in self.parts.items()]
        posterior = gaussian_product(experts, [inputs[name][PRESENT] for name in self.parts])
        z = posterior.sample() if self.training else posterior.mean
        return {"posterior": posterior, "z": z}

    @auto_move_data
    def generative(self, z: Tensor, conditions: Tensor) -> dict[str, CountParameters]:
        """Count distributions of each modality, decoded from latents ``(B, D)`` and conditions.

        In training the first ``decoded_share`` of the batch is decoded.
        """
        n = self.n_decoded(len(z))
        return self.decode(z[:n], conditions[:n])

    def decode(self, z: Tensor, conditions: Tensor) -> dict[str, CountParameters]:
        """Count distributions of each modality decoded from latents ``(B, D)``."""
        condition = self.condition_embedding(conditions)  # B x E
        return {name: part.decode(z, condition) for name, part in self.parts.items()}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, CountParameters],
        kl_weight: float = 1.0,
        eta: float = 1.0,
        prototypes: list[Tensor] | None = None,
    ) -> LossOutput:
        r"""Objective of a batch, in nats per cell.

        .. math::
            L = -\sum_m \log p(x_m | z, s) + \beta\, KL(q(z | x, s) \| N(0, 1))
            + \eta \sum_l L^{(l)}_\mathrm{prototype}

        with :math:`\beta` the ``kl_weight``, over modalities :math:`m` and levels :math:`l` of
        labels. The last term is there where prototypes are given, ``(n_labels, D)`` for each level;
        it holds the means of the posteriors, not draws.
        """
        data, posterior = nested(tensors, self.parts), inference_outputs["posterior"]
        n = self.n_decoded(len(posterior.mean))
        by_modality = self.summed_nll(generative_outputs, data)
        reconstruction = total(by_modality.values())  # n
        kl = gaussian_kl(posterior, posterior.standard())  # B
        loss = reconstruction.mean() + kl_weight * kl.mean()
        extra = {f"reconstruction_loss_{k}": v.mean() for k, v in by_modality.items()}
        if len(extra) == 1:
            extra.clear()
        if prototypes:
            labels = tensors[LABELS].long()  # B x L
            extra["prototype_loss"] = total(
                prototype_loss(posterior.mean, labels[:, level], of_level)
                for level, of_level in enumerate(prototypes)
            )
            loss = loss + eta * extra["prototype_loss"]
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=kl[:n],
            extra_metrics={k: v.detach() for k, v in extra.items()},
        )
