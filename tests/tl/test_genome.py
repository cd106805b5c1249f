import numpy as np
import pandas as pd
import pytest

from scmetaq.tl._genome import check_chromosomes, gene_starts, near_pairs, peak_places


def genes(**columns):
    frame = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr2", ""],
            "start": [1000, 1000, 500, -1],
            "end": [5000, 5000, 900, -1],
            "strand": ["+", "-", "+", "+"],
        },
        index=["a", "b", "c", "d"],
    )
    return frame.assign(**columns)


def test_the_start_site_depends_on_the_strand():
    starts = gene_starts(genes())
    assert starts["tss"].tolist()[:3] == [1000, 5000, 500]
    assert starts["chrom"].tolist() == ["chr1", "chr1", "chr2", ""]


def test_places_are_read_from_names_or_columns():
    names = ["chr1:100-200", "chr1_random-5-9", "X_7_8"]
    read = peak_places(pd.DataFrame(index=names))
    assert read["chrom"].tolist() == ["chr1", "chr1_random", "X"]
    assert read["end"].tolist() == [200, 9, 8]
    columns = pd.DataFrame({"chrom": ["chr3"], "start": [1], "end": [2]}, index=["chr1:5-6"])
    assert peak_places(columns).iloc[0].tolist() == ["chr3", 1, 2]


def test_distances_are_signed_by_strand():
    peaks = peak_places(pd.DataFrame(index=["chr1:700-900", "chr1:990-1010", "chr1:4500-4900"]))
    pairs = near_pairs(gene_starts(genes()), peaks, 4000)
    found = {(g, p): d for g, p, d in pairs.itertuples(index=False)}
    assert found == {(0, 0): -100, (0, 1): 0, (0, 2): 3500, (1, 1): 3990, (1, 2): 100}


@pytest.mark.parametrize("window", [0, 50, 3000])
def test_pairs_agree_with_looking_at_every_pair(rng, window):
    n, m = 60, 200
    starts, sizes = rng.integers(0, 20_000, (2, n))
    table = pd.DataFrame(
        {
            "chrom": rng.choice(["1", "2", "3"], n),
            "start": starts,
            "end": starts + sizes,
            "strand": rng.choice(["+", "-"], n),
        }
    )
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


def test_no_pairs():
    pairs = near_pairs(gene_starts(genes()), peak_places(pd.DataFrame(index=["chr9:1-2"])), 10)
    assert pairs.columns.tolist() == ["gene", "peak", "distance"]
    assert len(pairs) == 0


def test_missing_places_are_named():
    with pytest.raises(KeyError, match=r"found no \['start', 'strand'\]. Columns there"):
        gene_starts(genes().drop(columns=["start", "strand"]))
    for none in ({"start": np.nan}, {"strand": "*"}):
        with pytest.raises(ValueError, match="genes with a place .* or `strand` empty for all 4"):
            gene_starts(genes(**none))
    with pytest.raises(ValueError, match="peaks with a place in `atac_metacells.var`.* for all 4"):
        peak_places(genes(end=-1))
    with pytest.raises(ValueError, match="found 2 other names, e.g. 'peak1'"):
        peak_places(pd.DataFrame(index=["chr1:1-2", "peak1", "peak2"]))


def test_genes_without_a_strand_or_an_end_have_no_place():
    strands = genes(strand=["+", np.nan, "*", "-"])
    assert gene_starts(strands)["chrom"].tolist() == ["chr1", "", "", ""]
    ends = genes(end=[5000, np.inf, 900, 1])
    assert peak_places(ends)["chrom"].tolist() == ["chr1", "", "chr2", ""]


def test_strands_are_read_as_numbers_too_and_others_are_refused():
    starts = gene_starts(genes(strand=[1, -1, 1.0, -1.0]))
    assert starts["forward"].tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match=r"""found \['forward', 'reverse'\]. Rename"""):
        gene_starts(genes(strand=["forward", "reverse", "+", "+"]))


def test_chromosomes_must_be_spelled_alike():
    peaks = peak_places(pd.DataFrame(index=["1:700-900", "2:990-1010"]))
    with pytest.raises(ValueError, match=r"genes on \['chr1', 'chr2'\] and peaks on \['1', '2'\]"):
        check_chromosomes(gene_starts(genes()), peaks)
    check_chromosomes(gene_starts(genes(chrom=["chr1", "1", "2", ""])), peaks)
