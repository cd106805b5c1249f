"""What ``compare`` writes, says and refuses."""

import os

import numpy as np
import pandas as pd
import pytest

import scmetaq


@pytest.fixture
def theirs(inferred, tmp_path):
    """Metacells of another method, as a table with tabs."""
    path, cells = tmp_path / "theirs.tsv", inferred.cells
    table = pd.DataFrame({"metacell": np.arange(cells.n_obs) % inferred.n_metacells})
    table.set_index(cells.obs_names.rename("barcode")).to_csv(path, sep="\t")
    return path


def test_compare_gives_the_numbers_of_the_metrics(run, inferred, theirs, tmp_path):
    out, words = tmp_path / "out", ("--labels-key", inferred.labels, "--baseline", "kmeans")
    outcome = run("compare", inferred.path, inferred.table, theirs, *words, "--out", out)
    assert outcome.status == 0, outcome.err
    assert sorted(os.listdir(out)) == ["metrics.csv", "report.html"]
    tables = {"assignments": inferred.table, "theirs": theirs}
    given = {
        name: pd.read_csv(path, sep=None, engine="python", dtype=str, index_col="barcode")[
            "metacell"
        ]
        for name, path in tables.items()
    }
    expected = scmetaq.metrics.compare(
        inferred.cells, given, inferred.labels, baselines="kmeans"
    ).reset_index(drop=True)
    found = pd.read_csv(out / "metrics.csv", dtype={"metacell": "str"})
    assert found["method"].unique().tolist() == ["assignments", "theirs", "kmeans"]
    assert found["metric"].tolist() == expected["metric"].tolist()
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-6)
    rows = {line[:28].strip(): line for line in outcome.out.splitlines()}
    assert rows["metacells"].split()[-3:] == [str(inferred.n_metacells)] * 3
    assert all(name in outcome.out.splitlines()[1] for name in given)


@pytest.mark.parametrize(
    ("tables", "more", "message"),
    [
        ((), (), "Expected tables of metacells, .csv or .tsv, after INPUT, found none"),
        (("nowhere.csv",), (), "There is no file nowhere.csv"),
        (("TABLE", "COPY"), (), "a file name of its own for each method, found 'assignments'"),
        (("TABLE",), ("--baseline", "best"), "Unknown baseline 'best'"),
        (("TABLE",), ("--labels-key", "no"), "No column 'no'"),
    ],
)
def test_compare_refuses_bad_input_before_it_works(
    run, inferred_adata, tmp_path, tables, more, message
):
    of = inferred_adata
    copy = tmp_path / "assignments.csv"
    copy.write_bytes(of.table.read_bytes())
    words = [{"TABLE": of.table, "COPY": copy}.get(name, name) for name in tables]
    outcome = run("compare", of.path, *words, *more, "--out", tmp_path / "out")
    assert outcome.status == 2
    assert message in " ".join(outcome.err.split())
    assert not (tmp_path / "out").exists()
