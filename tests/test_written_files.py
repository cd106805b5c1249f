"""Every file is plain: old versions of anndata, and R, know no nullable strings."""

from importlib.resources import files

import anndata
import h5py
import mudata
import pandas as pd
import pytest

import scmetaq
from scmetaq import MetaQModel

PLAIN = {
    *("anndata", "MuData", "dataframe", "dict", "csr_matrix", "array", "categorical"),
    *("string", "string-array", "numeric-scalar"),
}
"""What anndata 0.7 to 0.10 read."""


def odd_parts(path):
    """Names and kinds of the parts of a file that not every version of anndata reads."""
    found = {}

    def look(name, part):
        if (kind := part.attrs.get("encoding-type", "array")) not in PLAIN:
            found[name] = kind

    with h5py.File(path) as file:
        file.visititems(look)
    return found


def with_text(table, kind):
    """A table with names, text and categories of a kind of strings."""
    table = table.set_axis(pd.Index(list(table.index), dtype=kind))
    table["unique"] = pd.array([f"u{i}" for i in range(len(table))], dtype=kind)
    table["gaps"] = pd.array(["x", None] * (len(table) // 2), dtype=kind)
    table["kind"] = pd.Categorical(pd.array(["p", "q"] * (len(table) // 2), dtype=kind))
    return table


@pytest.fixture(params=["object", "str", "string"])
def text(request):
    """``string`` is the nullable type, ``str`` that of pandas 3, where text is of it by default."""
    return request.param


def in_text(adata, kind):
    adata.obs, adata.var = with_text(adata.obs, kind), with_text(adata.var, kind)
    adata.varm["table"] = with_text(adata.var[[]], kind)
    return adata


def as_mudata(mdata, kind):
    parts = {name: in_text(part, kind) for name, part in mdata.mod.items()}
    obs = with_text(mdata.obs, kind)
    found = mudata.MuData(parts)
    found.obs = obs
    return found


def written(data, folder):
    """What lies in a file that the user writes in the simplest way."""
    is_one = isinstance(data, anndata.AnnData)
    path = folder / ("metacells.h5ad" if is_one else "metacells.h5mu")
    (data.write_h5ad if is_one else data.write_h5mu)(path)
    return odd_parts(path)


def test_a_check_that_finds_nothing_would_notice_nullable_strings(toy, tmp_path):
    with anndata.settings.override(allow_write_nullable_strings=True):
        in_text(toy, "string").write_h5ad(tmp_path / "cells.h5ad")
    assert odd_parts(tmp_path / "cells.h5ad")["obs/_index"] == "nullable-string-array"


def test_demo_files_are_plain():
    paths = [path for path in (files("scmetaq.data") / "demo").iterdir() if ".h5" in path.name]
    assert len(paths) == 4
    assert [odd_parts(path) for path in paths] == [{}] * 4


def test_metacells_of_cells_with_any_kind_of_text_are_plain(toy, text, fit, tmp_path):
    cells = in_text(toy, text)
    model = fit(cells, setup={"batch_key": "kind", "labels_key": "kind"})
    for metacells in (
        model.get_metacells(),
        model.get_metacells(within="kind"),
        scmetaq.tl.aggregate(cells, model.get_assignments()["metacell"]),
        model.get_prototypes(),
        *model.get_condition_embeddings().values(),
    ):
        assert metacells.obs_names.dtype == metacells.var_names.dtype == object
        assert written(metacells, tmp_path) == {}
    del cells.varm["table"]["gaps"]
    model.save(tmp_path / "model", save_anndata=True)
    assert odd_parts(tmp_path / "model" / "adata.h5ad") == {}
    query = cells[:, 5:].copy()
    mapped = MetaQModel.load_query_data(query, model).get_metacells()
    assert mapped.n_vars == 55
    assert written(mapped, tmp_path) == {}


def test_metacells_of_several_modalities_are_plain(toy_mdata, text, fit, tmp_path):
    model = fit(as_mudata(toy_mdata, text))
    metacells = model.get_metacells()
    assert metacells.obs_names.dtype == metacells.var_names.dtype == object
    assert written(metacells, tmp_path) == {}
    for part in model.adata.mod.values():
        del part.varm["table"]["gaps"]
    model.save(tmp_path / "model", save_anndata=True)
    assert odd_parts(tmp_path / "model" / "mdata.h5mu") == {}


@pytest.mark.slow
def test_the_command_line_writes_plain_files_of_nullable_strings(toy, run, tmp_path):
    with anndata.settings.override(allow_write_nullable_strings=True):
        in_text(toy, "string").write_h5ad(tmp_path / "cells.h5ad")
    words = ("--n-metacells", 6, "--max-epochs", 2, "--accelerator", "cpu")
    outcome = run("infer", tmp_path / "cells.h5ad", *words, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert odd_parts(tmp_path / "out" / "metacells.h5ad") == {}
