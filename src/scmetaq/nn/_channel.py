import math
from typing import Final, Literal

import torch
from torch import Tensor, nn

from ._attention_layer import AttentionLayer
from ._count_batch import CountBatch
from ._decoder import CountDecoder, CountParameters
from ._encoder import FeatureScaling
from ._gated_layer import GatedLayer
from ._gaussian import Gaussian, GaussianHead
from ._linear_path import LinearViews
from ._modality_part import ModalityShape

ChannelName = Literal["gated", "attention"]
_LAYERS: Final[dict[str, type[GatedLayer] | type[AttentionLayer]]] = {
    "gated": GatedLayer,
    "attention": AttentionLayer,
}


class Channel(nn.Module):
    """What one modality has for itself in COEM: an encoder and a decoder channel.

    Letters: ``B`` cells of a batch, ``M`` selected features, ``H`` hidden units, ``D`` dimensions
    of the latent.

    Parameters
    ----------
    shape
        Sizes and count distribution of the modality.
    layer
        What both channels are made of.
    n_hidden
        Hidden units of both channels.
    n_latent
        Dimension of the latent.
    """

    def __init__(self, shape: ModalityShape, layer: ChannelName, *, n_hidden: int, n_latent: int):
        super().__init__()
        self.feature_scaling = FeatureScaling(shape.n_selected)
        self.linear_path = LinearViews(
            shape.n_selected, shape.n_components, n_scores=shape.n_scores
        )
        self.n_read = 2 * shape.n_scores + shape.n_components
        self.encoder = _LAYERS[layer](self.n_read, n_hidden)
        self.posterior = GaussianHead(n_hidden + self.n_read, n_latent)
        self.decoder_channel = _LAYERS[layer](n_latent, n_hidden)
        self.decoder = CountDecoder(
            n_hidden, shape.n_selected, likelihood=shape.likelihood, hidden=()
        )

    def read(self, counts: Tensor) -> dict[str, Tensor]:
        """What is known of cells before anything is learnt, from raw counts of all features.

        Parameters
        ----------
        counts
            Raw counts, ``(B, n_features)``, a dense or a CSR tensor.

        Returns
        -------
        ``size_factor`` ``(B, 1)``, and ``scores`` and ``profile``, principal components.
        """
        batch = CountBatch(counts)
        return {"size_factor": batch.size_factor, **self.linear_path(batch)._asdict()}

    def components(self, inputs: dict[str, Tensor]) -> Tensor:
        """Principal components on the scale of a network's input, ``(B, n_read)``."""
        views = (inputs["scores"], inputs["profile"])  # each of unit total variance
        return torch.cat([v * math.sqrt(v.shape[1]) for v in views], 1)

    def alone(self, hidden: Tensor, components: Tensor) -> Gaussian:
        """Posterior of cells by this modality alone.

        Parameters
        ----------
        hidden
            What :attr:`encoder` makes of ``components``, ``(B, H)``.
        components
            Output of :meth:`components`.
        """
        return self.posterior(torch.cat([hidden, components], 1))

    def decode(self, z: Tensor) -> CountParameters:
        """Count distributions of latents ``(B, D)``."""
        return self.decoder(self.decoder_channel(z))
