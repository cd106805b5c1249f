import os
import pickle
from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scmetaq import MetaQModel, metrics, tl
from scmetaq._parallel import in_parts
from scmetaq.data._cells import Counts
from scmetaq.data._containers import Rows
from scmetaq.nn import _regions
from scmetaq.train import _codebook_fit

SHOWN = {"n_parts": 20, "shown_as": "Working"}
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """Two processes besides this one."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def small_spans(monkeypatch):
    """As if the cells were many; one thread, as the workers have, on which last digits depend."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("model._blocks.SPAN", "data._checks.SPAN", "metrics._counts.SPAN"):
        monkeypatch.setattr(f"scmetaq.{name}", 40)
    yield
    torch.set_num_threads(n_threads)


def test_without_a_client_parts_are_done_here_when_they_are_asked_for():
    seen = []

    def double(factor, part):
        seen.append(part)
        return factor * part

    found = in_parts(double, 2, iter([3, 4, 5]), n_parts=3, shown_as="")
    assert next(found) == 6
    assert seen == [3]
    assert list(found) == [8, 10]


@pytest.mark.slow
def test_workers_of_a_client_do_the_parts_in_order(client):
    def of_worker(shared, part):
        return (
            shared[0],
            part,
            os.getpid(),
            list(in_parts(lambda a, b: a + b, 1, [2], n_parts=1, shown_as="")),
        )

    parts = [("a", i) for i in range(20)]
    found = list(in_parts(of_worker, ("shared",), iter(parts), **SHOWN))
    assert [part for _, part, _, _ in found] == parts
    assert {shared for shared, *_ in found} == {"shared"}
    workers = {process for _, _, process, _ in found}
    assert workers == set(client.run(os.getpid).values())
    assert os.getpid() not in workers
    assert found[0][3] == [3]  # a task does its own parts
    here = list(in_parts(of_worker, ("shared",), parts, is_local=True, **SHOWN))
    assert {process for _, _, process, _ in here} == {os.getpid()}


@pytest.mark.slow
def test_parts_are_made_as_workers_take_them(client):
    made = []

    def parts():
        for i in range(50):
            made.append(i)
            yield i

    found = in_parts(lambda _, part: part, None, parts(), **SHOWN)
    assert next(found) == 0
    assert len(made) <= 5
    found.close()


@pytest.mark.slow
def test_errors_of_workers_are_those_of_one_process(client, toy, small_spans):
    bad = toy.copy()
    bad.X = bad.X * 0.5
    with pytest.raises(ValueError, match=r"Expected raw counts .* found \d+ non-integer values"):
        MetaQModel.setup_anndata(bad)


def test_other_processes_get_no_more_than_their_rows(toy):
    X = sparse.random(10_000, 50, 0.2, format="csr", dtype=np.float32, random_state=0)
    whole = len(pickle.dumps(X))
    span = pickle.loads(pickle.dumps(Rows(X).spans(100)[3]))
    assert len(span) == 100
    assert (sparse.vstack(list(span.blocks(7))) != X[300:400]).nnz == 0
    row = np.where(np.arange(10_000) % 3, np.arange(10_000), -1)
    for counts in (Counts(X), Counts(X, row)):
        chosen = np.arange(500, 600)
        sent = pickle.dumps(counts.only(chosen))
        assert len(sent) < whole / 50
        assert (pickle.loads(sent).everything != counts.of(chosen)).nnz == 0


@pytest.mark.parametrize("is_dense", [False, True])
def test_files_are_opened_again_by_other_processes(toy, tmp_path, is_dense):
    held = toy.copy()
    held.X = held.X.toarray() if is_dense else held.X
    held.write_h5ad(tmp_path / "cells.h5ad")
    held.write_zarr(tmp_path / "cells.zarr")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    pytest.importorskip("dask")
    lazy = anndata.experimental.read_lazy(tmp_path / "cells.zarr")
    for cells in (backed, lazy):
        sent = distributed.protocol.pickle.dumps(Rows(cells.X).spans(60)[1])
        assert len(sent) < 8_000
        (rows,) = distributed.protocol.pickle.loads(sent).blocks(60)
        assert (sparse.csr_matrix(rows) != toy.X[60:120]).nnz == 0


@pytest.mark.slow
def test_results_of_workers_equal_those_of_one_process(
    client, toy, tmp_path, fit, monkeypatch, small_spans
):
    adata = toy.copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    adata.write_zarr(tmp_path / "cells.zarr")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lazy = anndata.experimental.read_lazy(tmp_path / "cells.zarr")
    used = []
    run = client.submit
    monkeypatch.setattr(client, "submit", lambda *a, **k: used.append(a) or run(*a, **k))

    def results(cells):
        model = fit(cells, setup={"labels_key": "state"}, label_weight=0.5)
        assigned = model.get_assignments()
        by = assigned["metacell"]
        layers = ["log1p_mean", "geometric_fraction"]
        options = ({}, {"soft": True, "layers": layers})
        made = [*(model.get_metacells(**of) for of in options), tl.aggregate(cells, by)]
        return (
            assigned,
            [m.layers[name].toarray() for m in made for name in m.layers],
            metrics.evaluate(cells, by, "state", max_cells=40),
            model.get_quantization_report(),
            model.get_granularity_report([3, 5]),
            model.get_outlier_scores(),
        )

    with monkeypatch.context() as alone:
        alone.setattr("scmetaq._parallel._active_client", lambda: None)
        expected = results(adata.copy())
        assert used == []
    for cells in (adata, backed, lazy):
        used.clear()
        assigned, metacells, metric, report, cuts, scores = results(cells)
        assert len(used) > 10
        pd.testing.assert_frame_equal(assigned, expected[0], check_exact=True)
        np.testing.assert_array_equal(metacells, expected[1])
        pd.testing.assert_frame_equal(metric, expected[2], check_exact=True)
        assert report == expected[3]
        pd.testing.assert_frame_equal(cuts, expected[4], check_exact=True)
        pd.testing.assert_series_equal(scores, expected[5], check_exact=True)


@pytest.mark.slow
@pytest.mark.usefixtures("small_spans")
def test_codes_that_workers_find_are_those_of_one_process(client, monkeypatch):
    monkeypatch.setattr(_regions, "_CODES_PER_REGION", 10)
    monkeypatch.setattr(_regions, "FEWEST_CODES", 20)
    monkeypatch.setattr(_regions, "_ROWS", 500)
    z = torch.randn(2_000, 8, generator=torch.Generator().manual_seed(0)).half()
    options = {"states": torch.arange(4), "evenness": 0.2}
    expected = _regions.cluster_by_region(z, 60, **options)
    found = _regions.cluster_by_region(
        z, 60, each=partial(_codebook_fit._in_parts, False), **options
    )
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.assignment, expected.assignment)
