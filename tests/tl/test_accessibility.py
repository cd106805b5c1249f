import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from anndata import AnnData
from scipy import sparse

import scmetaq
from scmetaq.tl import aggregate, gene_scores, open_peaks, peak_gene_links

K, N_PEAKS = 8, 60


@pytest.fixture
def atac(rng):
    """Metacells of summed counts of peaks of 500 to 1,500 base pairs, of which some are open."""
    width = rng.integers(500, 1_500, N_PEAKS)
    mean = np.where(rng.random((K, N_PEAKS)) < 0.3, 9.0, 0.6)
    names = [f"chr{1 + i % 3}:{10_000 * i}-{10_000 * i + w}" for i, w in enumerate(width)]
    obs = pd.DataFrame({"n_cells": 5}, index=[f"mc{i}" for i in range(K)])
    adata = AnnData(sparse.csr_matrix(rng.poisson(mean) / 5.0), obs, pd.DataFrame(index=names))
    adata.layers["counts"] = adata.X * 5
    adata.layers["counts"].data = np.rint(adata.layers["counts"].data)
    return adata


@pytest.fixture
def links(atac, rng):
    gene = np.repeat(["b", "a", "c", "d"], 10)
    table = pd.DataFrame({"gene": gene, "peak": rng.permutation(atac.var_names)[:40]})
    table["r"], table["pvalue"] = rng.uniform(-0.2, 0.9, 40), rng.uniform(0, 0.3, 40)
    table.loc[table["gene"] == "c", "pvalue"] = 0.9
    return table


def test_a_score_is_the_sum_of_correlation_times_accessibility_over_links(atac, links):
    before = atac.copy()
    scores = gene_scores(atac, links)
    X = atac.X.toarray()
    access = pd.DataFrame(np.log1p(1e4 * X / X.sum(1, keepdims=True)), columns=atac.var_names)
    for gene in ("b", "a", "d"):
        expected, n = np.zeros(K), 0
        for link in links[links["gene"] == gene].itertuples():
            if link.pvalue < 0.1 and link.r > 0.1:
                expected, n = expected + link.r * access[link.peak].to_numpy(), n + 1
        assert n > 0
        np.testing.assert_allclose(scores[:, gene].X.toarray()[:, 0], expected, rtol=1e-12)
        assert scores.var.loc[gene, "n_peaks"] == n
    assert scores.var_names.tolist() == ["b", "a", "d"]  # "c" has no link that is used
    pd.testing.assert_frame_equal(scores.obs, atac.obs)
    assert abs(atac.X - before.X).max() == 0
    # metacells are normalised, so sums have the scores of means
    atac.X = atac.layers["counts"]
    np.testing.assert_allclose(gene_scores(atac, links).X.toarray(), scores.X.toarray())
    more = gene_scores(atac, links, max_pvalue=0.3, min_r=0)
    assert more["mc0", "d"].X[0, 0] > scores["mc0", "d"].X[0, 0]


def test_scores_of_cortex_go_with_expression_in_metacells_that_the_links_have_not_seen():
    mdata = scmetaq.data.demo_multiome()
    is_left = np.arange(mdata.n_obs) % 2 == 0
    halves = [aggregate(mdata[of].copy(), "cell_type") for of in (is_left, ~is_left)]
    parts = mdata[is_left].copy()
    links = peak_gene_links(*(aggregate(parts, "cell_type_fine")[of] for of in ("rna", "atac")))
    scores = gene_scores(halves[1]["atac"], links)
    rna = halves[1]["rna"][scores.obs_names, scores.var_names].layers["counts"].toarray()
    rna = np.log1p(1e4 * rna / rna.sum(1, keepdims=True))
    r = [
        scipy.stats.spearmanr(a, b).statistic
        for a, b in zip(scores.X.toarray().T, rna.T, strict=True)
        if len(set(b)) > 1
    ]
    assert len(r) > 200
    assert np.median(r) > 0.2


def test_open_peaks_are_those_above_the_quantile_of_the_poisson_distribution(atac):
    before = atac.copy()
    found = open_peaks(atac)
    counts = atac.layers["counts"].toarray()
    ends = atac.var_names.str.split(":").str[1].str.split("-")
    width = np.array([int(end) - int(start) for start, end in ends])
    expected = np.zeros((K, N_PEAKS), bool)
    for k in range(K):
        level = 0.01 / (counts[k] > 0).sum()
        for p in range(N_PEAKS):
            mean = counts[k].sum() * width[p] / (5_000 * N_PEAKS)
            expected[k, p] = counts[k, p] > scipy.stats.poisson.ppf(1 - level, mean)
    np.testing.assert_array_equal(found.X.toarray(), expected)
    assert 50 < expected.sum() < 250
    assert found.obs["n_open"].tolist() == expected.sum(1).tolist()
    assert found.var["n_open"].tolist() == expected.sum(0).tolist()
    assert (*atac.obs, *atac.var) == (*before.obs, *before.var)
    # a longer genome expects fewer counts in each peak, and a stricter level opens fewer
    assert open_peaks(atac, genome_size=1e9).X.sum() > expected.sum()
    assert open_peaks(atac, max_pvalue=1e-9).X.sum() < expected.sum()
    atac.X = atac.layers.pop("counts")
    assert (open_peaks(atac, layer=None).X != found.X).nnz == 0


def test_chance_opens_hardly_a_peak(rng):
    """Counts spread over a genome of which the peaks are a tenth."""
    mean = np.full((2_000, 100), 5.0)
    atac = AnnData(sparse.csr_matrix(rng.poisson(mean)))
    atac.var_names = [f"1:{2_000 * i}-{2_000 * i + 1_000}" for i in range(100)]
    found = open_peaks(atac, layer=None, genome_size=100_000)
    assert 0 < (found.obs["n_open"] > 0).mean() < 0.01


def test_peaks_without_a_place_are_never_open_and_results_can_be_written(atac, tmp_path):
    places = pd.DataFrame({"chrom": "chr1", "start": np.arange(N_PEAKS)}, index=atac.var_names)
    atac.var = places.assign(end=places["start"] + 500)
    whole = open_peaks(atac)
    best = whole.var["n_open"].idxmax()
    atac.var.loc[best, "chrom"] = ""
    found = open_peaks(atac)
    assert whole.var.loc[best, "n_open"] > 0 == found.var.loc[best, "n_open"]
    found.write_h5ad(tmp_path / "open.h5ad")
    read = anndata.read_h5ad(tmp_path / "open.h5ad")
    assert read.X.dtype == bool
    assert (read.X != found.X).nnz == 0


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda of: of.to_numpy(), {}, KeyError, r"found no \['gene', 'peak', 'r', 'pvalue'\]"),
        (lambda of: of.drop(columns="r"), {}, KeyError, r"found no \['r'\]. Pass the table of"),
        (lambda of: pd.concat([of, of]), {}, ValueError, "unique pairs of gene and peak .* 40"),
        (lambda of: of.assign(pvalue=np.nan), {}, ValueError, "r > 0.1 and p < 0.1, found none"),
        (lambda of: of.assign(peak=of["peak"] + "0"), {}, ValueError, "in `links`, found 'chr"),
        (lambda of: of, {"max_pvalue": 2}, ValueError, "max_pvalue between 0 and 1, found 2"),
        (lambda of: of, {"min_r": "high"}, ValueError, "min_r between 0 and 1, found 'high'"),
    ],
)
def test_links_that_cannot_be_used_are_named(atac, links, change, options, error, message):
    with pytest.raises(error, match=message):
        gene_scores(atac, change(links), **options)


def test_metacells_that_cannot_be_used_are_named(atac, links):
    with pytest.raises(TypeError, match="`atac_metacells` as an AnnData, found DataFrame"):
        gene_scores(atac.to_df(), links)
    with pytest.raises(ValueError, match="`atac_metacells`, `X`, found .* negative"):
        gene_scores(AnnData(-atac.X, atac.obs, atac.var), links)
    with pytest.raises(ValueError, match="unique names of peaks"):
        gene_scores(AnnData(atac.X, atac.obs, atac.var.set_axis(["p"] * N_PEAKS)), links)
    for options, error, message in (
        ({"layer": "raw"}, KeyError, "`layer` to name a layer, found no 'raw'"),
        ({"layer": None}, ValueError, "sums of raw counts in 'X', found fractions. Name the layer"),
        ({"genome_size": 3_000}, ValueError, "`genome_size` with .* of peaks, found 3000"),
        ({"genome_size": "mm10"}, ValueError, "found 'mm10'. Pass e.g. 2.7e9"),
        ({"max_pvalue": -1}, ValueError, "max_pvalue between 0 and 1, found -1"),
    ):
        with pytest.raises(error, match=message):
            open_peaks(atac, **options)
