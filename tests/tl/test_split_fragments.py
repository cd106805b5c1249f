import gzip
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scmetaq.tl import _split_fragments, split_fragments

COMMENTS = ["# id=sample", "# primary_contig=chr1"]


def table(rng, n=3_000, n_barcodes=60):
    """Lines of fragments, sorted as tabix needs them."""
    chrom = rng.choice(["chr1", "chr10", "chr2"], n)
    start = rng.integers(0, 10**6, n)
    order = np.lexsort([start, chrom])
    barcode = rng.integers(0, n_barcodes, n)
    rows = zip(chrom[order], start[order], barcode, rng.integers(1, 5, n), strict=True)
    return [f"{c}\t{s}\t{s + 150}\tBC{b:03d}-1\t{k}" for c, s, b, k in rows]


def written(path, lines, end="\n"):
    path.write_bytes(gzip.compress((end.join(lines) + end).encode()))
    return path


@pytest.fixture
def lines(rng):
    return table(rng)


@pytest.fixture
def fragments(tmp_path, lines):
    return written(tmp_path / "fragments.tsv.gz", COMMENTS + lines)


@pytest.fixture
def assignment():
    """40 of the 60 barcodes: 35 in seven metacells, 5 in none."""
    names = [f"mc{i % 7}:d1" for i in range(35)] + [None, -1, np.nan, "-1", -1]
    return pd.Series(names, [f"BC{i:03d}-1" for i in range(40)])


def blocks_of(data):
    """Text of every block, by the lengths that the blocks state."""
    while data:
        magic, extra, mark, length, size = struct.unpack("<4s6xH2sHH", data[:18])
        assert (magic, extra, mark, length) == (b"\x1f\x8b\x08\x04", 6, b"BC", 2)
        text = zlib.decompress(data[18 : size + 1 - 8], wbits=-15)
        assert struct.unpack("<II", data[size - 7 : size + 1]) == (zlib.crc32(text), len(text))
        yield text
        data = data[size + 1 :]


@pytest.mark.parametrize("held", [1 << 26, 2_000])
def test_each_file_has_the_lines_of_its_cells_in_order(
    tmp_path, fragments, lines, assignment, monkeypatch, held
):
    monkeypatch.setattr(_split_fragments, "_HELD", held)
    found = split_fragments(fragments, assignment, tmp_path / "out")
    assert found.index.tolist() == [f"mc{i}:d1" for i in range(7)]
    assert found.index.name == "metacell"
    assert {file.name for file in (tmp_path / "out").iterdir()} == set(found["file"])
    for i, name in enumerate(found.index):
        cells = {f"BC{b:03d}-1" for b in range(i, 35, 7)}
        expected = [line for line in lines if line.split("\t")[3] in cells]
        data = (tmp_path / "out" / f"{name}.fragments.tsv.gz").read_bytes()
        assert gzip.decompress(data).decode() == "\n".join(expected) + "\n"
        blocks = list(blocks_of(data))
        assert blocks[-1] == b""
        assert len(blocks) > (5 if held == 2_000 else 1)
        assert found.loc[name, "n_fragments"] == len(expected)
        assert found.loc[name, "n_cells"] == 5
    others = [line.split("\t")[3] for line in lines if int(line.split("\t")[3][2:5]) >= 35]
    assert found.attrs == {"unknown_barcodes": 25, "unknown_fragments": len(others)}


def test_text_that_deflate_cannot_pack_stays_within_a_block():
    text = np.random.default_rng(0).bytes(_split_fragments._BLOCK)
    packed = _split_fragments._packed(text)
    assert len(packed) <= 1 << 16
    assert list(blocks_of(packed)) == [text]


def test_more_metacells_than_files_may_be_open_and_memory_stays(tmp_path, rng, monkeypatch):
    """Of 2,000 metacells, with room for 60 open files and 100 kB of text."""
    lines = table(rng, 40_000, 2_000)
    path = written(tmp_path / "f.tsv.gz", lines)
    barcodes = sorted({line.split("\t")[3] for line in lines})
    assignment = pd.Series([f"mc{i:04d}" for i in range(len(barcodes))], barcodes)
    monkeypatch.setattr(_split_fragments, "_HELD", 100_000)
    largest, plain = [], _split_fragments._append

    def watched(files, waiting, **options):
        largest.append(sum(map(len, waiting)))
        plain(files, waiting, **options)

    monkeypatch.setattr(_split_fragments, "_append", watched)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 60, limits[1]))
    try:
        found = split_fragments(path, assignment, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found["n_fragments"].sum() == 40_000
    assert len(largest) > 10
    assert max(largest) < 100_100


def test_ends_of_lines_and_a_missing_last_one_and_metacells_without_fragments(tmp_path, lines):
    path = tmp_path / "f.tsv.gz"
    path.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    assignment = pd.Series([1, 1, 2], ["BC000-1", "BC001-1", "elsewhere-1"])
    with pytest.warns(UserWarning, match=r"found none of 1, e.g. 'elsewhere-1'; the first is of"):
        found = split_fragments(path, assignment, tmp_path / "out")
    assert found["n_cells"].tolist() == [2, 0]
    assert found.loc["2", "n_fragments"] == 0
    assert gzip.decompress((tmp_path / "out" / "2.fragments.tsv.gz").read_bytes()) == b""
    text = gzip.decompress((tmp_path / "out" / "1.fragments.tsv.gz").read_bytes()).decode()
    assert text.splitlines() == [x for x in lines if "BC000" in x or "BC001" in x]
    assert "\r" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda of: [*of[:9], "chr1\t5", *of[9:]], r"barcode, found line 10 of .*f.tsv.gz: b'chr1"),
        (lambda of: ["chr1\tx\t9\tBC000-1\t1", *of], "start, end and barcode, found line 1 of"),
        (lambda of: of[::-1], "sorted by chromosome and start, .*, found line 2 of"),
        (lambda of: [*of, of[0]], r"sorted by chromosome and start, .*, found line 3001 of"),
        (lambda of: [x.replace("BC", "sample2_BC") for x in of], "none of 35, .*'sample2_BC"),
        (lambda of: COMMENTS, "Name barcodes as in the file"),
    ],
)
def test_a_bad_table_is_named_and_leaves_nothing(tmp_path, lines, assignment, change, message):
    path = written(tmp_path / "f.tsv.gz", change(lines))
    with pytest.raises(ValueError, match=message):
        split_fragments(path, assignment, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["f.tsv.gz"]


@pytest.mark.parametrize("content", [b"chr1\t1\t2\tBC000-1\t1\n", b"truncated", b"flipped"])
def test_a_damaged_file_is_named_and_leaves_nothing(tmp_path, fragments, assignment, content):
    whole = fragments.read_bytes()
    damaged = {
        b"truncated": whole[:-2_000],
        b"flipped": whole[:5_000] + b"\0" * 9 + whole[5_009:],
    }.get(content, content)
    fragments.write_bytes(damaged)
    with pytest.raises(ValueError, match="(whole and compressed with gzip|Expected fragments)"):
        split_fragments(fragments, assignment, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["fragments.tsv.gz"]


def test_nothing_is_overwritten_or_read_if_something_is_wrong(tmp_path, fragments, assignment):
    split_fragments(fragments, assignment, tmp_path / "out")
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    names = assignment.dropna().astype(str)
    fragments.write_bytes(b"not read")
    for given, error, message in (
        ({"folder": tmp_path / "out"}, FileExistsError, "`folder` to be new, found .*out"),
        ({"folder": tmp_path / "no" / "out"}, FileNotFoundError, "in a folder, found none at .*no"),
        ({"fragments": tmp_path / "none.gz"}, FileNotFoundError, "found none at .*none.gz"),
        ({"assignment": names.to_frame()}, TypeError, "Series by barcode, found DataFrame"),
        ({"assignment": pd.concat([names, names])}, ValueError, "unique barcodes in `assignment`"),
        ({"assignment": names + "/1"}, ValueError, "names of files, found '-1/1'"),
        ({"assignment": names + 200 * "x"}, ValueError, "names of files, found '-1xxx"),
        ({"assignment": assignment.replace(r"mc.*", -1, regex=True)}, ValueError, "at least one"),
    ):
        arguments = {"fragments": fragments, "assignment": assignment, "folder": tmp_path / "new"}
        with pytest.raises(error, match=message):
            split_fragments(**(arguments | given))
    assert before == {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fragments.tsv.gz", "out"]


def test_a_full_disk_leaves_nothing(tmp_path, fragments, assignment, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_split_fragments, "_packed", full)
    with pytest.raises(OSError, match="No space left"):
        split_fragments(fragments, assignment, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["fragments.tsv.gz"]
