import math
from typing import Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor

from scmetaq.nn import (
    Codebook,
    CountBatch,
    CountDecoder,
    CountParameters,
    Distance,
    Encoder,
    FeatureScaling,
    Likelihood,
    LinearPath,
    Norm,
    codebook_loss,
    reconstruction_nll,
)


class MetaQModule(BaseModuleClass):
    r"""Quantising autoencoder of counts.

    Letters: ``B`` cells of a batch, ``G`` features of the data, ``M`` selected features,
    ``D`` dimensions of the latent ``z``, ``K`` codes.

    Parameters
    ----------
    n_selected
        Features that are read and reconstructed, ``M``.
    n_codes
        Number of codes, ``K``.
    n_latent
        Dimension of the learnt cell state.
    n_components
        Principal components of the profile beside it; 0 leaves out the linear path, as
        published.
    n_scores
        Scores of each of the two views from which the state is first estimated.
    likelihood
        Count distribution.
    decoder_hidden
        Hidden layers of both decoders.
    norm
        Normalisation of hidden layers.
    distance
        Similarity of cells and codes.
    momentum
        Momentum of the usage average (Eq. 11).
    lift
        See :class:`~scmetaq.nn.Codebook`.
    decoded_share
        Share of the cells of a training batch that are decoded. The gradient of their mean
        reconstruction loss is an unbiased estimate at a fraction of the cost.
    """

    def __init__(
        self,
        n_selected: int,
        n_codes: int,
        *,
        n_latent: int = 32,
        n_components: int = 200,
        n_scores: int = 50,
        likelihood: Likelihood = "nb",
        decoder_hidden: tuple[int, ...] = (128, 512),
        norm: Norm = "layer",
        distance: Distance = "cosine",
        momentum: float = 0.9,
        lift: float = 0.0,
        decoded_share: float = 1.0,
    ):
        super().__init__()
        self.decoded_share = decoded_share
        n_dims = n_latent + n_components  # D
        self.feature_scaling = FeatureScaling(n_selected)
        self.encoder = Encoder(2 * n_scores if n_components else n_selected, n_latent, norm=norm)
        self.linear_path = None
        if n_components:
            self.linear_path = LinearPath(n_selected, n_latent, n_components, n_scores=n_scores)
            self.encoder.start_at_zero()
        self.codebook = Codebook(n_codes, n_dims, distance=distance, momentum=momentum, lift=lift)
        self.decoder, self.quantized_decoder = (
            CountDecoder(
                n_dims, n_selected, likelihood=likelihood, hidden=decoder_hidden, norm=norm
            )
            for _ in range(2)
        )

    @auto_move_data
    def read(self, counts: Tensor) -> dict[str, Tensor]:
        """What is known of cells before anything is learnt, from raw counts of all features.

        Parameters
        ----------
        counts
            Raw counts ``(B, G)``, a dense or a CSR tensor.

        Returns
        -------
        Inputs of :meth:`inference`.
        """
        batch = CountBatch(counts)
        if self.linear_path is None:
            selected = batch.dense(self.feature_scaling.features)
            return {"size_factor": batch.size_factor, "selected": selected}
        scores, profile = self.linear_path(batch)
        return {"size_factor": batch.size_factor, "scores": scores, "profile": profile}

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        if self.linear_path is None:
            return {
                "size_factor": tensors["size_factor"],
                "selected": tensors[REGISTRY_KEYS.X_KEY],
            }
        return {name: tensors[name] for name in ("size_factor", "scores", "profile")}

    @auto_move_data
    def inference(
        self,
        size_factor: Tensor,
        *,
        scores: Tensor | None = None,
        profile: Tensor | None = None,
        selected: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Latents of cells.

        Parameters
        ----------
        size_factor
            Library size over 10k, ``(B, 1)``.
        scores, profile
            Output of the linear path, where there is one; scores have unit total variance.
        selected
            Otherwise: raw counts of the selected features, ``(B, M)``.

        Returns
        -------
        ``z`` ``(B, D)``, its learnt part ``state``, and ``size_factor``.
        """
        if self.linear_path is None:
            assert selected is not None
            state = self.encoder(self.feature_scaling(selected, size_factor))
            return {"z": state, "state": state, "size_factor": size_factor}
        assert scores is not None
        assert profile is not None
        residual = self.encoder(scores * math.sqrt(scores.shape[1]))
        state = self.linear_path.to_state(scores) + residual
        z = torch.cat([state, profile], 1)  # B x D
        return {"z": z, "state": state, "size_factor": size_factor}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_: Any
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"]}

    @auto_move_data
    def generative(self, z: Tensor) -> dict[str, Any]:
        """Count distributions decoded from latents and, once there are codes, from codes.

        Only the distinct codes of the batch are decoded (paper Eq. 7); gradients reach the
        codes, never the cells. In training the first ``decoded_share`` of the batch is decoded.
        """
        n = self._n_decoded(len(z))
        outputs: dict[str, Any] = {"plain": self.decoder(z[:n])}
        if self.codebook.is_fitted:
            assignment = self.codebook(z.detach()).assignment  # B
            outputs["assignment"] = assignment
            outputs["z_q"] = self.codebook.embed(assignment)  # B x D
            outputs["quantized"] = self._decode_codes(assignment[:n])
        return outputs

    def _n_decoded(self, n_cells: int) -> int:
        return math.ceil(n_cells * self.decoded_share) if self.training else n_cells

    def _decode_codes(self, assignment: Tensor) -> CountParameters:
        if assignment.is_cuda:  # decoding a few codes more is sooner done than finding out which
            return self.quantized_decoder(self.codebook.embed(assignment))
        used, row, n_cells = assignment.unique(return_inverse=True, return_counts=True)
        decoded = self.quantized_decoder(self.codebook.embed(used), n_cells)  # K x M
        return decoded.take(row)

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Any],
        state_weight: float = 1.0,
    ) -> LossOutput:
        r"""Objective of a batch (paper Eq. 16, with the state loss added).

        :math:`L = L_\mathrm{plain} + L_\mathrm{quantized} + L_C + w L_\mathrm{state}`.
        """
        n = self._n_decoded(len(inference_outputs["z"]))
        counts = tensors[REGISTRY_KEYS.X_KEY][:n]  # B x M
        size_factor = inference_outputs["size_factor"][:n]
        plain = reconstruction_nll(generative_outputs["plain"], counts, size_factor)  # B
        total = plain.mean()
        extra: dict[str, Tensor] = {}
        if "quantized" in generative_outputs:
            quantized = reconstruction_nll(generative_outputs["quantized"], counts, size_factor)
            held = codebook_loss(inference_outputs["z"], generative_outputs["z_q"])
            extra |= {"quantized_loss": quantized.mean(), "codebook_loss": held.mean()}
            total = total + quantized.mean() + held.mean()
        if "denoised_state" in tensors:
            error = inference_outputs["state"] - tensors["denoised_state"]  # B x D
            error = error.square().sum(1)  # B
            extra["state_loss"] = error.mean()
            total = total + state_weight * error.mean()
        return LossOutput(
            loss=total,
            reconstruction_loss=plain,
            extra_metrics={k: v.detach() for k, v in extra.items()},
            n_obs_minibatch=len(counts),
        )

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Not a generative model of cells."""
        raise NotImplementedError("MetaQ quantises cells, it does not sample them.")

    @torch.no_grad()
    def copy_decoder(self) -> None:
        """Start the decoder of codes as a copy of the decoder of cells (paper: g-hat)."""
        self.quantized_decoder.load_state_dict(self.decoder.state_dict())
