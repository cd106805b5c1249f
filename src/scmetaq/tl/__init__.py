"""Tools that work on the metacells of any method."""

from scmetaq.tl._aggregate import aggregate
from scmetaq.tl._choose_n_metacells import choose_n_metacells
from scmetaq.tl._peak_gene_links import peak_gene_links
from scmetaq.tl._recover_embedding import recover_embedding
from scmetaq.tl._spectral_metacells import spectral_metacells

__all__ = [
    "aggregate",
    "choose_n_metacells",
    "peak_gene_links",
    "recover_embedding",
    "spectral_metacells",
]
