import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scmetaq.data import _cells
from scmetaq.metrics import inv, modality_correlation, rna_atac_correlation
from scmetaq.metrics._counts import counts_of

FORMS = pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_array])


@pytest.fixture
def counts(rng):
    return rng.poisson(rng.gamma(0.5, 1.0, size=40), size=(90, 40)).astype(float)


@pytest.fixture
def metacells(rng):
    """Expression (25 x 8), accessibility (25 x 30) and links; gene 6 has none, gene 7 is flat."""
    atac = rng.gamma(2.0, size=(25, 30))
    links = (rng.random((30, 8)) < 0.2).astype(float)
    links[0, :7], links[:, 6] = 1, 0
    rna = atac @ links + rng.normal(size=(25, 8))
    rna[:, 7] = 2.5
    return rna, atac, links


@FORMS
@pytest.mark.parametrize("block_size", [256, 2])
def test_inv_agrees_with_pandas(counts, assignment, form, block_size):
    groups = pd.DataFrame(counts).groupby(assignment)
    expected = (groups.var() / groups.mean()).fillna(1).quantile(0.95, axis=1)
    found = inv(form(counts), assignment, block_size=block_size)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_alike_cells_have_no_inv_mixed_states_more_and_genes_without_counts_that_of_poisson(rng):
    found = inv(np.repeat([[1.0, 2, 3]], 5, axis=0), [0, 0, 0, 0, 1])
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(found[1])  # one cell
    assert inv(np.zeros((4, 5)), [0, 0, 1, 1]).tolist() == [1, 1]
    state = np.repeat([0, 1], 100)
    X = rng.poisson(rng.gamma(1, 2, size=(2, 60))[state])
    apart, mixed = state * 2 + np.tile([0, 1], 100), np.tile(np.repeat([0, 1, 2, 3], 2), 25)
    assert inv(X, apart).max() < inv(X, mixed).min()
    with pytest.raises(ValueError, match="without negative values"):
        inv(X - X.mean(axis=0), state)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array, pd.DataFrame])
@pytest.mark.parametrize("block_size", [1024, 3])
def test_correlation_with_accessibility_agrees_with_numpy(metacells, make, block_size):
    rna, atac, links = metacells
    found = rna_atac_correlation(*map(make, metacells), block_size=block_size)
    expected = [np.corrcoef(rna[:, g], atac @ links[:, g])[0, 1] for g in range(6)]
    np.testing.assert_allclose(found[:6], expected)
    assert found[6:].isna().all()


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, pd.DataFrame])
@pytest.mark.parametrize("block_size", [1024, 3])
def test_pairs_of_modalities_are_correlated_weighted_by_size(metacells, rng, make, block_size):
    rna, atac, links = metacells
    sizes = rng.integers(1, 9, size=25)
    genes = atac @ links
    expected = []
    for gene in range(6):
        cov = np.cov(rna[:, gene], genes[:, gene], fweights=sizes)
        expected.append(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))
    options = {"sizes": sizes, "block_size": block_size}
    found = modality_correlation(make(rna), make(genes), **options)
    np.testing.assert_allclose(found[:6], expected)
    assert found[6:].isna().all()
    linked = rna_atac_correlation(rna, atac, links, **options)
    np.testing.assert_allclose(linked, found)
    alike = modality_correlation(rna, genes)
    np.testing.assert_allclose(alike, rna_atac_correlation(rna, atac, links))
    assert (alike[:6] != found[:6]).all()
    for wrong in ({"second": genes[:, 1:]}, {"second": genes, "sizes": [1] * 24}):
        with pytest.raises(ValueError, match="same pairs of features and of at least three metac"):
            modality_correlation(rna, **wrong)


def test_tables_keep_their_names_which_must_not_differ(metacells):
    rna, atac, links = metacells
    names = [f"gene{g}" for g in range(8)]
    found = rna_atac_correlation(pd.DataFrame(rna[::-1], columns=names), atac[::-1], links)
    assert found.index.tolist() == names
    np.testing.assert_allclose(found, rna_atac_correlation(*metacells))
    rows, genes, peaks = (list(map(str, range(n))) for n in (25, 8, 30))
    names = [(rows, genes), (rows, peaks), (peaks, genes)]
    tables = [pd.DataFrame(of, *axes) for of, axes in zip(metacells, names, strict=True)]
    found = rna_atac_correlation(*tables)
    np.testing.assert_array_equal(found, rna_atac_correlation(*metacells))
    for at, change, what in (
        (1, tables[1][::-1], "metacells in the rows of `rna_metacells` and of `atac_metacells`"),
        (2, tables[2][::-1], "peaks in the columns of `atac_metacells` and the rows of `links`"),
        (2, tables[2].iloc[:, ::-1], "genes in the columns of `rna_metacells` and of `links`"),
    ):
        with pytest.raises(ValueError, match=f"Expected the same {what}, in the same order"):
            rna_atac_correlation(*tables[:at], change, *tables[at + 1 :])


def test_matrices_that_do_not_fit_are_named(metacells):
    rna, atac, links = metacells
    for given, error, match in (
        ((rna, atac[1:], links), ValueError, r"found \(25, 8\), \(24, 30\) and \(30, 8\)"),
        ((rna, atac, links.T), ValueError, r"\(8, 30\)"),
        ((rna[:2], atac[:2], links), ValueError, r"at least three metacells, .*\(2, 8\)"),
        (
            (AnnData(rna), atac, links),
            TypeError,
            "`rna_metacells` as a metacells by genes .*AnnData",
        ),
        ((rna, atac, links.astype(str)), TypeError, "Expected real numbers in `links`"),
    ):
        with pytest.raises(error, match=match):
            rna_atac_correlation(*given)
    with pytest.raises(ValueError, match="block_size to be at least 1, found 0"):
        rna_atac_correlation(rna, atac, links, block_size=0)


@pytest.mark.parametrize("n_cells", [4, 4096])
@FORMS
def test_counts_pass_fractions_give_a_warning_and_invalid_values_are_counted(
    counts, form, n_cells, monkeypatch
):
    monkeypatch.setattr(_cells, "BLOCK", n_cells)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts_of(AnnData(form(counts)), None)
    counts[89, 39] = 0.5
    with pytest.warns(UserWarning, match="in `X`, found fractions"):
        counts_of(AnnData(form(counts)), None)
    counts[[0, 3, 89], [1, 2, 39]] = [-1, np.nan, np.inf]
    cells = AnnData(form(counts), layers={"raw": form(counts)})
    with pytest.raises(ValueError, match=r"in `X`, found 3 values .* layers there, 'raw'"):
        counts_of(cells, None)
