import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics import rna_atac_correlation


@pytest.fixture
def metacells(rng):
    """Expression (25 x 8), accessibility (25 x 30) and links; gene 6 has none, gene 7 is flat."""
    atac = rng.gamma(2.0, size=(25, 30))
    links = (rng.random((30, 8)) < 0.2).astype(float)
    links[0, :7], links[:, 6] = 1, 0
    rna = atac @ links + rng.normal(size=(25, 8))
    rna[:, 7] = 2.5
    return rna, atac, links


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array, pd.DataFrame])
@pytest.mark.parametrize("block_size", [1024, 3])
def test_agrees_with_numpy(metacells, make, block_size):
    rna, atac, links = metacells
    found = rna_atac_correlation(*map(make, metacells), block_size=block_size)
    expected = [np.corrcoef(rna[:, g], atac @ links[:, g])[0, 1] for g in range(6)]
    np.testing.assert_allclose(found[:6], expected)
    assert found[6:].isna().all()


def test_genes_keep_their_names(metacells):
    rna, atac, links = metacells
    names = [f"gene{g}" for g in range(8)]
    found = rna_atac_correlation(pd.DataFrame(rna, columns=names), atac, links)
    assert found.index.tolist() == names


def test_order_of_metacells_does_not_matter(metacells, rng):
    rna, atac, links = metacells
    order = rng.permutation(25)
    np.testing.assert_allclose(
        rna_atac_correlation(rna[order], atac[order], links), rna_atac_correlation(*metacells)
    )


def test_shapes_that_do_not_fit_are_named(metacells):
    rna, atac, links = metacells
    with pytest.raises(ValueError, match=r"found \(25, 8\), \(24, 30\) and \(30, 8\)"):
        rna_atac_correlation(rna, atac[1:], links)
    with pytest.raises(ValueError, match=r"\(8, 30\)"):
        rna_atac_correlation(rna, atac, links.T)
    with pytest.raises(ValueError, match="three metacells to correlate across, found 2"):
        rna_atac_correlation(rna[:2], atac[:2], links)
