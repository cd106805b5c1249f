import numpy as np
import pandas as pd
import pytest
import scipy.stats
from anndata import AnnData
from scipy import sparse

import scmetaq
from scmetaq.tl import _peak_gene_links, aggregate, peak_gene_links
from scmetaq.tl._peak_gene_links import check_chromosomes, gene_starts, near_pairs, peak_places

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
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    genes["chrom"] = chrom[np.arange(N_GENES) % 3]
    genes["start"] = 1_000_000 * np.arange(1, N_GENES + 1)
    genes["end"], genes["strand"] = genes["start"] + 50_000, ["+", "-"] * (N_GENES // 2)
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


def test_planted_links_are_found_and_all_agree_with_one_pair_at_a_time(pair):
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
        others = access.iloc[:, np.argsort(gap)[:20]]
        of_others = scipy.stats.pearsonr(expression[[link.gene]], others).statistic
        z = (r - np.mean(of_others)) / np.std(of_others, ddof=1)
        assert link.pvalue == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=1e-6)
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
    rna.var[["start", "end"]] += 10**8
    none = peak_gene_links(rna, atac)
    assert (len(none), *none.columns) == (0, *links.columns)


def test_metacells_are_aligned_by_name_and_sums_do_as_means(pair, monkeypatch):
    rna, atac = pair
    expected = peak_gene_links(rna, atac)
    summed = atac[::-1].copy()
    summed.X = summed.X.multiply(7.0).tocsr()
    pd.testing.assert_frame_equal(peak_gene_links(rna, summed), expected)
    without = peak_gene_links(rna[3:], atac[:-3])
    both = peak_gene_links(rna[3:-3].copy(), atac[3:-3].copy())
    pd.testing.assert_frame_equal(without, both)
    # blocks do not matter, and input stays as it is
    before = rna.copy(), atac.copy()
    monkeypatch.setattr(_peak_gene_links, "_BLOCK", 1)
    pd.testing.assert_frame_equal(peak_gene_links(rna, atac), expected)
    for now, then in zip((rna, atac), before, strict=True):
        assert abs(now.X - then.X).max() == 0
        pd.testing.assert_frame_equal(now.var, then.var)


def test_fewer_peaks_make_a_smaller_background_and_constant_features_are_left_out(pair):
    rna, atac = pair
    atac = atac[:, :90].copy()
    with pytest.warns(UserWarning, match="Expected 100 peaks for the background of each link"):
        found = peak_gene_links(rna, atac)
    n = min((~atac.var_names.str.startswith(f"chr{i}:")).sum() for i in (1, 2, 3))
    pd.testing.assert_frame_equal(found, peak_gene_links(rna, atac, n_background=int(n)))
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


OTHERS = [f"other{i}" for i in range(K)]


def changed(m, X=None, names=None, **columns):
    X, names = m.X if X is None else X, m.obs_names if names is None else names
    return AnnData(X, m.obs.set_axis(names), m.var.assign(**columns))


@pytest.mark.parametrize(
    ("which", "change", "error", "message"),
    [
        (0, lambda m: changed(m, names=OTHERS), ValueError, "metacells in both.* 0.*'other0'"),
        (0, lambda m: changed(m, names=["mc0"] * K), ValueError, "unique names .*`rna_metacells`"),
        (0, lambda m: changed(m, m.X * -1), ValueError, "`rna_metacells`, `X`, found .* negative"),
        (0, lambda m: changed(m, chrom="9"), ValueError, r"found genes on \['9'\] and peaks on"),
        (0, lambda m: AnnData(m.X, m.obs), KeyError, "gene coordinates"),
        (0, lambda m: AnnData(obs=m.obs, var=m.var), ValueError, "found nothing"),
        (1, lambda m: changed(m, gc="unknown"), ValueError, r"var\['gc'\]`, found no number"),
        (1, lambda m: m[:, m.var_names.str.startswith("chr1:")], ValueError, "at least 10 peaks"),
        (1, lambda m: m.obs, TypeError, "`atac_metacells` as an AnnData, found DataFrame"),
    ],
)
def test_bad_metacells_are_named(pair, which, change, error, message):
    given = list(pair)
    given[which] = change(pair[which])
    with pytest.raises(error, match=message):
        peak_gene_links(*given)


def test_bad_numbers_are_named(pair):
    for options, error, message in (
        ({"window": -1}, ValueError, "`window` in base pairs, at least 0, found -1"),
        ({"window": np.nan}, ValueError, "at least 0, found nan"),
        ({"n_background": 1}, ValueError, "at least 10, found 1"),
        ({"n_background": 50.0}, TypeError, "an int, found 50.0"),
    ):
        with pytest.raises(error, match=message):
            peak_gene_links(*pair, **options)


def genes(**columns):
    frame = pd.DataFrame({"chrom": ["chr1", "chr1", "chr2", ""], "strand": ["+", "-", "+", "+"]})
    frame = frame.assign(start=[1000, 1000, 500, -1], end=[5000, 5000, 900, -1])
    return frame.assign(**columns)


def test_start_sites_and_signs_of_distances_depend_on_the_strand():
    starts = gene_starts(genes())
    assert starts["tss"].tolist()[:3] == [1000, 5000, 500]
    assert starts["chrom"].tolist() == ["chr1", "chr1", "chr2", ""]
    starts = gene_starts(genes(strand=[1, -1, 1.0, -1.0]))  # read as numbers, too
    assert starts["forward"].tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match=r"""found \['forward', 'reverse'\]. Rename"""):
        gene_starts(genes(strand=["forward", "reverse", "+", "+"]))
    peaks = peak_places(pd.DataFrame(index=["chr1:700-900", "chr1:990-1010", "chr1:4500-4900"]))
    pairs = near_pairs(gene_starts(genes()), peaks, 4000)
    found = {(g, p): d for g, p, d in pairs.itertuples(index=False)}
    assert found == {(0, 0): -100, (0, 1): 0, (0, 2): 3500, (1, 1): 3990, (1, 2): 100}


def test_places_are_read_from_names_or_columns():
    names = ["chr1:100-200", "chr1_random-5-9", "X_7_8"]
    read = peak_places(pd.DataFrame(index=names))
    assert read["chrom"].tolist() == ["chr1", "chr1_random", "X"]
    assert read["end"].tolist() == [200, 9, 8]
    columns = pd.DataFrame({"chrom": ["chr3"], "start": [1], "end": [2]}, index=["chr1:5-6"])
    assert peak_places(columns).iloc[0].tolist() == ["chr3", 1, 2]


@pytest.mark.parametrize("window", [0, 50, 3000])
def test_pairs_agree_with_looking_at_every_pair(rng, window):
    n, m = 60, 200
    starts, sizes = rng.integers(0, 20_000, (2, n))
    table = pd.DataFrame({"chrom": rng.choice(["1", "2", "3"], n), "start": starts})
    table["end"], table["strand"] = starts + sizes, rng.choice(["+", "-"], n)
    first = rng.integers(0, 20_000, m)
    peaks = pd.DataFrame({"chrom": rng.choice(["1", "2", "4"], m), "start": first})
    peaks["end"] = first + rng.integers(1, 2000, m)
    expected = set()
    for g, gene in enumerate(table.itertuples()):
        tss, sign = (gene.start, 1) if gene.strand == "+" else (gene.end, -1)
        for p, peak in enumerate(peaks.itertuples()):
            gap = max(peak.start - tss, 0) + min(peak.end - tss, 0)
            if peak.chrom == gene.chrom and abs(gap) <= window:
                expected.add((g, p, sign * gap))
    pairs = near_pairs(gene_starts(table), peak_places(peaks), window)
    assert set(pairs.itertuples(index=False, name=None)) == expected
    assert len(pairs) == len(expected)
    along = pairs.assign(start=peaks["start"].to_numpy()[pairs["peak"]])
    assert along.equals(along.sort_values(["gene", "start"], kind="stable"))
    none = near_pairs(gene_starts(table), peak_places(pd.DataFrame(index=["chr9:1-2"])), 10)
    assert (len(none), *none.columns) == (0, "gene", "peak", "distance")


def test_missing_places_are_named_and_chromosomes_must_be_spelled_alike():
    with pytest.raises(KeyError, match=r"found no \['start', 'strand'\]. Columns there"):
        gene_starts(genes().drop(columns=["start", "strand"]))
    for none in ({"start": np.nan}, {"strand": "*"}):
        with pytest.raises(ValueError, match="genes with a place .* or `strand` empty for all 4"):
            gene_starts(genes(**none))
    with pytest.raises(ValueError, match="peaks with a place in `atac_metacells.var`.* for all 4"):
        peak_places(genes(end=-1))
    with pytest.raises(ValueError, match="found 2 other names, e.g. 'peak1'"):
        peak_places(pd.DataFrame(index=["chr1:1-2", "peak1", "peak2"]))
    # genes without a strand or an end have no place
    strands = genes(strand=["+", np.nan, "*", "-"])
    assert gene_starts(strands)["chrom"].tolist() == ["chr1", "", "", ""]
    ends = genes(end=[5000, np.inf, 900, 1])
    assert peak_places(ends)["chrom"].tolist() == ["chr1", "", "chr2", ""]
    peaks = peak_places(pd.DataFrame(index=["1:700-900", "2:990-1010"]))
    with pytest.raises(ValueError, match=r"genes on \['chr1', 'chr2'\] and peaks on \['1', '2'\]"):
        check_chromosomes(gene_starts(genes()), peaks)
    check_chromosomes(gene_starts(genes(chrom=["chr1", "1", "2", ""])), peaks)
