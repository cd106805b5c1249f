import math

from torch import Tensor, nn

from ._condition_embedding import beside
from ._encoder import FeatureScaling
from ._feature_coverage import FeatureCoverage
from ._gaussian import Gaussian, GaussianHead
from ._inputs import COUNTS
from ._mlp import hidden_layers
from ._modality_part import ModalityShape
from ._profile_decoder import ProfileDecoder


class ConditionalPart(nn.Module):
    """What one modality has for itself in scPoli: an encoder and a decoder that know conditions.

    Letters: ``B`` cells of a batch, ``M`` selected features, ``D`` dimensions of the latent. Both
    have one hidden layer of the square root of ``M`` units.

    Parameters
    ----------
    shape
        Sizes and count distribution of the modality.
    n_latent
        Dimension of the latent.
    n_conditions
        Dimension of the condition embedding.
    dropout
        Share of hidden units that are silenced at each step of training.
    """

    linear_path = None
    """There are no principal components beside the network."""

    def __init__(self, shape: ModalityShape, *, n_latent: int, n_conditions: int, dropout: float):
        super().__init__()
        n_hidden = math.ceil(math.sqrt(shape.n_selected))
        self.coverage = FeatureCoverage(shape.n_features)
        self.feature_scaling = FeatureScaling(shape.n_selected)
        self.encoder = hidden_layers([shape.n_selected + n_conditions, n_hidden], dropout=dropout)
        self.posterior = GaussianHead(n_hidden, n_latent)
        self.decoder = ProfileDecoder(
            n_latent,
            n_conditions,
            shape.n_selected,
            likelihood=shape.likelihood,
            n_hidden=n_hidden,
            dropout=dropout,
        )

    def read(self, counts: Tensor) -> dict[str, Tensor]:
        """What the encoder needs, from raw counts of all features.

        Parameters
        ----------
        counts
            Raw counts, ``(B, n_features)``, a dense or a CSR tensor.

        Returns
        -------
        ``size_factor`` ``(B, 1)``, over all features, and ``counts`` ``(B, M)`` of the selected.
        """
        batch = self.coverage.batch(counts)
        selected = batch.dense(self.feature_scaling.features)
        return {"size_factor": batch.size_factor, COUNTS: selected}

    def encode(self, inputs: dict[str, Tensor], condition: Tensor) -> Gaussian:
        """Posterior of cells by this modality.

        Parameters
        ----------
        inputs
            Output of :meth:`read`.
        condition
            Embedding of the conditions, ``(B, n_conditions)``.
        """
        scaled = self.feature_scaling(inputs[COUNTS], inputs["size_factor"], self.missing)  # B x M
        return self.posterior(self.encoder(beside(scaled, condition)))

    @property
    def missing(self) -> Tensor | None:
        """Which selected features are missing, ``(M,)`` bool; None if none of all features is."""
        return self.coverage.missing_of(self.feature_scaling.features)
