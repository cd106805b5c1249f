"""Parts of the networks. Knows torch only: no AnnData, no pandas."""

from ._clustering import Clustering, cluster
from ._code_tree import cut_tree, merge_codes
from ._codebook import (
    N_QUANTILES,
    Codebook,
    CodebookInit,
    Distance,
    codebook_loss,
    initial_codes,
    perplexity,
)
from ._condition_embedding import ConditionEmbedding, beside
from ._count_batch import CountBatch
from ._distances import distances_without, neighborhood_mean, squared_distances
from ._gaussian import (
    Gaussian,
    GaussianMixture,
)
from ._inputs import (
    CONDITIONS,
    COUNTS,
    DENOISED_STATE,
    LABELS,
    PRESENT,
    Inputs,
    flat,
    nested,
)
from ._layers import Norm, Scaling
from ._likelihoods import (
    CountParameters,
    Likelihood,
    count_nll,
)
from ._linear_path import Axes
from ._mixture_correction import MixtureCorrection, fit_mixture, fit_query_offsets, one_hot
from ._parts import Channel, ChannelName, ConditionalPart, ModalityPart, ModalityShape
from ._prototype_fit import N_FOLDS, PrototypeFit
from ._prototypes import LabelPrototypes, PrototypeState, class_means, prototype_loss

__all__ = [
    "count_nll",
    "CountBatch",
    "N_QUANTILES",
    "GaussianMixture",
    "Gaussian",
    "ChannelName",
    "Channel",
    "ConditionalPart",
    "LABELS",
    "prototype_loss",
    "class_means",
    "CONDITIONS",
    "COUNTS",
    "DENOISED_STATE",
    "PRESENT",
    "Axes",
    "Clustering",
    "Codebook",
    "CodebookInit",
    "ConditionEmbedding",
    "CountParameters",
    "Distance",
    "Inputs",
    "LabelPrototypes",
    "Likelihood",
    "MixtureCorrection",
    "ModalityPart",
    "ModalityShape",
    "N_FOLDS",
    "Norm",
    "Scaling",
    "PrototypeFit",
    "PrototypeState",
    "beside",
    "cluster",
    "codebook_loss",
    "cut_tree",
    "distances_without",
    "fit_mixture",
    "fit_query_offsets",
    "flat",
    "initial_codes",
    "merge_codes",
    "neighborhood_mean",
    "nested",
    "one_hot",
    "perplexity",
    "squared_distances",
]
