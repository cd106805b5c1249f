"""Tools that work on the metacells of any method, and on embeddings of samples."""

from scmetaq.tl._aggregate import aggregate
from scmetaq.tl._choose_n_metacells import choose_n_metacells
from scmetaq.tl._classify_conditions import classify_conditions
from scmetaq.tl._covariate_association import covariate_association
from scmetaq.tl._feature_association import feature_association
from scmetaq.tl._peak_gene_links import peak_gene_links
from scmetaq.tl._recover_embedding import recover_embedding
from scmetaq.tl._spectral_metacells import spectral_metacells

__all__ = [
    "aggregate",
    "classify_conditions",
    "covariate_association",
    "feature_association",
    "choose_n_metacells",
    "peak_gene_links",
    "recover_embedding",
    "spectral_metacells",
]
