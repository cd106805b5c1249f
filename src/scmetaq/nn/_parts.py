"""What each modality has for itself in the three models: features, encoder and decoders."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from ._condition_embedding import with_condition
from ._count_batch import FeatureCoverage
from ._decoders import CountDecoder, CountParameters, ProfileDecoder
from ._gaussian import Gaussian, GaussianHead
from ._inputs import COUNTS, SIZES
from ._layers import AttentionLayer, Encoder, FeatureScaling, GatedLayer, Norm, hidden_layers
from ._likelihoods import Likelihood
from ._linear_path import LinearViews, StateMap

ChannelName = Literal["gated", "attention"]
_LAYERS: Final[dict[str, type[GatedLayer] | type[AttentionLayer]]] = {
    "gated": GatedLayer,
    "attention": AttentionLayer,
}


@dataclass(frozen=True)
class ModalityShape:
    """Sizes of a modality, known before there are data."""

    n_selected: int
    """Features that are read and reconstructed, ``M``."""
    likelihood: Likelihood = "nb"
    """Count distribution."""
    decoder_hidden: tuple[int, ...] = (128, 512)
    """Hidden layers of both decoders."""
    n_components: int = 200
    """Principal components concatenated with the learnt state; 0: no linear path."""
    n_scores: int = 50
    """Scores of each of the two views from which the state is first estimated."""


class Part(nn.Module):
    """Features of one modality, and how raw counts are read.

    Letters, also of the subclasses: ``B`` cells of a batch, ``G`` features, ``M`` selected ones,
    ``H`` hidden units, ``D`` dimensions of the latent.
    """

    linear_path: LinearViews | None

    def __init__(self, shape: ModalityShape):
        super().__init__()
        self.coverage = FeatureCoverage()
        self.feature_scaling = FeatureScaling(shape.n_selected)
        self.linear_path = None

    def read(self, counts: Tensor, sizes: Tensor | None = None) -> dict[str, Tensor]:
        """Compute everything that does not depend on learnt weights, from raw counts ``(B, G)``.

        Returns
        -------
        ``size_factor`` ``(B, 1)``, over all features, and ``scores`` and ``profile`` of the linear
        path or, without one, ``counts`` ``(B, M)`` of the selected features.
        """
        batch = self.coverage.batch(counts, sizes)
        if self.linear_path is None:
            selected = batch.dense(self.feature_scaling.features)
            return {"size_factor": batch.size_factor, COUNTS: selected}
        scores = self.linear_path(batch, self.coverage)
        return {"size_factor": batch.size_factor, **scores._asdict()}

    def size(self, inputs: dict[str, Tensor]) -> Tensor:
        """Factor by which counts are expected to exceed the decoder's rates, ``(B, 1)``."""
        return inputs["size_factor"]

    @property
    def missing(self) -> Tensor | None:
        """Which selected features are missing, ``(M,)`` bool; None if all were measured."""
        return self.coverage.missing_of(self.feature_scaling.features)


class ModalityPart(Part):
    """Encoder and two decoders of one modality in MetaQ.

    Its block of the joint latent, of dimension ``n_joint``, are the ``columns``. The decoder of
    codes reads all of it (paper Eq. 19). The encoder is fitted, to ``n_read`` scores of all
    modalities; without linear paths it is a network that learns. The first layer of networks reads
    an embedding of conditions too.
    """

    encoder: Encoder | StateMap
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
        encodes: bool = True,
    ):
        super().__init__(shape)
        self.columns = columns
        self.n_joint, self.n_conditions, self.n_latent = n_joint, n_conditions, n_latent
        self.register_buffer("scale", torch.ones(()))
        if shape.n_components:
            self.linear_path = LinearViews(
                shape.n_selected, shape.n_components, n_scores=shape.n_scores
            )
            self.encoder = StateMap(n_read, n_latent)
        elif encodes:
            self.encoder = Encoder(shape.n_selected + n_conditions, n_latent, norm=norm)
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

    def encode(
        self, inputs: dict[str, Tensor], all_scores: Tensor | None, condition: Tensor
    ) -> Tensor:
        """Block of cells, ``(B, D)``: their state, and their profile if there is a linear path.

        Read are the output of :meth:`read` and either the scores of all modalities of mean square
        one, ``(B, n_read)``, since other modalities help to estimate the state in this one, or
        the counts and the embedding of conditions, ``(B, n_conditions)``.
        """
        if self.linear_path is None:
            counts, size = inputs[COUNTS], inputs["size_factor"]
            scaled = self.feature_scaling(counts, size, self.missing)  # B x M
            return self.encoder(with_condition(scaled, condition)) * self.scale
        assert all_scores is not None
        state = self.encoder(all_scores)
        return torch.cat([state, inputs["profile"]], 1) * self.scale  # B x D

    def copy_decoder(self) -> None:
        """Start the decoder of codes as the decoder of cells (paper: g-hat is a copy of g).

        Of a joint code it then reads this modality's block and ignores the others.
        """
        block = range(self.columns.start, self.columns.stop)
        conditions = range(self.n_joint, self.n_joint + self.n_conditions)
        self.quantized_decoder.start_as(self.decoder, [*block, *conditions])


class ConditionalPart(Part):
    """Encoder and decoder of one modality in scPoli, which both read the conditions.

    Each has ``n_layers`` hidden layers of ``n_hidden`` units, by default the square root of ``M``.
    """

    def __init__(
        self,
        shape: ModalityShape,
        *,
        n_latent: int,
        n_conditions: int,
        dropout: float,
        n_hidden: int | None = None,
        n_layers: int = 1,
    ):
        super().__init__(shape)
        n_hidden = n_hidden or math.ceil(math.sqrt(shape.n_selected))
        widths = [shape.n_selected + n_conditions, *[n_hidden] * n_layers]
        self.encoder = hidden_layers(widths, dropout=dropout)
        self.posterior = GaussianHead(n_hidden, n_latent)
        self.decoder = ProfileDecoder(
            n_latent,
            n_conditions,
            shape.n_selected,
            likelihood=shape.likelihood,
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout=dropout,
        )

    def size(self, inputs: dict[str, Tensor]) -> Tensor:
        """Library size over the selected features measured, ``(B, 1)``; expected of one given."""
        if SIZES in inputs:
            rate, missing = self.coverage.rate[self.feature_scaling.features], self.missing
            return inputs["size_factor"] * (rate if missing is None else rate[~missing]).sum()
        return inputs[COUNTS].sum(1, keepdim=True).clamp_min(1)

    def encode(self, inputs: dict[str, Tensor], condition: Tensor) -> Gaussian:
        """Posterior by the output of :meth:`read` and the embedding ``(B, n_conditions)``."""
        scaled = self.feature_scaling(inputs[COUNTS], inputs["size_factor"], self.missing)  # B x M
        return self.posterior(self.encoder(with_condition(scaled, condition)))

    def decode(self, z: Tensor, condition: Tensor) -> CountParameters:
        """Count distributions of latents ``(B, D)`` under conditions ``(B, n_conditions)``."""
        return self.decoder(z, condition, self.missing)


class Channel(Part):
    """Encoder and decoder channel of one modality in COEM, of layers of one kind."""

    scale: Tensor
    """Root mean square of the components that are read: 1 if all modalities weigh the same."""

    def __init__(self, shape: ModalityShape, layer: ChannelName, *, n_hidden: int, n_latent: int):
        super().__init__(shape)
        self.linear_path = LinearViews(
            shape.n_selected, shape.n_components, n_scores=shape.n_scores
        )
        self.n_read = 2 * shape.n_scores + shape.n_components
        self.register_buffer("scale", torch.ones(()))
        self.encoder = _LAYERS[layer](self.n_read, n_hidden)
        self.posterior = GaussianHead(n_hidden + self.n_read, n_latent)
        self.decoder_channel = _LAYERS[layer](n_latent, n_hidden)
        self.decoder = CountDecoder(
            n_hidden, shape.n_selected, likelihood=shape.likelihood, hidden=()
        )

    def components(self, inputs: dict[str, Tensor]) -> Tensor:
        """Principal components, scaled by the weight of the modality, ``(B, n_read)``."""
        views = (inputs["scores"], inputs["profile"])  # each of unit total variance
        return torch.cat([self.scale * math.sqrt(v.shape[1]) * v for v in views], 1)

    def alone(self, hidden: Tensor, components: Tensor) -> Gaussian:
        """Posterior by this modality alone: hidden units ``(B, H)`` of the encoder, components."""
        return self.posterior(torch.cat([hidden, components], 1))

    def decode(self, z: Tensor) -> CountParameters:
        """Count distributions of latents ``(B, D)``."""
        return self.decoder(self.decoder_channel(z))
