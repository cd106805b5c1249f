"""Parts of the networks. Knows torch only: no AnnData, no pandas."""

from ._attention_layer import AttentionLayer
from ._bounded_sizes import bounded_sizes
from ._channel import Channel, ChannelName
from ._code_tree import cut_tree, merge_codes
from ._codebook import (
    N_QUANTILES,
    Codebook,
    Distance,
    Lookup,
    codebook_loss,
    perplexity,
)
from ._codebook_init import CodebookInit, initial_codes, kmeans_plusplus
from ._condition_embedding import ConditionEmbedding, beside
from ._conditional_part import ConditionalPart
from ._count_batch import CountBatch
from ._decoder import CountDecoder, CountParameters, reconstruction_nll
from ._device import on_cpu
from ._distances import distances_without, squared_distances
from ._encoder import Encoder, FeatureScaling
from ._exchange import exchange, quantization_error
from ._factor_model import FactorModel
from ._feature_coverage import FeatureCoverage
from ._gated_layer import GatedLayer
from ._gaussian import Gaussian, GaussianHead, gaussian_kl, gaussian_product
from ._gaussian_mixture import GaussianMixture, initial_mixture
from ._inputs import CONDITIONS, COUNTS, DENOISED_STATE, LABELS, PRESENT, Inputs, flat, nested
from ._label_scores import LabelScores, LabelScoresState
from ._label_scores_fit import fit_label_scores
from ._likelihoods import (
    Likelihood,
    negative_binomial_nll,
    poisson_nll,
    zero_inflated_poisson_nll,
)
from ._linear_path import Axes, LinearPath, LinearViews
from ._mixture_correction import MixtureCorrection, fit_mixture, one_hot
from ._mlp import Norm, hidden_layers
from ._modality_part import ModalityPart, ModalityShape
from ._neighborhood_mean import neighborhood_mean
from ._non_zero_counts import NonZeroCounts, non_zero_counts
from ._profile_decoder import ProfileDecoder
from ._prototype_fit import N_FOLDS, PrototypeFit
from ._prototype_loss import class_means, prototype_loss
from ._prototypes import LabelPrototypes, PrototypeState, nearest_prototype, state_distance
from ._query_offsets import fit_query_offsets
from ._relocation import relocate
from ._ridge import Ridge, fit_ridge
from ._seen_cells import SeenCells
from ._set_apart import set_apart

__all__ = [
    "N_QUANTILES",
    "zero_inflated_poisson_nll",
    "initial_mixture",
    "gaussian_kl",
    "LinearViews",
    "GaussianMixture",
    "GaussianHead",
    "Gaussian",
    "FactorModel",
    "FeatureCoverage",
    "GatedLayer",
    "ChannelName",
    "Channel",
    "AttentionLayer",
    "ConditionalPart",
    "LABELS",
    "ProfileDecoder",
    "gaussian_product",
    "prototype_loss",
    "class_means",
    "CONDITIONS",
    "COUNTS",
    "DENOISED_STATE",
    "PRESENT",
    "Axes",
    "Codebook",
    "CodebookInit",
    "ConditionEmbedding",
    "CountBatch",
    "CountDecoder",
    "CountParameters",
    "Distance",
    "Encoder",
    "FeatureScaling",
    "Inputs",
    "LabelPrototypes",
    "LabelScores",
    "LabelScoresState",
    "Likelihood",
    "LinearPath",
    "Lookup",
    "MixtureCorrection",
    "ModalityPart",
    "ModalityShape",
    "N_FOLDS",
    "Norm",
    "PrototypeFit",
    "PrototypeState",
    "Ridge",
    "SeenCells",
    "beside",
    "bounded_sizes",
    "codebook_loss",
    "cut_tree",
    "distances_without",
    "exchange",
    "fit_label_scores",
    "fit_mixture",
    "fit_query_offsets",
    "fit_ridge",
    "flat",
    "hidden_layers",
    "initial_codes",
    "kmeans_plusplus",
    "merge_codes",
    "negative_binomial_nll",
    "NonZeroCounts",
    "non_zero_counts",
    "nearest_prototype",
    "state_distance",
    "neighborhood_mean",
    "nested",
    "on_cpu",
    "one_hot",
    "perplexity",
    "poisson_nll",
    "quantization_error",
    "reconstruction_nll",
    "relocate",
    "set_apart",
    "squared_distances",
]
