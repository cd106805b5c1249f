from typing import Any, cast

import torch
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from scmetaq.nn import (
    CONDITIONS,
    COUNTS,
    LABELS,
    PRESENT,
    ConditionalPart,
    ConditionEmbedding,
    CountParameters,
    Gaussian,
    Inputs,
    ModalityShape,
    gaussian_kl,
    gaussian_product,
    nested,
    prototype_loss,
    reconstruction_nll,
)

from ._reconstruction import added_up
from ._reference_mapping import ReferenceMappingModule


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
    dropout
        Share of hidden units that are silenced at each step of training.
    decoded_share
        Share of the cells of a training batch that are decoded, see :class:`MetaQModule`.
    """

    parts: dict[str, ConditionalPart]
    """What each modality has for itself."""

    def __init__(
        self,
        modalities: dict[str, ModalityShape],
        *,
        conditions: dict[str, int] | None = None,
        n_latent: int = 10,
        dropout: float = 0.05,
        decoded_share: float = 1.0,
    ):
        super().__init__()
        self.decoded_share = decoded_share
        self.condition_embedding = ConditionEmbedding(conditions or {})
        n_conditions = self.condition_embedding.n_dims
        parts = {
            name: ConditionalPart(
                shape, n_latent=n_latent, n_conditions=n_conditions, dropout=dropout
            )
            for name, shape in modalities.items()
        }
        self.parts = cast(Any, nn.ModuleDict(parts))

    @auto_move_data
    def read(self, counts: dict[str, Tensor], present: dict[str, Tensor], _: Tensor) -> Inputs:
        """What the encoders need, from raw counts of all features.

        Parameters
        ----------
        counts
            Raw counts ``(B, G)`` of each modality, dense or CSR tensors; empty rows for cells
            without it.
        present
            Which cells have each modality: 1 or 0, ``(B, 1)``.
        _
            Conditions of the cells, which are not needed yet.

        Returns
        -------
        Inputs of :meth:`inference`.
        """
        return self.read_parts(counts, present)

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        return {"inputs": nested(tensors, self.parts), "conditions": tensors[CONDITIONS].long()}

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

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"], "conditions": tensors[CONDITIONS].long()}

    @auto_move_data
    def generative(self, z: Tensor, conditions: Tensor) -> dict[str, CountParameters]:
        """Count distributions of each modality, decoded from latents ``(B, D)`` and conditions.

        In training the first ``decoded_share`` of the batch is decoded.
        """
        n = self.n_decoded(len(z))
        condition = self.condition_embedding(conditions[:n])  # n x E
        return {name: part.decoder(z[:n], condition) for name, part in self.parts.items()}

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
        reconstruction = {
            name: _nll(found, data[name], n, self.parts[name].missing)
            for name, found in generative_outputs.items()
        }
        total = added_up(reconstruction.values())  # n
        kl = gaussian_kl(posterior, _standard_normal(posterior))  # B
        loss = total.mean() + kl_weight * kl.mean()
        extra = {f"reconstruction_loss_{k}": v.mean() for k, v in reconstruction.items()}
        if len(extra) == 1:
            extra.clear()
        extra["kl_local"] = kl[:n].mean()
        if prototypes:
            labels = tensors[LABELS].long()  # B x L
            extra["prototype_loss"] = added_up(
                prototype_loss(posterior.mean, labels[:, level], of_level)
                for level, of_level in enumerate(prototypes)
            )
            loss = loss + eta * extra["prototype_loss"]
        return LossOutput(
            loss=loss,
            reconstruction_loss=total,
            kl_local=kl[:n],
            extra_metrics={k: v.detach() for k, v in extra.items()},
        )


def _nll(
    parameters: CountParameters,
    data: dict[str, Tensor],
    n_cells: int,
    is_missing: Tensor | None,
) -> Tensor:
    """Negative log-likelihood of the first cells, summed over the features measured, in nats.

    Zero for cells that lack the modality.
    """
    counts, n_features = data[COUNTS][:n_cells], data[COUNTS].shape[1]
    library = counts.sum(1, keepdim=True).clamp_min(1)  # B x 1
    if is_missing is not None:  # shares are those among the others
        n_features -= int(is_missing.sum())
        measured = parameters.log_rate.masked_fill(is_missing, -torch.inf)
        log_rate = parameters.log_rate - measured.logsumexp(1, keepdim=True)
        parameters = parameters._replace(log_rate=log_rate)
    nll = n_features * reconstruction_nll(parameters, counts, library, is_missing=is_missing)  # B
    return nll * data[PRESENT][:n_cells, 0]


def _standard_normal(like: Gaussian) -> Gaussian:
    zero = torch.zeros_like(like.mean)
    return Gaussian(zero, zero)
