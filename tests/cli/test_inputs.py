"""Files of cells and tables of assignments."""

import anndata
import numpy as np
import pandas as pd
import pytest

import scmetaq
from scmetaq.cli._inputs import read_assignments, with_counts


def test_bad_inputs_and_files_of_another_kind_are_refused(run, tmp_path, mcells):
    for name, told in (
        ("none.h5ad", ("There is no", "none.h5ad")),
        ("cells.csv", (".h5ad", ".h5mu", ".zarr", "demo", "cells.csv")),
        ("none.h5mu", ("There is no", "none.h5mu")),
        ("cells.h5ad.gz", ("cells.h5ad.gz", "Unpack it first")),
    ):
        assert run("infer", name, "--out", tmp_path / "out").refuses(*told)
    (tmp_path / "cells.zarr").mkdir()
    outcome = run("infer", tmp_path / "cells.zarr", "--out", tmp_path / "out")
    assert outcome.refuses("cells.zarr cannot be read as AnnData"), outcome
    mcells["rna"].copy().write_h5ad(tmp_path / "rna.h5mu")
    outcome = run("infer", tmp_path / "rna.h5mu", "--out", tmp_path / "out")
    assert outcome.refuses("rna.h5mu cannot be read as MuData", ".h5ad"), outcome


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["AnnData", "MuData"])
def test_truncated_file_is_refused(run, path, mpath, tmp_path, kind, share):
    source = path if kind == "AnnData" else mpath
    broken = tmp_path / f"broken{source.suffix}"
    whole = source.read_bytes()
    broken.write_bytes(whole[: int(share * len(whole))])
    outcome = run("infer", broken, "--out", tmp_path / "out")
    assert outcome.refuses(f"{broken.name} cannot be read as {kind}", "truncated"), outcome
    assert not (tmp_path / "out").exists()


def test_several_files_on_disk_give_the_result_of_cells_in_memory(
    run, cells, tmp_path, monkeypatch
):
    for name, part in (("one", cells[:90]), ("two", cells[90:])):
        part.copy().write_h5ad(tmp_path / f"{name}.h5ad")
    files = tmp_path / "one.h5ad", tmp_path / "two.h5ad"
    words = ("--file-key", "file", "--batch-key", "file", "--labels-key", "cell_type", "level")
    words += ("--n-metacells", 6, "--max-epochs", 2, "--accelerator", "cpu")
    for most, out in ((10**9, "memory"), (0, "disk")):
        monkeypatch.setattr("scmetaq.data._files.MOST_IN_MEMORY", most)
        monkeypatch.setattr("scmetaq.report.write_report", lambda path, **page: path.touch())
        outcome = run("infer", *files, *words, "--out", tmp_path / out)
        assert outcome.status == 0, outcome.err
    tables = [pd.read_csv(tmp_path / out / "assignments.csv") for out in ("memory", "disk")]
    pd.testing.assert_frame_equal(*tables)
    assert list(tables[0]["barcode"]) == list(cells.obs_names)
    metacells = anndata.read_h5ad(tmp_path / "disk" / "metacells.h5ad")
    assert metacells.layers["counts"].sum() == cells.X.sum()
    assert "file_fraction" in metacells.obs
    assert sorted(path.name for path in (tmp_path / "disk" / "model").iterdir()) == ["model.pt"]
    query = run("map", *files, "--file-key", "file", "--model", tmp_path / "disk" / "model",
                "--out", tmp_path / "mapped")  # fmt: skip
    assert query.status == 0, query.err
    table = tmp_path / "disk" / "assignments.csv"
    judged = [
        run("evaluate", *files, table, "--file-key", "file", "--out", tmp_path / "judged"),
        pd.read_csv(tmp_path / "judged" / "metrics.csv"),
    ]
    assert judged[0].status == 0, judged[0].err
    expected = scmetaq.metrics.evaluate(cells, tables[0].set_index("barcode")["metacell"])
    np.testing.assert_allclose(judged[1]["value"], expected["value"])


def test_files_that_do_not_go_together_are_refused_before_work(run, path, mpath, cells, tmp_path):
    before = path.read_bytes()
    others = {"strange": cells.copy(), "twice": cells.copy(), "plain": cells.copy()}
    others["strange"].var_names = [f"other{i}" for i in range(cells.n_vars)]
    others["twice"].obs_names = ["same"] * cells.n_obs
    del others["plain"].layers["lognorm"]
    for name, of in others.items():
        of.write_h5ad(tmp_path / f"{name}.h5ad")
    files = sorted(tmp_path.iterdir())
    for second, told in (
        (tmp_path / "none.h5ad", ("There is no", "none.h5ad")),
        (tmp_path / "strange.h5ad", ("that all files share, found none", "'other0'", "in strange")),
        (tmp_path / "twice.h5ad", ("unique barcodes in twice", "'same'")),
        (tmp_path / "plain.h5ad", ("layer 'lognorm' in all files, found none in plain", "--layer")),
        (mpath, ("of one modality in", "of several in", "cells.h5mu")),
        (path, ("more than once",)),
        ("demo", ("alone, the word demo", "'demo'")),
    ):
        words = (path, second, "--layer", "lognorm", "--out", tmp_path / "out")
        outcome = run("infer", *words)
        assert outcome.refuses(*told), outcome
    outcome = run("infer", path, "--file-key", "lane", "--out", tmp_path / "out")
    assert outcome.refuses("found 'lane' in obs", "--file-key"), outcome
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


def test_counts_are_found_wherever_each_modality_has_them(paired):
    mdata = paired.copy()
    for name, layer in {"rna": "counts", "adt": "raw"}.items():
        mdata[name].layers[layer] = np.asarray(mdata[name].to_df()) + 1
    layers = {"rna_layer": "counts", "adt_layer": "raw", "atac_layer": None}
    names = {"rna_layer": "rna", "adt_layer": "adt", "atac_layer": "atac"}
    measured = with_counts(mdata, {**layers, "modalities": names})
    for name, added in {"rna": 1, "adt": 1, "atac": 0}.items():
        difference = measured[name].to_df() - paired[name].to_df()
        assert (difference == added).all(axis=None)
    assert list(measured.obs_names) == list(mdata.obs_names)


def test_evaluate_reads_the_table_of_another_method(run, path, cells, tmp_path):
    groups = pd.Series(np.arange(160) % 4, index=cells.obs_names).sample(frac=1, random_state=0)
    groups[cells.obs_names[:10]] = -1
    groups = pd.concat([groups.drop(cells.obs_names[10]), pd.Series({"stranger": 0})])
    groups.rename("SEACell").to_csv(tmp_path / "others.tsv", sep="\t", index_label="cell")
    outcome = run("evaluate", path, tmp_path / "others.tsv", "--out", tmp_path / "judged")
    assert outcome.status == 0, outcome.err
    assert "1 of 160 barcodes of" in outcome.err
    assert "1 of 160 cells of" in outcome.err
    frame = pd.read_csv(tmp_path / "judged" / "metrics.csv").set_index("metric")["value"]
    assert frame["n_metacells"] == 4
    assert frame["unassigned"] == 11


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("barcode,metacell\nx,a\ny,b\n", ("None of the barcodes", "'x'")),
        ("barcode,one,two\nx,a,b\n", ("barcode and metacell", "'two'")),
        ("", ("cannot be read as a table",)),
        ("barcode,metacell\nx,a\nx,b\n", ("unique barcodes", "'x'")),
        ("barcode;metacell\nx;a\n", ("commas in a .csv", "'barcode;metacell'")),
        ("barcode;metacell;margin\nx;a;0,5\n", ("commas in a .csv",)),
        ("barcode\tmetacell\nx\ta\n", ("commas in a .csv",)),
    ],
)
def test_bad_tables_are_refused(run, path, tmp_path, text, told):
    (tmp_path / "table.csv").write_text(text)
    outcome = run("evaluate", path, tmp_path / "table.csv", "--out", tmp_path / "out")
    assert outcome.refuses(*told), outcome
    assert not (tmp_path / "out").exists()


def test_tables_of_another_form_or_without_a_header_are_refused(run, path, cells, tmp_path):
    for name in ("table.txt", "table.parquet", "table", "table.gz"):
        (tmp_path / name).write_bytes(b"PAR1\xff\xfe")
        outcome = run("evaluate", path, tmp_path / name, "--out", tmp_path / "out")
        assert outcome.refuses("a .csv file with commas or a .tsv file with tabs", name), outcome
    groups = pd.Series(np.arange(160) % 4, index=cells.obs_names)
    groups.to_csv(tmp_path / "table.csv", header=False)
    outcome = run("evaluate", path, tmp_path / "table.csv", "--out", tmp_path / "out")
    first = repr(cells.obs_names[0])
    assert outcome.refuses("to have a header", first, "barcode,metacell"), outcome
    assert "Judging" not in outcome.err


@pytest.mark.parametrize("none", ["NA", "nan", "NaN", "", "-1", " -1 ", "-1.0", "<NA>"])
def test_words_for_no_metacell_are_no_metacell(tmp_path, none):
    lines = ["barcode,metacell,margin", f"cell0,{none},NA", "NA,mc1,0.5", "cell2, mc1,0.25"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    table = read_assignments(tmp_path / "table.csv")
    assert table.index.tolist() == ["cell0", "NA", "cell2"]
    assert table["metacell"].isna().tolist() == [True, False, False]
    assert table["metacell"].tolist()[1:] == ["mc1", "mc1"]
    np.testing.assert_array_equal(table["margin"], [np.nan, 0.5, 0.25])


def test_compressed_tables_are_read(tmp_path):
    table = pd.DataFrame({"barcode": ["a", "b"], "metacell": ["x", "y"]})
    table.to_csv(tmp_path / "table.tsv.gz", sep="\t", index=False)
    assert read_assignments(tmp_path / "table.tsv.gz")["metacell"].tolist() == ["x", "y"]
