"""What clients of scvi-tools' models expect of any model, by its documentation."""

from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from scvi.criticism import PosteriorPredictiveCheck

from scmetaq import COEM, MetaQModel, SCPoli

SOME = np.array([7, 3, 3, 140, -1])
SETUP = {"batch_key": "lane", "labels_key": ["state", "kind"]}


@pytest.fixture(scope="module")
def cells(_toy):
    adata = _toy.copy()
    adata.obs["lane"] = pd.Categorical(np.array(["x", "y"])[np.arange(150) % 2])
    adata.obs["kind"] = np.array(["p", "q", "r"])[np.arange(150) % 3]
    return adata


@pytest.fixture(scope="module", params=["metaq", "scpoli", "metaq of two", "coem"])
def model(request, cells, paired, fit_as):
    if request.param == "metaq":
        return fit_as(MetaQModel, cells.copy(), 6, setup=SETUP)
    if request.param == "scpoli":
        return fit_as(SCPoli, cells.copy(), setup=SETUP, n_latent=4)
    mdata = paired.copy()
    if request.param == "coem":
        return fit_as(COEM, mdata, setup={"modalities": {"rna_layer": "rna", "atac_layer": "atac"}})
    mdata.obs["lane"] = cells.obs["lane"]
    modalities = {"rna_layer": "rna", "protein_layer": "adt"}
    return fit_as(MetaQModel, mdata, 6, setup={"batch_key": "lane", "modalities": modalities})


def getters(model):
    found = [model.get_latent_representation]
    if not isinstance(model, COEM):
        found.append(model.get_normalized_expression)
    if isinstance(model, MetaQModel):
        found += [model.get_assignments, model.get_outlier_scores]
    return found + ([model.predict_labels] if getattr(model, "_prototypes", None) else [])


def same(found, expected):
    """The same values; the last digit of a product may depend on the place in a block."""
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected), rtol=1e-4, atol=1e-6)


def test_getters_take_indices_a_batch_size_and_a_loader_and_give_the_same(model):
    mask = np.isin(np.arange(150), [3, 7])
    for getter in getters(model):
        everything = getter()
        rows = everything.iloc if hasattr(everything, "iloc") else everything
        same(getter(indices=SOME, batch_size=32), rows[SOME])
        same(getter(indices=mask), rows[[3, 7]])
        loader = model._make_data_loader(adata=model.adata, indices=[9, 2], batch_size=1)
        found = getter(dataloader=loader)
        if hasattr(found, "index"):
            assert list(found.index) == ["0", "1"]
            found.index = everything.index[[9, 2]]
        same(found, rows[[9, 2]])


def test_metacells_of_some_cells_are_those_of_a_copy(cells, fit_as):
    model = fit_as(MetaQModel, cells.copy(), 6, setup=SETUP)
    some = np.arange(0, 150, 3)
    expected = model.get_metacells(model.adata[some].copy(), within="kind", min_cells=1)
    for options in ({}, {"within": "kind", "min_cells": 1}):
        found = model.get_metacells(indices=some, **options)
        expected = model.get_metacells(model.adata[some].copy(), **options)
        assert found.obs_names.tolist() == expected.obs_names.tolist()
        assert abs(found.layers["counts"] - expected.layers["counts"]).max() == 0
        assert found.uns["metaq"]["n_cells"] == 50


@pytest.mark.parametrize("wrong", [[], [150], [[1]], [0.5], np.ones(149, bool)])
def test_indices_that_name_no_cells_are_refused(model, wrong):
    with pytest.raises(ValueError, match="Expected indices of some of the 150 cells"):
        model.get_latent_representation(indices=wrong)


def test_a_loader_and_cells_at_once_or_without_counts_are_refused(model):
    loader = model._make_data_loader(adata=model.adata)
    with pytest.raises(ValueError, match="dataloader, or adata and indices, found both"):
        model.get_latent_representation(indices=[0], dataloader=loader)
    with pytest.raises(KeyError, match="Expected minibatches with counts as"):
        model.get_latent_representation(dataloader=[{"other": None}])
    with pytest.raises(ValueError, match="found none"):
        model.get_latent_representation(dataloader=[])


def test_nothing_registries_of_others_and_data_modules_are_refused_in_a_sentence(model):
    cls = type(model)
    with pytest.raises(ValueError, match="Expected cells, or the registry of a"):
        cls(adata=None)
    of_other = {"model_name": "SCVI", "setup_method_name": "setup_datamodule"}
    with pytest.raises(ValueError, match="found that of SCVI by setup_datamodule. Cells on disk"):
        cls(registry=of_other)
    with pytest.raises(TypeError, match="Expected no datamodule.*read_lazy"):
        model.train(1, datamodule=object())
    with pytest.raises(NotImplementedError, match="needs no annbatch.*read_lazy"):
        cls.setup_annbatch(paths=["cells.h5ad"])


def test_a_registry_makes_a_model_without_cells(model):
    options = model._init_arguments
    empty = type(model)(registry=model.registry, **options)
    assert empty.adata is None
    with pytest.raises(ValueError, match="there are none to train on"):
        empty.train()


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (MetaQModel, "continuous_covariate_keys"),
        (SCPoli, "continuous_covariate_keys"),
        (MetaQModel, "other"),
    ],
)
def test_columns_that_no_model_reads_are_refused_by_name(cells, cls, name):
    with pytest.raises(TypeError, match=name):
        cls.setup_anndata(cells.copy(), **{name: "depth"})


def test_scvi_tools_finds_the_first_labels(cells, fit_as):
    adata = cells.copy()
    adata.obs["state"] = adata.obs["state"].astype(object)
    adata.obs.loc[adata.obs_names[:2], "state"] = [None, "Unknown"]
    model = fit_as(SCPoli, adata, setup=SETUP, n_latent=4)
    assert model.summary_stats.n_labels == 4
    state = model.adata_manager.get_state_registry("labels")
    assert list(state["categorical_mapping"]) == ["a", "b", "c", "Unknown"]
    assert state["original_key"] == "state"
    codes = model.adata_manager.get_from_registry("labels").ravel()
    np.testing.assert_array_equal(codes[:3], [3, 3, 0])
    np.testing.assert_array_equal(codes[50:], np.repeat([1, 2], 50))
    query = adata[:20].copy()
    query.obs["state"] = "new"
    mapped = SCPoli.load_query_data(query, model)
    assert (mapped.adata_manager.get_from_registry("labels") == 3).all()
    del query.obs["state"]
    assert len(model.get_latent_representation(query.copy())) == 20


def test_queries_are_prepared_and_loaded_with_the_words_of_scvi_tools(cells, fit_as):
    model = fit_as(MetaQModel, cells.copy(), 6, setup=SETUP)
    query = cells[:, 3:].copy()
    names = MetaQModel.prepare_query_anndata(query, model, return_reference_var_names=True)
    assert list(names) == list(cells.var_names)
    assert MetaQModel.prepare_query_anndata(query, model) is None
    same = MetaQModel.prepare_query_anndata(query, model, inplace=False)
    words = {"freeze_expression": True, "unfrozen": False, "inplace_subset_query_vars": False}
    found = MetaQModel.load_query_data(adata=same, reference_model=model, **words)
    ours = MetaQModel.load_query_data(query, model)
    pd.testing.assert_frame_equal(found.get_assignments(), ours.get_assignments())
    assert list(found.missing_features["rna"]) == list(cells.var_names[:3])
    with pytest.raises(ValueError, match="Expected unfrozen=False, found True"):
        MetaQModel.load_query_data(query, model, unfrozen=True)
    with pytest.raises(TypeError, match="Unknown argument 'freeze'"):
        MetaQModel.load_query_data(query, model, freeze=True)


def test_queries_of_several_modalities_are_prepared(paired, fit):
    model = fit(paired.copy())
    names = MetaQModel.prepare_query_mudata(paired, model, return_reference_var_names=True)
    assert {name: len(of) for name, of in names.items()} == {"rna": 60, "adt": 8, "atac": 80}
    assert MetaQModel.prepare_query_mudata(paired, model, inplace=False) is paired


def test_expected_counts_are_of_the_cells_and_of_the_metacells(cells, fit_as):
    model = fit_as(MetaQModel, cells.copy(), 6, max_epochs=40, setup=SETUP)
    table = model.get_normalized_expression()
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-4)
    counts = cells.to_df()
    share = counts.div(counts.sum(axis=1), axis=0)
    for state in "abc":  # against the truth of other states
        is_state = (cells.obs["state"] == state).to_numpy()
        own, other = share[is_state].mean(), share[~is_state].mean()
        found = table[is_state].mean()
        assert (found - own).abs().sum() < 0.3 * (found - other).abs().sum()
    on_scale = model.get_normalized_expression(library_size="latent").sum(axis=1)
    assert np.corrcoef(on_scale, counts.sum(axis=1))[0, 1] > 0.9
    few = model.get_normalized_expression(features=["gene5", "gene2"], library_size=100)
    np.testing.assert_allclose(few, 100 * table[["gene5", "gene2"]], rtol=1e-5)
    of_codes = model.get_normalized_expression(metacells=True)
    assert of_codes.index.tolist() == model.get_metacells().obs_names.tolist()
    means = table.groupby(model.get_assignments()["metacell"].to_numpy()).mean()
    assert np.corrcoef(of_codes.to_numpy().ravel(), means.to_numpy().ravel())[0, 1] > 0.95
    as_x, as_y = (model.get_normalized_expression(transform_batch=of) for of in "xy")
    is_x = (cells.obs["lane"] == "x").to_numpy()
    pd.testing.assert_frame_equal(as_x[is_x], table[is_x])
    assert not np.allclose(as_x, as_y)
    for options, words in (
        ({"features": ["none"]}, "that the model reads, found 'none'"),
        ({"transform_batch": "z"}, "Unknown transform_batch 'z'"),
        ({"modality": "adt"}, "Unknown modality 'adt'"),
    ):
        with pytest.raises((KeyError, ValueError), match=words):
            model.get_normalized_expression(**options)
    with pytest.raises(ValueError, match="SCPoli has none"):
        fit_as(SCPoli, cells.copy(), n_latent=4).get_normalized_expression(metacells=True)


@pytest.mark.parametrize("cls", [MetaQModel, SCPoli])
def test_scvi_tools_criticises_the_counts_that_models_draw(cells, fit_as, cls):
    words = {"n_latent": 4} if cls is SCPoli else {"n_metacells": 6}
    model = fit_as(cls, cells.copy(), max_epochs=40, setup=SETUP, **words)
    check = PosteriorPredictiveCheck(cells, {"ours": model}, n_samples=5)
    check.coefficient_of_variation("features")
    (table,) = check.metrics.values()
    assert np.corrcoef(table["ours"], table["Raw"])[0, 1] > 0.2
    drawn = model.posterior_predictive_sample(indices=[4, 1])
    assert drawn.shape == (2, 60)
    mean = model.posterior_predictive_sample(n_samples=20).todense().mean((0, 2))
    assert np.corrcoef(mean, cells.X.toarray().mean(0))[0, 1] > 0.95


def test_counts_of_several_modalities_are_drawn_by_their_names(paired, fit):
    model = fit(paired.copy())
    drawn = model.posterior_predictive_sample(n_samples=2)
    assert {name: of.shape for name, of in drawn.items()} == {
        "rna": (150, 60, 2),
        "adt": (150, 8, 2),
        "atac": (150, 80, 2),
    }
    of_proteins = model.get_normalized_expression(modality="adt")
    assert list(of_proteins.columns) == list(paired["adt"].var_names)


def test_a_model_is_shown_as_a_small_table(model, cells):
    lines = repr(model).splitlines()
    assert lines[0] == type(model).__name__
    assert len(lines) <= 9
    shown = {line.split("  ")[1]: line.split("  ")[-1].strip() for line in lines[1:]}
    assert shown["cells"] == "150"
    assert shown["trained"] == "3 epochs on 150 cells"
    if isinstance(model, MetaQModel):
        assert shown["metacells"] == "6"
        assert shown["conditions"] == "lane (2)"
    assert any("60 features, 60 read" in line for line in lines)


@pytest.mark.parametrize("cls", [MetaQModel, SCPoli])
def test_quantities_are_logged_at_each_step_on_request(cells, fit_as, cls):
    words = {"n_latent": 4} if cls is SCPoli else {"n_metacells": 6}
    model = fit_as(
        cls, cells.copy(), setup=SETUP, train={"plan_kwargs": {"on_step": True}}, **words
    )
    assert {"train_loss_step", "train_loss_epoch"} <= set(model.history)


def test_a_hub_gives_a_model_back(cells, fit_as, tmp_path):
    pytest.importorskip("huggingface_hub")
    from scvi import hub

    folder = str(tmp_path / "model")
    model = fit_as(MetaQModel, cells.copy(), 6, setup=SETUP)
    model.save(tmp_path / "model", save_anndata=True)
    metadata = hub.HubMetadata.from_dir(
        folder, anndata_version=version("anndata"), model_parent_module="scmetaq"
    )
    metadata.save(f"{folder}/_scvi_required_metadata.json")
    (tmp_path / "model" / "README.md").write_text("Metacells of three states.")
    found = hub.HubModel(folder).model
    assert isinstance(found, MetaQModel)
    pd.testing.assert_frame_equal(found.get_assignments(), model.get_assignments())


def test_arguments_of_other_models_that_are_none_are_not_given(blood):
    adata = blood.copy()
    MetaQModel.setup_anndata(adata, size_factor_key=None, continuous_covariate_keys=None)
    assert MetaQModel(adata, 8).n_metacells == 8
