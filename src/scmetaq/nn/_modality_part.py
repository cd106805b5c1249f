from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._condition_embedding import beside
from ._decoder import CountDecoder
from ._encoder import Encoder, FeatureScaling
from ._feature_coverage import FeatureCoverage
from ._inputs import COUNTS
from ._likelihoods import Likelihood
from ._linear_path import LinearPath
from ._mlp import Norm


@dataclass(frozen=True)
class ModalityShape:
    """What a network must know of a modality before it sees data."""

    n_selected: int
    """Features that are read and reconstructed, ``M``."""
    likelihood: Likelihood = "nb"
    """Count distribution."""
    decoder_hidden: tuple[int, ...] = (128, 512)
    """Hidden layers of both decoders."""
    n_components: int = 200
    """Principal components of the profile beside the learnt state; 0: no linear path."""
    n_scores: int = 50
    """Scores of each of the two views from which the state is first estimated."""
    n_features: int = 0
    """All features, of which those of a query may be missing; 0: none ever is."""


class ModalityPart(nn.Module):
    """What one modality has for itself: its features, an encoder and two decoders.

    Letters: ``B`` cells of a batch, ``M`` selected features, ``D`` dimensions of this modality's
    block of the latent.

    Parameters
    ----------
    shape
        Sizes and count distribution of the modality.
    columns
        Which dimensions of the joint latent are the modality's block.
    n_joint
        Dimension of the joint latent, all of which the decoder of codes reads (paper Eq. 19).
    n_read
        Scores of all modalities together, which the encoder reads where there are linear paths.
    n_conditions
        Dimension of the embedding of conditions, which joins the input of the first layer of the
        encoder and of the decoders.
    n_latent
        Dimension of the learnt state.
    norm
        Normalisation of hidden layers.
    """

    scale: Tensor
    """Factor of the block in the joint latent: the square root of the modality's weight."""

    def __init__(
        self,
        shape: ModalityShape,
        *,
        columns: slice,
        n_joint: int,
        n_read: int,
        n_conditions: int,
        n_latent: int,
        norm: Norm,
    ):
        super().__init__()
        self.columns = columns
        self.n_joint, self.n_conditions = n_joint, n_conditions
        self.register_buffer("scale", torch.ones(()))
        self.coverage = FeatureCoverage(shape.n_features)
        self.feature_scaling = FeatureScaling(shape.n_selected)
        self.linear_path = None
        if shape.n_components:
            self.linear_path = LinearPath(
                shape.n_selected, n_latent, shape.n_components, n_scores=shape.n_scores
            )
        n_input = n_read if shape.n_components else shape.n_selected
        self.encoder = Encoder(n_input + n_conditions, n_latent, norm=norm)
        if self.linear_path is not None:
            self.encoder.start_at_zero()
        self.decoder, self.quantized_decoder = (
            CountDecoder(
                n_input + n_conditions,
                shape.n_selected,
                likelihood=shape.likelihood,
                hidden=shape.decoder_hidden,
                norm=norm,
            )
            for n_input in (n_latent + shape.n_components, n_joint)
        )

    def read(self, counts: Tensor) -> dict[str, Tensor]:
        """What is known of cells before anything is learnt, from raw counts of all features.

        Parameters
        ----------
        counts
            Raw counts, ``(B, n_features)``, a dense or a CSR tensor.

        Returns
        -------
        ``size_factor`` ``(B, 1)`` and ``scores`` and ``profile`` of the linear path or, where
        there is none, ``counts``, the raw counts of the selected features.
        """
        batch = self.coverage.batch(counts)
        if self.linear_path is None:
            selected = batch.dense(self.feature_scaling.features)
            return {"size_factor": batch.size_factor, COUNTS: selected}
        scores = self.linear_path(batch, self.coverage)
        return {"size_factor": batch.size_factor, **scores._asdict()}

    def log_values(self, counts: Tensor) -> Tensor:
        """Log1p counts per 10k of the selected features, less their means.

        Parameters
        ----------
        counts
            Raw counts of all features, ``(B, n_features)``, a dense or a CSR tensor.

        Returns
        -------
        ``(B, M)``; of a part with a linear path.
        """
        assert self.linear_path is not None
        values = self.linear_path.log_values(self.coverage.batch(counts), self.coverage)
        return values - self.feature_scaling.mean

    def encode(
        self, inputs: dict[str, Tensor], all_scores: Tensor | None, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """State of cells and their block of the latent, which has the profile beside it.

        Parameters
        ----------
        inputs
            Output of :meth:`read`; scores have unit total variance.
        all_scores
            Scores of all modalities on the scale of a network's input, ``(B, n_read)``: what
            another modality says of a cell helps to tell its state in this one.
        condition
            Embedding of the conditions, ``(B, n_conditions)``.

        Returns
        -------
        State ``(B, n_latent)`` and block ``(B, D)``.
        """
        if self.linear_path is None:
            scaled = self.feature_scaling(  # B x M
                inputs[COUNTS], inputs["size_factor"], self.missing
            )
            state = self.encoder(beside(scaled, condition))
            return state, state * self.scale
        assert all_scores is not None
        residual = self.encoder(beside(all_scores, condition))
        state = self.linear_path.to_state(inputs["scores"]) + residual
        block = torch.cat([state, inputs["profile"]], 1)  # B x D
        return state, block * self.scale

    @property
    def missing(self) -> Tensor | None:
        """Which selected features are missing, ``(M,)`` bool; None if none of all features is."""
        return self.coverage.missing_of(self.feature_scaling.features)

    def block(self, z: Tensor) -> Tensor:
        """The block of this modality in joint latents ``(B, n_joint)``."""
        return z[:, self.columns]

    def copy_decoder(self) -> None:
        """Start the decoder of codes as the decoder of cells (paper: g-hat is a copy of g).

        Of a joint code it then reads this modality's block and passes over the others.
        """
        block = range(self.columns.start, self.columns.stop)
        conditions = range(self.n_joint, self.n_joint + self.n_conditions)
        self.quantized_decoder.start_as(self.decoder, [*block, *conditions])
