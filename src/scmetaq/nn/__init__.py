"""Parts of the networks. Knows torch only: no AnnData, no pandas."""

from ._clustering import Clustering, cluster
from ._code_tree import cut_tree, merge_codes, perplexity
from ._codebook import Codebook, CodebookInit, Distance, initial_codes
from ._condition_embedding import ConditionEmbedding, with_condition
from ._count_batch import CountBatch
from ._distances import codebook_loss, distances_without, neighborhood_mean, squared_distances
from ._gaussian import Gaussian, GaussianMixture
from ._layers import Norm, Scaling
from ._likelihoods import CountParameters, Likelihood, count_nll
from ._linear_path import Axes
from ._mixture_correction import MixtureCorrection, fit_mixture, fit_query_offsets
from ._parts import Channel, ChannelName, ConditionalPart, ModalityPart, ModalityShape
from ._prototype_fit import PrototypeFit
from ._prototypes import LabelPrototypes, PrototypeState, class_means, prototype_loss
from ._regions import cluster_by_region

__all__ = [
    "count_nll",
    "CountBatch",
    "GaussianMixture",
    "Gaussian",
    "ChannelName",
    "Channel",
    "ConditionalPart",
    "prototype_loss",
    "class_means",
    "Axes",
    "Clustering",
    "Codebook",
    "CodebookInit",
    "ConditionEmbedding",
    "CountParameters",
    "Distance",
    "LabelPrototypes",
    "Likelihood",
    "MixtureCorrection",
    "ModalityPart",
    "ModalityShape",
    "Norm",
    "Scaling",
    "PrototypeFit",
    "PrototypeState",
    "with_condition",
    "cluster",
    "cluster_by_region",
    "codebook_loss",
    "cut_tree",
    "distances_without",
    "fit_mixture",
    "fit_query_offsets",
    "initial_codes",
    "merge_codes",
    "neighborhood_mean",
    "perplexity",
    "squared_distances",
]
