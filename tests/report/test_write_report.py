import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import evaluate, mixing
from scmetaq.report import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Headings, what is loaded from where, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.loaded, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "data")]
        self.loaded += [dict(attrs).get("href")] if tag in ("link", "base", "use") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "em"):
            self.headings.append(data.strip())
        self.text += data


@pytest.fixture
def write(tmp_path, adata, assignments):
    def write(table=assignments, cells=adata, **kwargs):
        path = tmp_path / "report.html"
        write_report(path, cells, table, **kwargs)
        text = path.read_text(encoding="utf-8")
        return text, Page(text)

    return write


@pytest.fixture
def _no_work(monkeypatch):
    """Nothing gets as far as the metrics."""
    target = "scmetaq.report._write_report.evaluate"
    monkeypatch.setattr(target, lambda *_, **__: pytest.fail("works"))


def test_captions_say_what_is_drawn(write, monkeypatch, adata):
    def captions(**kwargs):
        found = re.findall(r"<figcaption>(.*?)</figcaption>", write(**kwargs)[0], re.DOTALL)
        return [" ".join(text.split()) for text in found]

    of_cells = captions(labels_key="cell_type")[0]
    assert of_cells == (
        "Small dots are cells, large dots metacells, in the colour of their cell_type; a metacell "
        "sits at the mean position of its cells and its area grows with their number. Positions: "
        "the UMAP stored in the input."
    )
    adata.obs["batch"] = np.tile(["a", "b"], 30)
    monkeypatch.setattr("scmetaq.report._pictures.MAX_CELLS", 25)
    monkeypatch.setattr("scmetaq.report._pictures.MAX_LABELS", 2)
    of_cells, _, of_labels, of_batches = captions(labels_key="cell_type", batch_key="batch")
    assert of_cells.startswith("Grey dots are cells, blue dots metacells; a metacell sits")
    assert of_cells.endswith("in the input. A random 25 of 60 cells are drawn.")
    assert of_labels.endswith("box: middle half. The 1 rarest labels are left out.")
    assert "the shares of batch among its cells. Metacells are in order by majority" in of_batches
    assert captions(batch_key="batch")[-1].endswith("in order of their mixing.")


def test_report_has_its_parts_and_nothing_is_loaded_from_elsewhere(write):
    history = {"train_loss_epoch": pd.DataFrame({"loss": np.arange(10.0)})}
    text, page = write(
        labels_key=["cell_type"],
        facts={"Input": "cells.h5ad", "Seed": 0},
        history=history,
        quantization={"mean_margin": 0.25},
        next_steps="import scanpy",
        notes=["3 features have no counts"],
    )
    assert page.headings[0] == "6 metacells of 59 cells"
    expected = ["Cells and their metacells", "Quality", "Sizes", "cell_type", "Training"]
    expected += ["All metacells", "How to go on", "What was run", "How to cite"]
    assert set(expected) <= set(page.headings)
    for words in ("cells.h5ad", "mean margin", "import scanpy", "3 features", "scvi-tools "):
        assert words in page.text
    assert "10.1038/s41467-025-56424-6" in text
    assert len(page.loaded) == 4
    few = {"train_loss_epoch": pd.DataFrame({"loss": np.arange(4.0)})}
    text, page = write(labels_key="cell_type", history=few)
    assert "Training" not in page.headings
    assert "Metacells by quantization are the method of" in page.text
    assert len(page.loaded) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.loaded)
    assert not re.search(r"url\(|@import|<link|<iframe|fetch\(|import\(", text)
    assert set(re.findall(r"https?://[^\s\"<]+", text)) == {
        "https://doi.org/10.1038/s41467-025-56424-6"
    }


def data(text):
    """What the script of the page reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found.group(1))


def test_all_metacells_are_in_the_page_and_the_first_of_them_without_a_script(write, adata):
    table = pd.Series([f"pair{i // 2}" for i in range(60)], adata.obs_names)
    text, page = write(table, labels_key="cell_type")
    read = data(text)
    names = [row[0] for row in read["rows"]]
    assert sorted(names) == sorted(table.unique())
    shown = re.findall(r'<th scope="row">(pair\d+)</th>', text)
    assert shown == names[:20]
    assert "The first 20 of 30." in page.text
    assert {"cell_type", "purity", "top markers", "dubious"} <= {
        name for name, _ in read["columns"]
    }
    assert np.array(read["places"]).shape == (30, 2)
    assert all(0 < share < 1 for place in read["places"] for share in place)


def test_the_rate_of_dubious_metacells_is_in_the_head(write, adata, assignments):
    metrics = evaluate(adata, assignments["metacell"], "cell_type", find_dubious=True)
    metrics.loc[metrics["metric"] == "dubious", "value"] = [1, 0, 0, 1, 0, 1]
    _, page = write(metrics=metrics, labels_key="cell_type")
    assert "0.500dubious share" in page.text
    _, page = write()
    assert re.search(r"0\.\d+dubious share", page.text)


def test_metacells_that_mix_labels_are_not_praised(write, adata):
    adata.obs["cell_type"] = pd.Categorical([f"label {i % 4}" for i in range(60)])
    table = pd.Series([f"mc{i % 4}" if i < 12 else f"mc{i // 4 % 4}" for i in range(60)])
    _, page = write(table.set_axis(adata.obs_names), labels_key="cell_type")
    assert "Each of the 4 labels" not in page.text
    assert "Every label is the majority" not in page.text
    assert "On average only 40% of its cells share one cell_type" in page.text


def test_text_of_the_user_is_escaped(write, adata, assignments):
    evil = "</script><script>alert(1)</script>"
    adata.obs[evil] = adata.obs["cell_type"].replace({"B": evil})
    adata.var_names = [f"{evil}{i}" for i in range(adata.n_vars)]
    table = assignments["metacell"] + "<i>"
    facts, notes = {"Input": "<b>bold</b>", "Command": evil}, [f"<i>note</i>{evil}"]
    text, page = write(table, labels_key=evil, facts=facts, next_steps="a < b", notes=notes)
    assert not [tag for tag in ("alert(1)</script>", "<b>", "<i>") if tag in text]
    assert text.count("<script") == text.count("</script>") == 2
    rows = data(text)["rows"]
    assert {row[0] for row in rows} == set(table.dropna())
    assert {row[2] for row in rows} == {evil, "NK", "T<cell>"}
    assert any(evil in row[4] for row in rows)
    assert "T<cell>" in page.text
    assert "a < b" in page.text


def test_numbers_are_those_of_the_metrics(write, adata, assignments):
    metrics = evaluate(adata, assignments["metacell"], "cell_type")
    means = metrics.groupby("metric")["value"].mean()
    for given in (None, metrics):
        text, _ = write(labels_key="cell_type", metrics=given)
        for name in ("compactness", "separation", "purity", "balanced_accuracy"):
            assert f'<span class="value">{means[name]:.3f}</span>' in text


def test_report_of_numbers_or_without_labels_and_training(write, assignments):
    text, page = write(assignments["metacell"])
    assert "Training" not in page.headings
    assert "purity" not in text.lower().split("<main>")[1]
    numbers = assignments["metacell"].str[2:].astype(float)  # float: one is missing
    _, page = write(numbers, labels_key="cell_type")
    assert page.headings[0] == "6 metacells of 59 cells"
    assert "mean purity 1.000" in page.text.lower()
    _, with_minus_one = write(numbers.fillna(-1).astype(int), labels_key="cell_type")
    assert with_minus_one.headings == page.headings


def test_order_of_assignments_does_not_matter_and_cells_are_not_changed(write, assignments, adata):
    strip = re.compile(r"<dt>Written.*?</dd>", re.DOTALL)
    first, _ = write(labels_key="cell_type")
    second, _ = write(assignments[::-1], labels_key="cell_type")
    assert strip.sub("", first) == strip.sub("", second)
    before = adata.copy()
    write(labels_key="cell_type")
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.obsm) == set(before.obsm)
    assert dict(adata.uns) == dict(before.uns)


def test_report_of_several_modalities(write, mdata, assignments):
    before = mdata.copy()
    _, page = write(cells=mdata, labels_key="rna:cell_type", embedding=None)
    assert page.headings[0] == "6 metacells of 59 cells"
    assert {"Quality", "Each modality", "cell_type"} <= set(page.headings)
    frame = evaluate(mdata, assignments["metacell"], mdata["rna"].obs["cell_type"])
    means = frame.groupby(["metric", "modality"])["value"].mean()
    for name in ("rna", "adt"):
        assert f"{means['compactness', name]:.3f}compactness, {name}" in page.text
    pd.testing.assert_frame_equal(mdata.obs, before.obs)
    assert set(mdata.obsm) == set(before.obsm)
    _, page = write(assignments["metacell"], mdata)  # without labels
    assert "Each modality" in page.headings
    assert "Quality" not in page.headings
    assert page.text.count("equally many metacells") == 1
    with pytest.raises(KeyError, match="found no 'zz'"):
        write(cells=mdata, layer="zz")
    mdata["rna"].layers["raw"] = mdata["rna"].X
    write(cells=mdata, layer="raw")


def test_mixing_of_a_condition_is_shown(write, adata, assignments):
    adata.obs["lane"] = [1, 2] * 30
    adata.obs.loc["cell0", "lane"] = None
    _, page = write(labels_key="cell_type", batch_key="lane")
    assert "lane" in page.headings
    known = adata.obs["lane"].notna() & assignments["metacell"].notna()
    mixed = mixing(
        assignments.loc[known, "metacell"],
        adata.obs.loc[known, "lane"],
        adata.obs["cell_type"][known],
    )
    assert f"Mixing {mixed.mixing:.3f}" in page.text
    assert "as its label does" in page.text
    _, page = write(batch_key="lane")
    assert "Without labels all cells count as alike" in page.text


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"labels_key": "zz"}, KeyError, "`labels_key` to name a column of `obs`, found no 'zz'"),
        ({"batch_key": "zz"}, KeyError, "`batch_key` to name a column of `obs`, found no 'zz'"),
        ({"labels_key": "depth"}, TypeError, "`labels_key='depth'`, found decimal numbers"),
        ({"embedding": np.zeros((59, 3))}, ValueError, r"`embedding` of shape \(60, n_latent\)"),
        ({"layer": "zz"}, KeyError, "`layer` to name a layer.*, found no 'zz'"),
        ({"table": pd.DataFrame({"mc": ["a"]})}, KeyError, "with the column 'metacell'"),
    ],
)
@pytest.mark.usefixtures("_no_work")
def test_bad_input_is_refused_before_work(tmp_path, adata, assignments, words, error, message):
    adata.obs["depth"] = np.linspace(0, 1, 60)
    words = {"table": assignments, **words}
    with pytest.raises(error, match=message):
        write_report(tmp_path / "new" / "report.html", adata, words.pop("table"), **words)
    with pytest.raises(TypeError, match="Expected an AnnData or a MuData with cells, found DataF"):
        write_report(tmp_path / "report.html", adata.obs, assignments)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_report_stays_until_there_is_another(tmp_path, adata, assignments, monkeypatch):
    def replace(self, target):
        raise OSError("disk full")

    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, adata, assignments)
    written = path.read_text(encoding="utf-8")
    assert written != "old"
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, adata, assignments)
    assert path.read_text(encoding="utf-8") == written
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_paths_that_no_page_can_have_are_refused_and_folders_made(tmp_path, adata, assignments):
    path = tmp_path / "deep" / "run" / "report.html"
    write_report(str(path), adata, assignments["metacell"].to_numpy())
    assert Page(path.read_text(encoding="utf-8")).headings[0] == "6 metacells of 59 cells"
    (tmp_path / "cells.h5ad").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match=r"to end in .html, found .*cells.h5ad"):
        write_report(tmp_path / "cells.h5ad", adata, assignments)
    with pytest.raises(IsADirectoryError, match="found the folder .*Name a file in it"):
        write_report(tmp_path / "folder.html", adata, assignments)
    with pytest.raises(NotADirectoryError, match="found the file"):
        write_report(tmp_path / "cells.h5ad" / "c" / "report.html", adata, assignments)
    assert (tmp_path / "cells.h5ad").read_text() == "mine"
