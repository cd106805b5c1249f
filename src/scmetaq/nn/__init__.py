"""Parts of the networks. Knows torch only: no AnnData, no pandas."""

from ._codebook import Codebook, Distance, Lookup, codebook_loss, perplexity, squared_distances
from ._codebook_init import CodebookInit, initial_codes
from ._count_batch import CountBatch
from ._decoder import CountDecoder, CountParameters, reconstruction_nll
from ._encoder import Encoder, FeatureScaling
from ._exchange import exchange, quantization_error
from ._likelihoods import Likelihood, negative_binomial_nll, poisson_nll
from ._linear_path import Axes, LinearPath
from ._mlp import Norm, hidden_layers
from ._neighborhood_mean import neighborhood_mean

__all__ = [
    "Axes",
    "Codebook",
    "CodebookInit",
    "CountBatch",
    "CountDecoder",
    "CountParameters",
    "Distance",
    "Encoder",
    "FeatureScaling",
    "Likelihood",
    "LinearPath",
    "Lookup",
    "Norm",
    "codebook_loss",
    "exchange",
    "hidden_layers",
    "initial_codes",
    "negative_binomial_nll",
    "neighborhood_mean",
    "perplexity",
    "poisson_nll",
    "quantization_error",
    "reconstruction_nll",
    "squared_distances",
]
