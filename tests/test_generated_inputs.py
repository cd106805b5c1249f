"""Generated inputs end right or in an error of ours: 200 of them, or as many as one asks for.

``GENERATED_INPUTS=2000 pytest tests/test_generated_inputs.py`` draws other inputs at each run.
"""

import os

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
from anndata import AnnData
from generated_cells import COLUMNS, OUTCOMES, attempt, cases, drawn_counts, fingerprint, inputs
from hypothesis import given
from hypothesis import strategies as st
from mudata import MuData

from scmetaq import MetaQModel, tl
from scmetaq.metrics import evaluate

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}
NAMES = [f"g{i}" for i in range(24)]


@pytest.fixture(scope="module", autouse=True)
def _figures():
    yield
    if path := os.environ.get("GENERATED_INPUTS_FIGURES"):
        pd.Series(OUTCOMES).sort_index().to_json(path)


def same_sums(metacells, assignment, expected):
    found = metacells.layers["counts"].toarray()
    for name, of_metacell in zip(metacells.obs_names, found, strict=True):
        chosen = (assignment == name).to_numpy()
        np.testing.assert_array_equal(of_metacell, expected[chosen].sum(0, dtype=np.float64))
        assert metacells.obs.loc[name, "n_cells"] == chosen.sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def known():
    """A model of 24 genes and a batch, which every query is mapped with."""
    X = drawn_counts(np.random.default_rng(0), 60, 24).astype(np.float32)
    obs = pd.DataFrame({"batch": list("xyz") * 20}, index=[f"c{i}" for i in range(60)])
    return trained(AnnData(X, obs, pd.DataFrame(index=NAMES)), 4, batch_key="batch")


def trained(data, n_metacells, **setup):
    scvi.settings.seed = 0
    is_mudata = isinstance(data, MuData)
    (MetaQModel.setup_mudata if is_mudata else MetaQModel.setup_anndata)(data, **setup)
    model = MetaQModel(data, n_metacells)
    model.train(1, **TRAINER)
    return model


@inputs(0.37)
@given(case=cases(), n_metacells=st.integers(2, 8), is_near=st.booleans(), saves=st.booleans())
def test_counts_of_any_form(case, n_metacells, is_near, saves, folder):
    adata, kept = case.make(folder), case.kept
    n_distinct = len(np.unique(kept, axis=0))
    n_metacells = max(2, n_distinct - 1) if is_near and n_distinct > 12 else n_metacells
    before = fingerprint(adata)
    # cells that differ in depth alone may have one latent
    is_enough = n_distinct > 1.5 * n_metacells and n_metacells < 9
    model = attempt(lambda: trained(adata, n_metacells), is_good=case.is_good and is_enough)
    assert fingerprint(adata) == before
    if model is None:
        return
    assert case.is_good
    found = model.get_assignments()
    assert list(found.index) == list(adata.obs_names)
    assert found["metacell"].nunique() == n_metacells
    assert np.isfinite(model.get_latent_representation()).all()
    assert all(np.isfinite(of.to_numpy(float)).all() for of in model.history.values())
    same_sums(model.get_metacells(), found["metacell"], kept)
    some = np.arange(3, adata.n_obs, 4)
    pd.testing.assert_frame_equal(model.get_assignments(indices=some), found.iloc[some])
    if saves:
        path = folder / "model"
        model.save(path, overwrite=True)
        loaded = MetaQModel.load(path, adata)
        pd.testing.assert_frame_equal(loaded.get_assignments(), found)


@inputs(0.2)
@given(case=cases(), n_groups=st.integers(1, 9))
def test_sums_of_any_grouping(case, n_groups, folder):
    adata, kept = case.make(folder), case.kept
    is_good = not ((kept < 0).any() or (kept > 2**31).any())
    groups = np.arange(len(kept)) % n_groups
    metacells = attempt(lambda: tl.aggregate(adata, groups), is_good=is_good)
    if metacells is not None:
        assert is_good
        same_sums(metacells, pd.Series(groups).astype(str), kept)
        assert len(evaluate(adata, groups)) if n_groups > 1 else True


@inputs(0.13)
@given(label=st.sampled_from([*COLUMNS]), batch=st.sampled_from([*COLUMNS, None]))
def test_columns_of_any_kind(label, batch):
    i, X = np.arange(60), drawn_counts(np.random.default_rng(1), 60, 20).astype(np.float32)
    columns = {"label": COLUMNS[label](i)} | ({"batch": COLUMNS[batch](i)} if batch else {})
    obs = pd.DataFrame({k: of.array for k, of in columns.items()}, [f"c{j}" for j in i])
    adata, before = AnnData(X, obs), obs.copy()
    is_plain = batch in ("text", "bool", "int", "unused", "one value", None) and label in "text int"
    setup = {"labels_key": "label", "batch_key": "batch" if batch else None}
    model = attempt(lambda: trained(adata, 4, **setup), is_good=is_plain)
    pd.testing.assert_frame_equal(adata.obs[[*columns]], before, check_dtype=False)
    if model is None:
        return
    metacells = model.get_metacells()
    assert metacells.n_obs == 4
    labels = model.predict_labels()
    assert set(labels["label"].dropna().astype(str)) <= {str(of) for of in labels["label"].unique()}
    if label in ("text", "int", "bool", "unused"):
        share = metacells.obs["label_fraction"].to_numpy(float)
        assert ((share > 0) & (share <= 1)).all()


@inputs(0.2)
@given(
    case=cases(n_features=24),
    genes=st.sampled_from(["same", "reordered", "fewer", "more"] * 2 + ["few", "none", "others"]),
    batch=st.sampled_from(["known", "new"] * 4 + ["missing", "gaps", "no column"]),
    n_cells=st.sampled_from([0, 1, 2, 40, 40, 40]),
)
def test_queries_of_any_form(case, genes, batch, n_cells, known, folder):
    adata, kept = case.make()[:n_cells].copy(), case.kept[:n_cells]
    names = {"reordered": NAMES[::-1], "few": NAMES[:3], "fewer": NAMES[:20]}.get(genes, NAMES)
    adata = adata[:, names].copy()
    kept = kept[:, [NAMES.index(name) for name in names]]
    if genes in ("none", "others"):
        adata.var_names = [f"other{i}" for i in range(24)]
    if genes == "more" and case.index != "duplicates":
        more = AnnData(np.ones((n_cells, 2), np.float32), adata.obs, pd.DataFrame(index=["p", "q"]))
        in_memory = adata.to_memory() if hasattr(adata.X, "compute") else adata
        adata = anndata.concat([in_memory, more], axis=1)
    values = {"known": "x", "new": "w", "missing": None, "gaps": None}
    if batch in values:
        adata.obs["batch"] = np.array([values[batch], *["y"] * n_cells], object)[:n_cells]
    is_bad = (kept < 0).any() or (kept > 2**31).any() or (kept.sum(1) == 0).any()
    is_good = case.is_good and n_cells and not is_bad and genes not in ("few", "none", "others")
    is_good = is_good and batch in ("known", "new")
    before = adata.obs.copy(), adata.var.copy()

    def mapped():
        model = MetaQModel.load_query_data(adata, known)
        model.train(**TRAINER)
        return model

    model = attempt(mapped, is_good=is_good)
    pd.testing.assert_frame_equal(adata.obs, before[0])
    pd.testing.assert_frame_equal(adata.var, before[1])
    if model is None:
        return
    found = model.get_assignments()
    assert list(found.index) == list(adata.obs_names)
    assert set(found["metacell"]) <= set(known.metacell_names)
    assert np.isfinite(found["margin"].astype(float)).all()
    metacells = model.get_metacells()
    assert metacells.obs["n_cells"].sum() == n_cells
    sums = metacells.layers["counts"].astype(np.float64)
    assert sums.sum() == kept.sum(dtype=np.float64)


@inputs(0.1)
@given(
    seed=st.integers(0, 2**32 - 1),
    adt=st.sampled_from(["all", "reordered", "half", "three", "one", "none", "others"]),
    change=st.sampled_from(["none", "normalised", "log", "one protein", "constant"]),
)
def test_modalities_of_any_shape(seed, adt, change):
    rng = np.random.default_rng(seed)
    names = np.array([f"c{i}" for i in range(50)])
    of_adt = {"reordered": names[::-1], "half": names[::2], "three": names[:3], "one": names[:1]}
    of_adt |= {"none": names[:0], "others": np.array([f"d{i}" for i in range(50)])}
    rows = of_adt.get(adt, names)
    X = drawn_counts(rng, 50, 12).astype(np.float32)[: len(rows)] + 1
    X = {"normalised": X / 3, "log": np.log1p(X), "one protein": X[:, :1]}.get(change, X)
    X = np.ones_like(X) if change == "constant" else X
    rna = AnnData(drawn_counts(rng, 50, 20).astype(np.float32), pd.DataFrame(index=names))
    mdata = MuData({"rna": rna, "adt": AnnData(X, pd.DataFrame(index=rows))})
    before = {name: fingerprint(part) for name, part in mdata.mod.items()}
    is_good = adt in ("all", "reordered", "half") and change == "none"
    model = attempt(lambda: trained(mdata, 4), is_good=is_good)
    assert {name: fingerprint(part) for name, part in mdata.mod.items()} == before
    if model is None:
        return
    found = model.get_assignments()["metacell"]
    assert found.nunique() == 4
    for name, part in model.get_metacells().mod.items():
        own = mdata.mod[name]
        same_sums(part, found[own.obs_names], np.asarray(own.X))
