import numpy as np
import pandas as pd
import pytest
import scipy.stats
from anndata import AnnData
from scipy import sparse

import scmetaq
from scmetaq.tl import _peak_gene_links, aggregate, peak_gene_links

N_GENES, N_PEAKS, K = 12, 240, 30


@pytest.fixture
def pair():
    """Metacells in which the first peak of each gene goes with it, and the second against it."""
    rng = np.random.default_rng(0)
    state = rng.gamma(2, 1, size=(K, N_GENES))
    rna = rng.poisson(40 * state).astype(float)
    access = rng.gamma(5, 4, size=(K, N_PEAKS))
    access[:, 0:24:2] = 10 * state
    access[:, 1:24:2] = 10 / state
    atac = rng.poisson(access).astype(float)
    chrom = np.array(["chr1", "chr2", "chr3"])
    genes = pd.DataFrame(
        {
            "chrom": chrom[np.arange(N_GENES) % 3],
            "start": 1_000_000 * np.arange(1, N_GENES + 1),
            "end": 1_000_000 * np.arange(1, N_GENES + 1) + 50_000,
            "strand": ["+", "-"] * (N_GENES // 2),
        },
        index=[f"gene{i}" for i in range(N_GENES)],
    )
    of_gene = np.r_[np.repeat(np.arange(N_GENES), 2), rng.integers(0, N_GENES, N_PEAKS - 24)]
    start = genes["start"].to_numpy()[of_gene] + rng.integers(-90_000, 140_000, N_PEAKS)
    start[:24] = genes["start"].to_numpy()[of_gene[:24]] + np.tile([20_000, 30_000], 12)
    names = [f"{c}:{s}-{s + 500}" for c, s in zip(genes["chrom"].iloc[of_gene], start, strict=True)]
    obs = pd.DataFrame(index=[f"mc{i}" for i in range(K)])
    return (
        AnnData(sparse.csr_matrix(rna), obs=obs, var=genes),
        AnnData(sparse.csr_matrix(atac), obs=obs.copy(), var=pd.DataFrame(index=names)),
    )


def log_normalised(adata):
    X = adata.X.toarray()
    log = np.log1p(1e4 * X / X.sum(1, keepdims=True))
    return pd.DataFrame(log, adata.obs_names, adata.var_names)


def test_correlations_and_pvalues_agree_with_one_pair_at_a_time(pair):
    rna, atac = pair
    links = peak_gene_links(rna, atac, n_background=20)
    expression, access = log_normalised(rna), log_normalised(atac)
    chrom = atac.var_names.str.split(":").str[0].to_numpy()
    log_mean = np.log(access.mean().to_numpy())
    for link in links.sample(15, random_state=0).itertuples():
        r = scipy.stats.pearsonr(expression[link.gene], access[link.peak]).statistic
        assert link.r == pytest.approx(r, abs=1e-9)
        gap = np.abs(log_mean - log_mean[atac.var_names.get_loc(link.peak)])
        gap[chrom == link.peak.split(":")[0]] = np.inf
        of_others = [
            scipy.stats.pearsonr(expression[link.gene], access.iloc[:, b]).statistic
            for b in np.argsort(gap)[:20]
        ]
        z = (r - np.mean(of_others)) / np.std(of_others, ddof=1)
        assert link.pvalue == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=1e-6)


def test_planted_links_are_found_and_signed(pair):
    rna, atac = pair
    links = peak_gene_links(rna, atac).set_index(["gene", "peak"])
    own = [(rna.var_names[i // 2], atac.var_names[i]) for i in range(24)]
    planted = links.loc[own]
    assert (planted["r"][::2] > 0.5).all()
    assert (planted["r"][1::2] < -0.4).all()
    assert planted["pvalue"].max() < 1e-2
    others = links.drop(own)
    assert (others["pvalue"] < 0.05).mean() < 0.12


def test_the_table(pair):
    rna, atac = pair
    links = peak_gene_links(rna, atac, window=25_000)
    assert links.columns.tolist() == ["gene", "peak", "distance", "r", "pvalue"]
    assert links.index.tolist() == list(range(len(links)))
    assert links["distance"].abs().max() <= 25_000
    assert links["distance"].dtype == np.int64
    wider = peak_gene_links(rna, atac, window=100_000)
    assert len(wider) > len(links)
    merged = links.merge(wider, on=["gene", "peak"])
    np.testing.assert_array_equal(merged["r_x"], merged["r_y"])
    forward = links[(links["gene"] == "gene0") & (links["peak"] == atac.var_names[0])]
    assert forward["distance"].tolist() == [20_000]


def test_metacells_are_aligned_by_name_and_sums_do_as_means(pair):
    rna, atac = pair
    expected = peak_gene_links(rna, atac)
    summed = atac[::-1].copy()
    summed.X = summed.X.multiply(7.0).tocsr()
    pd.testing.assert_frame_equal(peak_gene_links(rna, summed), expected)
    without = peak_gene_links(rna[3:], atac[:-3])
    both = peak_gene_links(rna[3:-3].copy(), atac[3:-3].copy())
    pd.testing.assert_frame_equal(without, both)


def test_blocks_and_input_stay_as_they_are(pair, monkeypatch):
    rna, atac = pair
    before = rna.copy(), atac.copy()
    expected = peak_gene_links(rna, atac)
    monkeypatch.setattr(_peak_gene_links, "_BLOCK", 1)
    pd.testing.assert_frame_equal(peak_gene_links(rna, atac), expected)
    for now, then in zip((rna, atac), before, strict=True):
        assert abs(now.X - then.X).max() == 0
        pd.testing.assert_frame_equal(now.var, then.var)


def test_fewer_peaks_make_a_smaller_background(pair):
    rna, atac = pair
    atac = atac[:, :90].copy()
    with pytest.warns(UserWarning, match="Expected 100 peaks for the background of each link"):
        found = peak_gene_links(rna, atac)
    n = min((~atac.var_names.str.startswith(f"chr{i}:")).sum() for i in (1, 2, 3))
    pd.testing.assert_frame_equal(found, peak_gene_links(rna, atac, n_background=int(n)))


def test_constant_features_are_left_out(pair):
    rna, atac = pair
    silent, closed = rna.var_names[3], atac.var_names[0]
    rna.X = rna.X.multiply(rna.var_names != silent).tocsr()
    atac.X = atac.X.multiply(atac.var_names != closed).tocsr()
    links = peak_gene_links(rna, atac)
    assert silent not in set(links["gene"])
    assert closed not in set(links["peak"])
    assert not links.isna().any().any()


def test_gc_content_is_matched_too(pair):
    rna, atac = pair
    plain = peak_gene_links(rna, atac, n_background=20)
    atac.var["gc"] = np.random.default_rng(0).uniform(0.3, 0.7, N_PEAKS)
    matched = peak_gene_links(rna, atac, n_background=20)
    np.testing.assert_array_equal(plain["r"], matched["r"])
    assert not np.allclose(plain["pvalue"], matched["pvalue"])
    atac.var["gc"] *= 100
    percent = peak_gene_links(rna, atac, n_background=20)
    np.testing.assert_allclose(percent["pvalue"], matched["pvalue"], rtol=1e-6)


def test_peaks_of_cortex_go_with_their_genes():
    mdata = scmetaq.data.demo_multiome()
    metacells = aggregate(mdata, mdata.obs["cell_type_fine"])
    links = peak_gene_links(metacells["rna"], metacells["atac"])
    near = links[links["distance"].abs() < 2_000]
    assert len(links) > 3_000
    assert near["r"].median() > 0.1
    significant = links[links["pvalue"] < 1e-2]
    assert len(significant) > 0.02 * len(links)
    assert (significant["r"] > 0).mean() > 0.9


def test_no_peak_in_reach(pair):
    rna, atac = pair
    rna.var[["start", "end"]] += 10**8
    links = peak_gene_links(rna, atac)
    assert len(links) == 0
    assert links.columns.tolist() == ["gene", "peak", "distance", "r", "pvalue"]


def renamed(adata, names):
    other = adata.copy()
    other.obs_names = names
    return other


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda rna, atac: {"atac": renamed(atac, [f"other{i}" for i in range(K)])},
            ValueError,
            "3 metacells in both modalities, found 0.*'other0'",
        ),
        (
            lambda rna, atac: {"rna": renamed(rna, ["mc0"] * K)},
            ValueError,
            "unique names of metacells in `rna_metacells`",
        ),
        (
            lambda rna, atac: {"rna": AnnData(rna.X.toarray() - 5, rna.obs, rna.var)},
            ValueError,
            "in `X` of `rna_metacells`, found negative",
        ),
        (
            lambda rna, atac: {"atac": atac[:, atac.var_names.str.startswith("chr1:")].copy()},
            ValueError,
            "at least 10 peaks for its background, found",
        ),
        (
            lambda rna, atac: {"rna": AnnData(rna.X, rna.obs, rna.var.assign(chrom="9"))},
            ValueError,
            r"found genes on \['9'\] and peaks on",
        ),
        (
            lambda rna, atac: {"atac": AnnData(atac.X, atac.obs, atac.var.assign(gc="unknown"))},
            ValueError,
            r"`atac_metacells.var\['gc'\]`, found no number",
        ),
        (lambda rna, atac: {"rna": AnnData(rna.X, rna.obs)}, KeyError, "gene coordinates"),
        (lambda rna, atac: {"rna": AnnData(obs=rna.obs, var=rna.var)}, ValueError, "found nothing"),
        (lambda rna, atac: {"atac": atac.obs}, TypeError, "per modality, found DataFrame"),
        (lambda *_: {"window": -1}, ValueError, "`window` as a number.*at least 0, found -1"),
        (lambda *_: {"window": np.nan}, ValueError, "at least 0, found nan"),
        (lambda *_: {"n_background": 1}, ValueError, "whole number of peaks, at least 10, found 1"),
        (lambda *_: {"n_background": 50.0}, ValueError, "at least 10, found 50.0"),
    ],
)
def test_bad_input_is_named(pair, change, error, message):
    given = {"rna": pair[0], "atac": pair[1], **change(*pair)}
    with pytest.raises(error, match=message):
        peak_gene_links(given.pop("rna"), given.pop("atac"), **given)
