"""Tools that work on the metacells of any method, and on embeddings of samples."""

from ._accessibility import gene_scores, open_peaks
from ._aggregate import aggregate
from ._association import classify_conditions, covariate_association, feature_association
from ._choose_n_metacells import choose_n_metacells
from ._merge_metacells import merge_metacells
from ._peak_gene_links import peak_gene_links
from ._recover_embedding import recover_embedding
from ._spectral import spectral_metacells
from ._split_fragments import split_fragments
from ._weighted_pca import weighted_pca

__all__ = [
    "aggregate",
    "choose_n_metacells",
    "classify_conditions",
    "covariate_association",
    "feature_association",
    "gene_scores",
    "merge_metacells",
    "open_peaks",
    "peak_gene_links",
    "recover_embedding",
    "spectral_metacells",
    "split_fragments",
    "weighted_pca",
]
