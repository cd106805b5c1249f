import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
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


def test_tables_whose_names_differ_are_refused(metacells):
    rows, genes, peaks = (list(map(str, range(n))) for n in (25, 8, 30))
    rna, atac, links = metacells
    tables = [
        pd.DataFrame(rna, rows, genes),
        pd.DataFrame(atac, rows, peaks),
        pd.DataFrame(links, peaks, genes),
    ]
    found = rna_atac_correlation(*tables)
    np.testing.assert_array_equal(found, rna_atac_correlation(*metacells))
    for at, change, told in (
        (1, tables[1][::-1], "metacells in the rows of `rna_metacells` and of `atac_metacells`"),
        (2, tables[2][::-1], "peaks in the columns of `atac_metacells` and the rows of `links`"),
        (2, tables[2].iloc[:, ::-1], "genes in the columns of `rna_metacells` and of `links`"),
    ):
        with pytest.raises(ValueError, match=f"Expected the same {told}, in the same order"):
            rna_atac_correlation(*tables[:at], change, *tables[at + 1 :])


def test_what_is_no_matrix_is_named(metacells):
    rna, atac, links = metacells
    with pytest.raises(TypeError, match="`rna_metacells` as a metacells by genes .*found AnnData"):
        rna_atac_correlation(AnnData(rna), atac, links)
    with pytest.raises(TypeError, match="Expected numbers in `links`"):
        rna_atac_correlation(rna, atac, links.astype(str))
    with pytest.raises(ValueError, match="`block_size` as a whole number of at least 1, found 0"):
        rna_atac_correlation(rna, atac, links, block_size=0)
