import math
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from scmetaq.nn import (
    Codebook,
    ConditionEmbedding,
    CountParameters,
    Distance,
    MixtureCorrection,
    ModalityPart,
    ModalityShape,
    Norm,
    codebook_loss,
    with_condition,
)
from scmetaq.nn._inputs import COUNTS, EMBEDDING, LABELS, PRESENT, Inputs, nested, on_cpu
from scmetaq.nn._likelihoods import non_zero_counts

from ._base import ReferenceMappingModule, total
from ._imputation import CrossModalImputation

MAX_CLUSTERS = 100
"""Most clusters in which effects of conditions are estimated."""
_LINEAR = ("scores", "profile")


class MetaQModule(ReferenceMappingModule):
    r"""Quantising autoencoder of the counts of one or several modalities.

    Letters: ``B`` cells of a batch, ``G`` features of a modality, ``M`` selected ones,
    ``D`` dimensions of the joint latent ``z``, ``K`` codes.

    Parameters
    ----------
    modalities
        Sizes and count distribution of each modality by its name.
    n_codes
        Number of codes, ``K``.
    conditions
        Number of categories of each condition key. Their effects are subtracted before cells are
        encoded, and the decoders read their embeddings.
    n_latent
        Dimension of the learnt state of each modality.
    n_embedding
        Dimension of a latent that is given in place of a learnt one; 0: it is learnt.
    weights
        Weight of each modality in the joint latent: its share of the squared distances between
        cells. By default all have the same; multiples of one set of weights are the same.
    norm
        Normalisation of hidden layers.
    distance
        Similarity of cells and codes.
    n_labels
        Number of labels that cells are grouped by, which have dimensions at the end of the latent.
    """

    parts: dict[str, ModalityPart]
    """Networks and features of each modality."""
    embedding_scale: Tensor
    """Factor that gives an embedding a total variance of one, as a learnt latent has."""
    label_scale: Tensor
    """Factor of the probabilities of labels in the latent."""
    prototypes: Any
    """Prototypes of labels; the first are of those that cells are grouped by."""

    def __init__(
        self,
        modalities: dict[str, ModalityShape],
        n_codes: int,
        *,
        conditions: dict[str, int] | None = None,
        n_latent: int = 32,
        n_embedding: int = 0,
        weights: dict[str, float] | None = None,
        norm: Norm = "layer",
        distance: Distance = "euclidean",
        n_labels: int = 0,
    ):
        super().__init__()
        self.norm, self.n_labels = norm, n_labels
        if n_labels:
            self.register_buffer("label_scale", torch.zeros(()))
        ends = [0]
        for shape in modalities.values():
            ends.append(ends[-1] + n_latent + shape.n_components)
        blocks = [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]
        if n_embedding:
            n_latent, ends = n_embedding, [n_embedding]
            blocks = [slice(0, n_embedding)] * len(modalities)
            self.register_buffer("embedding_scale", torch.ones(()))
        n_scores = 2 * sum(shape.n_scores for shape in modalities.values())
        self.condition_embedding = ConditionEmbedding(conditions or {})
        parts = {
            name: ModalityPart(
                shape,
                columns=columns,
                n_joint=ends[-1] + n_labels,
                n_latent=n_latent,
                n_read=n_scores,
                n_conditions=self.condition_embedding.n_dims,
                norm=norm,
                encodes=not n_embedding,
            )
            for (name, shape), columns in zip(modalities.items(), blocks, strict=True)
        }
        self.parts = cast(Any, nn.ModuleDict(parts))
        self.set_weights(weights or dict.fromkeys(modalities, 1.0))
        self.imputation = CrossModalImputation(modalities)
        self.correction = None
        if conditions and all(shape.n_components for shape in modalities.values()):
            n_dims = n_scores + sum(shape.n_components for shape in modalities.values())
            n_clusters, n_categories = min(n_codes, MAX_CLUSTERS), list(conditions.values())
            self.correction = MixtureCorrection(n_clusters, n_categories, n_dims)
        self.codebook = Codebook(n_codes, ends[-1] + n_labels, distance=distance)

    @property
    def state_dimensions(self) -> Tensor:
        """Dimensions of the latent that are learnt states, with little noise in them."""
        parts = [(of.columns.start, of.n_latent) for of in self.parts.values()]
        found = {start + i: None for start, n_states in parts for i in range(n_states)}
        return torch.tensor(list(found), device=self.device)

    def grown_parts(self) -> dict[str, Any]:
        """Parts with rows for conditions."""
        parts: dict[str, Any] = {"condition_embedding": self.condition_embedding}
        return parts if self.correction is None else {**parts, "correction": self.correction}

    def learn_decoders(self) -> None:
        """Let the decoders of cells learn, and nothing else: all other parts are fitted."""
        self.requires_grad_(False)
        for part in self.parts.values():
            part.decoder.requires_grad_(True)

    @torch.no_grad()
    def set_weights(self, weights: dict[str, float]) -> None:
        """Set the weights of the modalities in the joint latent; only their ratios matter.

        Blocks are scaled by square roots of weights that sum to one: a latent of several
        modalities has the variance of one.
        """
        total = sum(weights.values())
        for name, part in self.parts.items():
            part.scale.fill_(math.sqrt(weights[name] / total))

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each modality in the joint latent; they sum to one."""
        return {name: float(part.scale) ** 2 for name, part in self.parts.items()}

    def complete(self, inputs: Inputs, conditions: Tensor) -> Inputs:
        """Impute missing modalities and subtract effects of conditions, ``(B, n_keys)`` int64.

        As far as :attr:`imputation` and :attr:`correction` are fitted.
        """
        inputs = self.imputation(inputs)
        if self.correction is None:
            return inputs
        values = self.correction(self.linear_values(inputs), conditions)
        widths = [inputs[kind][name].shape[1] for kind in self.parts for name in _LINEAR]
        new = iter(values.split(widths, 1))
        return {
            kind: inputs[kind] | {name: next(new) / part.scale.clamp_min(1e-12) for name in _LINEAR}
            for kind, part in self.parts.items()
        }

    def linear_values(self, inputs: Inputs) -> Tensor:
        """Scores and profiles of all modalities, concatenated and scaled by their weights."""
        read = [(inputs[kind], part.scale) for kind, part in self.parts.items()]
        return torch.cat([of[name] * scale for of, scale in read for name in _LINEAR], 1)

    @auto_move_data
    def inference(self, inputs: Inputs, conditions: Tensor) -> dict[str, Any]:
        """Latents of cells.

        Parameters
        ----------
        inputs
            Output of :meth:`read`.
        conditions
            Category of each condition key, ``(B, n_keys)`` int64.

        Returns
        -------
        ``z`` ``(B, D)``, the concatenated blocks of the modalities (paper Eq. 18); or the embedding
        that cells bring, scaled. Where cells are grouped by labels, one dimension of each follows.
        ``weight`` of each dimension where cells are compared with codes, ``(B, D)`` or None.
        """
        first = next(iter(inputs.values()))
        if EMBEDDING in first:
            blocks = [first[EMBEDDING] * self.embedding_scale]
        else:
            blocks, all_scores = [], read_scores(inputs)
            condition = self.condition_embedding(conditions)
            for name, part in self.parts.items():
                block = part.encode(inputs[name], all_scores, condition)
                if part.linear_path is None and PRESENT in inputs[name]:
                    block = block * inputs[name][PRESENT]
                blocks.append(block)
        if self.n_labels:
            blocks.append(self._labels(_joined(blocks), first[LABELS]))
        return {"z": _joined(blocks), "weight": self._weights_with_gaps(inputs)}

    def _weights_with_gaps(self, inputs: Inputs) -> Tensor | None:
        """Weights that leave imputed modalities out, as if the others differed as much as they.

        Of modalities that all cells of the training had: other codes are also of imputed cells.
        """
        is_read = self.imputation.maps and all(PRESENT in part for part in inputs.values())
        if self.training or not is_read or self.codebook.distance == "cosine":
            return None
        known = torch.cat([part[PRESENT] > 0 for part in inputs.values()], 1)  # B x n_modalities
        known = known | self.imputation.has_gaps
        if known.all():
            return None
        share = torch.stack([part.scale.square() for part in self.parts.values()])
        weight = (known / (known * share).sum(1, keepdim=True)).masked_fill(
            known.all(1, keepdim=True), 1
        )
        found = torch.ones(len(known), self.codebook.codes.shape[1]).to(weight)
        for part, of_part in zip(self.parts.values(), weight.T, strict=True):
            found[:, part.columns] = of_part[:, None]
        return found

    def _labels(self, z: Tensor, given: Tensor) -> Tensor:
        """Labels of cells, as far as none is given their probabilities, ``(B, n_labels)``."""
        if not self.prototypes[0].is_fitted:
            return z.new_zeros(len(z), self.n_labels)
        known = F.one_hot(given[:, 0].long().clamp_min(0), self.n_labels).to(z)
        found = self.prototypes[0].posterior(z.detach(), self.n_labels)
        return self.label_scale * torch.where(given < 0, found, known)

    @auto_move_data
    def generative(
        self, z: Tensor, conditions: Tensor, weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Count distributions decoded from latents and, once there are codes, from codes.

        The distinct codes of the batch are decoded (paper Eq. 7), with batch normalisation the
        code of every cell; gradients reach the codes, never the cells.

        Returns
        -------
        ``plain`` and ``quantized``, parameters of each modality; ``assignment`` and ``z_q``.
        """
        outputs: dict[str, Any] = {"plain": self.decode(z, conditions)}
        if self.codebook.is_fitted:
            assignment = self.codebook(z.detach(), weight=weight).assignment  # B
            outputs["assignment"] = assignment
            outputs["z_q"] = self.codebook.embed(assignment)  # B x D
            codes = self.codebook.codes
            outputs["quantized"] = self.decode_codes(codes, assignment, conditions)
        return outputs

    def decode(self, z: Tensor, conditions: Tensor) -> dict[str, CountParameters]:
        """Count distributions of each modality decoded from latents ``(B, D)``."""
        condition, parts = self.condition_embedding(conditions), self.parts.items()
        return {k: part.decoder(with_condition(z[:, part.columns], condition)) for k, part in parts}

    def decode_codes(
        self, codes: Tensor, assignment: Tensor, conditions: Tensor
    ) -> dict[str, CountParameters]:
        """The same decoded from assigned codes, ``(K, D)`` and ``(B,)``."""
        rows, row = torch.cat([assignment[:, None], conditions], 1), None  # B x (1 + n_keys)
        # Batch normalisation needs every cell; a GPU decodes all codes faster than it finds the
        # distinct ones.
        if self.norm == "layer" and on_cpu(assignment):
            rows, row = _distinct(rows)
        z_q = F.embedding(rows[:, 0], codes)
        z_q = with_condition(z_q, self.condition_embedding(rows[:, 1:]))
        found = {name: part.quantized_decoder(z_q) for name, part in self.parts.items()}
        return found if row is None else {name: of.take(row) for name, of in found.items()}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
    ) -> LossOutput:
        r"""Objective of a batch (paper Eq. 16).

        :math:`L = L_\mathrm{plain} + L_\mathrm{quantized} + L_C`, the reconstruction losses being
        sums over the modalities.
        """
        data = nested(tensors, self.parts)
        counts = {name: non_zero_counts(data[name][COUNTS]) for name in self.parts}
        per_cell = self.nll(generative_outputs["plain"], data, counts)
        plain = _mean_over_cells(per_cell, data)
        loss = total(plain.values())
        extra = {f"reconstruction_loss_{name}": of_kind for name, of_kind in plain.items()}
        if len(self.parts) == 1:
            extra.clear()
        if "quantized" in generative_outputs:
            of_codes = self.nll(generative_outputs["quantized"], data, counts)
            quantized = total(_mean_over_cells(of_codes, data).values())
            held = codebook_loss(inference_outputs["z"], generative_outputs["z_q"]).mean()
            extra |= {"quantized_loss": quantized, "codebook_loss": held}
            loss = loss + quantized + held
        return LossOutput(
            loss=loss,
            reconstruction_loss=total(per_cell.values()),
            extra_metrics={k: v.detach() for k, v in extra.items()},
            n_obs_minibatch=len(inference_outputs["z"]),
        )


def read_scores(inputs: Inputs) -> Tensor | None:
    """Scores of all modalities concatenated, each of mean square one; None without any."""
    scores = [part["scores"] for part in inputs.values() if "scores" in part]
    return _joined([of * math.sqrt(of.shape[1]) for of in scores]) if scores else None


def _mean_over_cells(losses: dict[str, Tensor], data: Inputs) -> dict[str, Tensor]:
    """Mean loss of each modality over the cells that have it."""
    means = {}
    for name, loss in losses.items():
        present = data[name].get(PRESENT)
        n_cells = None if present is None else present.sum().clamp_min(1)
        means[name] = loss.mean() if n_cells is None else loss.sum() / n_cells
    return means


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate columns; a single part is not copied."""
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


@torch.compiler.disable  # a varying number of rows
def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows, and which of them each row is."""
    if rows.shape[1] == 1:
        used, row = rows[:, 0].unique(return_inverse=True)
        return used[:, None], row
    used, row = rows.unique(dim=0, return_inverse=True)
    return used, row
