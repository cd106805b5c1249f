import math
from typing import Any, cast

import torch
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from scmetaq.nn import (
    CONDITIONS,
    COUNTS,
    DENOISED_STATE,
    PRESENT,
    Codebook,
    ConditionEmbedding,
    CountParameters,
    Distance,
    Inputs,
    MixtureCorrection,
    ModalityPart,
    ModalityShape,
    Norm,
    beside,
    codebook_loss,
    nested,
    non_zero_counts,
    on_cpu,
)

from ._modality_bridges import ModalityBridges
from ._reconstruction import added_up, reconstruction
from ._reference_mapping import ReferenceMappingModule

MAX_CLUSTERS = 100
"""Most clusters within which what conditions add is told."""


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
        Number of categories of each condition key; what cells owe to their conditions is taken
        off before they are encoded, and the decoders know of it.
    n_latent
        Dimension of the learnt state of each modality.
    weights
        Weight of each modality in the joint latent: its share of the squared distances between
        cells. By default all have the same; multiples of one set of weights are the same.
    norm
        Normalisation of hidden layers.
    distance
        Similarity of cells and codes.
    momentum
        Momentum of the usage average (Eq. 11).
    decoded_share
        Share of the cells of a training batch that are decoded. The gradient of their mean
        reconstruction loss is an unbiased estimate at a fraction of the cost.
    """

    parts: dict[str, ModalityPart]
    """What each modality has for itself."""

    def __init__(
        self,
        modalities: dict[str, ModalityShape],
        n_codes: int,
        *,
        conditions: dict[str, int] | None = None,
        n_latent: int = 32,
        weights: dict[str, float] | None = None,
        norm: Norm = "layer",
        distance: Distance = "euclidean",
        momentum: float = 0.9,
        decoded_share: float = 1.0,
    ):
        super().__init__()
        self.decoded_share, self.norm = decoded_share, norm
        ends = [0]
        for shape in modalities.values():
            ends.append(ends[-1] + n_latent + shape.n_components)
        blocks = [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]
        self.condition_embedding = ConditionEmbedding(conditions or {})
        parts = {
            name: ModalityPart(
                shape,
                columns=columns,
                n_joint=ends[-1],
                n_latent=n_latent,
                n_read=2 * sum(shape.n_scores for shape in modalities.values()),
                n_conditions=self.condition_embedding.n_dims,
                norm=norm,
            )
            for (name, shape), columns in zip(modalities.items(), blocks, strict=True)
        }
        self.parts = cast(Any, nn.ModuleDict(parts))
        self.set_weights(weights or dict.fromkeys(modalities, 1.0))
        self.bridges = ModalityBridges(modalities)
        self.correction = None
        if conditions and all(shape.n_components for shape in modalities.values()):
            n_clusters, n_read = min(n_codes, MAX_CLUSTERS), _n_read(modalities)
            self.correction = MixtureCorrection(n_clusters, list(conditions.values()), n_read)
        self.codebook = Codebook(n_codes, ends[-1], distance=distance, momentum=momentum)

    @property
    def state_dimensions(self) -> Tensor:
        """Dimensions of the latent that are learnt states, with little noise in them."""
        found: list[int] = []
        for part in self.parts.values():
            start, n_states = part.columns.start, part.encoder.head.out_features
            found += range(start, start + n_states)
        return torch.tensor(found, device=self.device)

    def grown_parts(self) -> dict[str, Any]:
        """What knows of conditions."""
        parts: dict[str, Any] = {"condition_embedding": self.condition_embedding}
        return parts if self.correction is None else {**parts, "correction": self.correction}

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

    @auto_move_data
    def read(
        self, counts: dict[str, Tensor], present: dict[str, Tensor], conditions: Tensor
    ) -> Inputs:
        """What is known of cells before anything is learnt, from raw counts of all features.

        Parameters
        ----------
        counts
            Raw counts ``(B, G)`` of each modality, dense or CSR tensors; empty rows for cells
            without it.
        present
            Which cells have each modality: 1 or 0, ``(B, 1)``.
        conditions
            Category of each condition key, ``(B, n_keys)`` int64.

        Returns
        -------
        Inputs of :meth:`inference`. What is missing is filled in from the modalities that are
        there, and what conditions add is taken off, as far as :attr:`bridges` and
        :attr:`correction` are fitted.
        """
        inputs = self.read_as_is(counts, present)
        if self.correction is None:
            return inputs
        return self._replaced(inputs, self.correction(self.linear_values(inputs), conditions))

    def read_as_is(self, counts: dict[str, Tensor], present: dict[str, Tensor]) -> Inputs:
        """The same as :meth:`read` with what conditions add."""
        return self.bridges(self.read_parts(counts, present))

    def linear_values(self, inputs: Inputs) -> Tensor:
        """Scores and profiles of all modalities side by side, as much as each weighs."""
        return torch.cat(
            [
                torch.cat([inputs[name]["scores"], inputs[name]["profile"]], 1) * part.scale
                for name, part in self.parts.items()
            ],
            1,
        )

    def _replaced(self, inputs: Inputs, values: Tensor) -> Inputs:
        """Other scores and profiles, side by side as in :meth:`linear_values`."""
        replaced, start = {}, 0
        for name, part in self.parts.items():
            known = inputs[name]
            middle = start + known["scores"].shape[1]
            end = middle + known["profile"].shape[1]
            scale = part.scale.clamp_min(1e-12)
            new = {"scores": values[:, start:middle], "profile": values[:, middle:end]}
            replaced[name] = {**known, **{key: v / scale for key, v in new.items()}}
            start = end
        return replaced

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        return {"inputs": nested(tensors, self.parts), "conditions": _conditions(tensors)}

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
        ``z`` ``(B, D)``, the blocks of the modalities side by side (paper Eq. 18), and
        ``states``, the learnt part of each.
        """
        states, blocks = {}, []
        all_scores, condition = _joined_scores(inputs), self.condition_embedding(conditions)
        for name, part in self.parts.items():
            states[name], block = part.encode(inputs[name], all_scores, condition)
            if part.linear_path is None and PRESENT in inputs[name]:  # nothing to fill a gap with
                block = block * inputs[name][PRESENT]
            blocks.append(block)
        return {"z": _joined(blocks), "states": states}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"], "conditions": _conditions(tensors)}

    @auto_move_data
    def generative(self, z: Tensor, conditions: Tensor) -> dict[str, Any]:
        """Count distributions decoded from latents and, once there are codes, from codes.

        The distinct codes of the batch are decoded (paper Eq. 7), with batch normalisation the
        code of every cell; gradients reach the codes, never the cells. In training the first
        ``decoded_share`` of the batch is decoded.

        Returns
        -------
        ``plain`` and ``quantized``, parameters of each modality; ``assignment`` and ``z_q``.
        """
        n = self.n_decoded(len(z))
        decoded, conditions = z[:n], conditions[:n]
        condition = self.condition_embedding(conditions)
        outputs: dict[str, Any] = {
            "plain": {
                name: part.decoder(beside(part.block(decoded), condition))
                for name, part in self.parts.items()
            }
        }
        if self.codebook.is_fitted:
            assignment = self.codebook(z.detach()).assignment  # B
            outputs["assignment"] = assignment
            outputs["z_q"] = self.codebook.embed(assignment)  # B x D
            outputs["quantized"] = self._decode_codes(assignment[:n], conditions)
        return outputs

    def _decode_codes(self, assignment: Tensor, conditions: Tensor) -> dict[str, CountParameters]:
        parts = self.parts.items()
        # Batch normalisation needs every cell; a GPU decodes all codes faster than it finds the
        # distinct ones.
        if self.norm == "batch" or not on_cpu(assignment):
            z_q = beside(self.codebook.embed(assignment), self.condition_embedding(conditions))
            return {name: part.quantized_decoder(z_q) for name, part in parts}
        used, row = _distinct(torch.cat([assignment[:, None], conditions], 1))  # (1 + n_keys)
        z_q = beside(self.codebook.embed(used[:, 0]), self.condition_embedding(used[:, 1:]))
        return {name: part.quantized_decoder(z_q).take(row) for name, part in parts}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        state_weight: float = 1.0,
    ) -> LossOutput:
        r"""Objective of a batch (paper Eq. 16, with the state loss added).

        :math:`L = L_\mathrm{plain} + L_\mathrm{quantized} + L_C + w L_\mathrm{state}`, the
        reconstruction and state losses being sums over the modalities.
        """
        n = self.n_decoded(len(inference_outputs["z"]))
        data = nested(tensors, self.parts)
        missing = {name: part.missing for name, part in self.parts.items()}
        counts = {name: non_zero_counts(data[name][COUNTS][:n]) for name in self.parts}
        plain = reconstruction(generative_outputs["plain"], data, counts, missing)
        total = plain.loss
        extra = {f"reconstruction_loss_{name}": loss for name, loss in plain.by_modality.items()}
        if len(self.parts) == 1:
            extra.clear()
        if "quantized" in generative_outputs:
            quantized = reconstruction(generative_outputs["quantized"], data, counts, missing)
            held = codebook_loss(inference_outputs["z"], generative_outputs["z_q"]).mean()
            extra |= {"quantized_loss": quantized.loss, "codebook_loss": held}
            total = total + quantized.loss + held
        errors = [
            (state - data[name][DENOISED_STATE]).square().sum(1).mean()
            for name, state in inference_outputs["states"].items()
            if DENOISED_STATE in data[name]
        ]
        if errors:
            extra["state_loss"] = added_up(errors)
            total = total + state_weight * extra["state_loss"]
        return LossOutput(
            loss=total,
            reconstruction_loss=plain.per_cell,
            extra_metrics={k: v.detach() for k, v in extra.items()},
            n_obs_minibatch=n,
        )

    @torch.no_grad()
    def copy_decoder(self) -> None:
        """Start the decoders of codes as copies of the decoders of cells (paper: g-hat)."""
        for part in self.parts.values():
            part.copy_decoder()


def _joined_scores(inputs: Inputs) -> Tensor | None:
    """Scores of all modalities side by side, of mean square one in each; None without any."""
    scores = [part["scores"] for part in inputs.values() if "scores" in part]
    scaled = [values * math.sqrt(values.shape[1]) for values in scores]  # each B x 2S
    return _joined(scaled) if scaled else None


def _n_read(modalities: dict[str, ModalityShape]) -> int:
    """Scores and components of all modalities together."""
    return sum(2 * shape.n_scores + shape.n_components for shape in modalities.values())


def _joined(parts: list[Tensor]) -> Tensor:
    """Columns of all parts side by side; one part is not copied."""
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _conditions(tensors: dict[str, Tensor]) -> Tensor:
    return tensors[CONDITIONS].long()


@torch.compiler.disable  # a varying number of rows
def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows, and which of them each row is."""
    if rows.shape[1] == 1:
        used, row = rows[:, 0].unique(return_inverse=True)
        return used[:, None], row
    used, row = rows.unique(dim=0, return_inverse=True)
    return used, row
