"""New cells mapped onto a trained model."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq import MetaQModel, metrics


def in_batches(cells, rng, names=("x", "y", "z")):
    """The cells in batches that multiply genes by factors of their own."""
    batch = np.arange(cells.n_obs) % len(names)
    factors = rng.gamma(4.0, 0.25, (len(names), cells.n_vars))
    counts = rng.poisson(cells.X.toarray() * factors[batch]).astype(np.float32)
    counts[:, 0] += 1
    cells.X = sparse.csr_matrix(counts)
    cells.obs["batch"] = pd.Categorical(np.array(names)[batch])
    cells.obs["lane"] = np.array([1, 2])[np.arange(cells.n_obs) // 3 % 2]
    return cells


@pytest.fixture(scope="module")
def cells(blood):
    return in_batches(blood.copy(), np.random.default_rng(0))


@pytest.fixture(scope="module")
def known(cells):
    return cells[cells.obs["batch"] != "z"].copy()


@pytest.fixture(scope="module")
def reference(known, fit):
    setup = {"batch_key": "batch", "categorical_covariate_keys": ["lane"]}
    return fit(known.copy(), 8, 20, setup=setup)


@pytest.fixture
def query(cells):
    """Cells of a batch that the reference has not seen; to change at will."""
    return cells[cells.obs["batch"] == "z"].copy()


@pytest.fixture(scope="module")
def mapped(cells, reference, train):
    model = MetaQModel.load_query_data(cells[cells.obs["batch"] == "z"].copy(), reference)
    scvi.settings.seed = 0
    return train(model, None)


def same(a, b):
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_cells_of_known_conditions_get_the_results_of_the_reference(reference, known, mapped):
    some = known[::-2].copy()
    model = MetaQModel.load_query_data(some, reference)
    same(model.get_assignments(), reference.get_assignments(some))
    same(model.get_codebook(), reference.get_codebook())
    z, expected = model.get_latent_representation(), reference.get_latent_representation(some)
    np.testing.assert_array_equal(z, expected)
    same(mapped.get_assignments(known.copy()), reference.get_assignments())


def test_only_effects_and_rows_of_new_conditions_are_fitted(mapped, reference, query):
    before, after = reference.module.state_dict(), mapped.module.state_dict()
    frozen = {f"condition_embedding.frozen_{i}": f"condition_embedding.tables.{i}" for i in (0, 1)}
    rows = set(frozen.values())
    assert set(after) == set(before) | set(frozen)
    columns = {"correction.offsets", "correction.log_penalty"}
    for name in set(before) - rows - columns:
        assert torch.equal(after[name], before[name]), name
    for name, was in frozen.items():
        assert torch.equal(after[name], before[was])
    old = mapped.module.correction.columns([range(2), range(2)])
    for name in columns:
        assert torch.equal(after[name][:, old], before[name])
    assert [len(after[name]) for name in sorted(rows)] == [1, 0]
    learnt = {name for name, p in mapped.module.named_parameters() if p.requires_grad}
    assert learnt == rows
    untrained = MetaQModel.load_query_data(query, reference)
    new = mapped.module.correction.columns([range(2, 3), []])
    assert mapped.module.correction.offsets[:, new].abs().max() > 0
    assert not untrained.module.correction.offsets[:, new].any()
    assert mapped.history == {}
    batches = mapped.get_condition_embeddings()["batch"]
    np.testing.assert_allclose(batches.X[2], batches.X[:2].mean(0), atol=1e-6)
    of_batch = batches.obs
    assert list(of_batch.index) == ["x", "y", "z"]
    assert of_batch["n_cells"].isna().tolist() == [True, True, False]  # those of the query
    assert of_batch.loc["z", "n_cells"] == query.n_obs
    assert mapped.new_conditions == {"batch": ["z"], "lane": []}
    assert mapped.is_query
    assert not reference.is_query


def test_a_batch_is_mapped_onto_a_reference_of_one_batch(known, query, fit, train):
    only = known[known.obs["batch"] == "x"].copy()
    reference = fit(only, 6, 20, setup={"batch_key": "batch", "labels_key": "cell_type"})
    assert reference.get_condition_embeddings()["batch"].obs_names.tolist() == ["x"]
    model = MetaQModel.load_query_data(query, reference)
    before = (model.predict_labels()["cell_type"] == query.obs["cell_type"]).mean()
    train(model, None)
    after = (model.predict_labels()["cell_type"] == query.obs["cell_type"]).mean()
    assert model.new_conditions == {"batch": ["z"]}
    assert after > 0.7
    assert after > before - 0.05
    same(model.get_assignments(only.copy()), reference.get_assignments())


def test_metacells_of_the_query_are_pure_and_mix_with_the_reference(mapped, reference, cells):
    found = pd.concat([reference.get_assignments(), mapped.get_assignments()])["metacell"]
    found = found.loc[cells.obs_names]
    kinds = cells.obs["cell_type"]
    assert metrics.mixing(found, cells.obs["batch"], kinds).mixing > 0.8
    of_reference = kinds[reference.adata.obs_names].groupby(
        reference.get_assignments()["metacell"].to_numpy()
    )
    label = of_reference.agg(lambda values: values.mode()[0])
    right = {
        name: (label[codes].to_numpy() == kinds[codes.index].to_numpy()).mean()
        for name, codes in (
            ("reference", reference.get_assignments()["metacell"]),
            ("query", mapped.get_assignments()["metacell"]),
        )
    }
    assert right["query"] > right["reference"] - 0.15


def test_the_users_object_and_without_new_conditions_the_model_stay(reference, query, train, known):
    query = query[:, ::-1].copy()
    obs, var, X = query.obs.copy(), query.var.copy(), query.X.copy()
    train(MetaQModel.load_query_data(query, reference), 1)
    pd.testing.assert_frame_equal(query.obs, obs)
    pd.testing.assert_frame_equal(query.var, var)
    assert abs(query.X - X).nnz == 0
    assert not query.uns
    assert not query.obsm
    model = MetaQModel.load_query_data(known[:50].copy(), reference)
    before = {name: values.clone() for name, values in model.module.state_dict().items()}
    model.train()
    assert all(torch.equal(v, before[name]) for name, v in model.module.state_dict().items())
    assert getattr(model, "trainer", None) is None


def test_references_and_queries_come_from_folders(mapped, reference, query, train, tmp_path, known):
    reference.save(tmp_path / "model")
    model = MetaQModel.load_query_data(query, tmp_path / "model", accelerator="cpu")
    scvi.settings.seed = 0
    train(model, None)
    same(model.get_assignments(), mapped.get_assignments())
    mapped.save(tmp_path / "query")
    for loaded in (
        MetaQModel.load(tmp_path / "query", query, accelerator="cpu"),
        MetaQModel.load(tmp_path / "query", False, accelerator="cpu"),
    ):
        same(loaded.get_assignments(query), mapped.get_assignments())
        same(loaded.get_assignments(known.copy()), mapped.get_assignments(known.copy()))
        assert loaded.new_conditions == mapped.new_conditions
        learnt = [name for name, p in loaded.module.named_parameters() if p.requires_grad]
        assert learnt == ["condition_embedding.tables.0", "condition_embedding.tables.1"]


def test_codes_were_not_fitted_to_a_query_which_can_be_a_reference(mapped, reference, query, train):
    report = mapped.get_granularity_report([2, 8])
    np.testing.assert_allclose(report["prediction_error"], report["codebook_loss"])
    own = reference.get_granularity_report([2, 8])
    assert (own["prediction_error"] > own["codebook_loss"]).all()
    query.obs["batch"] = np.array(["z", "w"])[np.arange(query.n_obs) % 2]
    again = MetaQModel.load_query_data(query, mapped)
    assert again.new_conditions["batch"] == ["w"]
    train(again, 2)
    of_z = query[query.obs["batch"] == "z"].copy()
    same(again.get_assignments(of_z), mapped.get_assignments(of_z))


class TestFeatures:
    def test_order_and_further_features_do_not_matter(self, reference, known):
        further = AnnData(
            sparse.random(known.n_obs, 30, 0.3, "csr", dtype=np.float32, random_state=0).ceil(),
            obs=known.obs,
            var=pd.DataFrame(index=[f"new{i}" for i in range(30)]),
        )
        X = sparse.hstack([further.X, known.X], format="csr")
        names = [*further.var_names, *known.var_names]
        wide = AnnData(X, obs=known.obs.copy(), var=pd.DataFrame(index=names))[:, ::-1].copy()
        model = MetaQModel.load_query_data(wide, reference)
        same(model.get_assignments(), reference.get_assignments())
        assert not len(model.missing_features["rna"])
        assert list(model.get_metacells().var_names) == list(known.var_names)

    @pytest.fixture(scope="class")
    @classmethod
    def fewer(cls, known):
        """The reference's own cells without three features in ten."""
        there = np.random.default_rng(1).random(known.n_vars) > 0.3
        return known[:, there].copy()

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, fewer, reference):
        return MetaQModel.load_query_data(fewer, reference)

    def test_missing_ones_are_listed_and_metacells_have_those_measured(self, model, fewer, known):
        missing = known.var_names.difference(fewer.var_names, sort=False)
        assert list(model.missing_features["rna"]) == list(missing)
        metacells = model.get_metacells()
        assert list(metacells.var_names) == list(fewer.var_names)
        assert metacells.layers["counts"].sum() == fewer.X.sum()
        assert metacells.obs["n_cells"].sum() == fewer.n_obs

    def test_missing_ones_are_filled_in(self, model, fewer, known, reference):
        """Far better than taking them for zero."""
        expected = reference.get_assignments()["metacell"]
        zeros = known.copy()
        there = zeros.var_names.isin(fewer.var_names).astype(np.float32)
        zeros.X = sparse.csr_matrix(zeros.X.multiply(there))
        z = reference.get_latent_representation()
        error = np.square(model.get_latent_representation() - z).sum()
        with_zeros = np.square(reference.get_latent_representation(zeros) - z).sum()
        assert error < 0.5 * with_zeros
        assert (model.get_assignments()["metacell"] == expected).mean() > 0.7

    def test_save_and_load(self, model, fewer, tmp_path):
        model.save(tmp_path / "query")
        loaded = MetaQModel.load(tmp_path / "query", fewer, accelerator="cpu")
        same(loaded.get_assignments(), model.get_assignments())
        loaded = MetaQModel.load(tmp_path / "query", False, accelerator="cpu")
        same(loaded.get_assignments(fewer[:7].copy()), model.get_assignments()[:7])
        assert list(loaded.missing_features["rna"]) == list(model.missing_features["rna"])

    def test_they_are_not_read_in_other_cells_nor_counted_in_reports(self, model, known, fewer):
        same(model.get_assignments(known.copy()), model.get_assignments())
        found = model.get_granularity_report([model.n_metacells])
        expected = model.get_quantization_report()["reconstruction_ratio"]
        assert found["reconstruction_ratio"].iloc[0] == pytest.approx(expected, rel=1e-4)
        with pytest.raises(ValueError, match="found 1 missing.*load_query_data"):
            model.get_assignments(fewer[:, 1:].copy())

    def test_training_and_the_report_ignore_them(self, fewer, reference, train):
        other = fewer.copy()
        other.obs["batch"] = "w"
        model = train(MetaQModel.load_query_data(other, reference), 2)
        assert np.isfinite(list(model.get_quantization_report().values())).all()

    def test_too_few_are_refused(self, known, reference):
        with pytest.raises(ValueError, match=r"at least 20% of the 500.*found 40 in the query"):
            MetaQModel.load_query_data(known[:, :40].copy(), reference)
        with pytest.raises(ValueError, match=r"at least 90% of the 500.*found 400"):
            MetaQModel.load_query_data(known[:, :400].copy(), reference, min_shared=0.9)
        for n, share in ((160, 0.2), (410, 0.8)):
            found = MetaQModel.load_query_data(known[:, :n].copy(), reference, min_shared=share)
            assert len(found.missing_features["rna"]) == 500 - n
        known = known.copy()
        known.var_names = [f"ENSG{i}" for i in range(known.n_vars)]
        with pytest.raises(ValueError, match="found 0 in the query.*var_names"):
            MetaQModel.load_query_data(known, reference)

    def test_the_layer_of_the_reference(self, fit, toy):
        toy.layers["raw"] = toy.X.copy()
        reference = fit(toy.copy(), setup={"layer": "raw"})
        toy.X = None
        model = MetaQModel.load_query_data(toy[:, 5:].copy(), reference)
        assert model.get_metacells().layers["counts"].sum() == toy.layers["raw"][:, 5:].sum()
        del toy.layers["raw"]
        with pytest.raises(KeyError, match=r"No layer 'raw' in query\.layers"):
            MetaQModel.load_query_data(toy, reference)


class TestBadInput:
    @pytest.mark.parametrize(
        ("column", "change", "error", "text"),
        [
            ("batch", None, KeyError, r"No column 'batch' in query\.obs.*'new'"),
            ("batch", lambda old: old.where(np.arange(len(old)) > 2), ValueError, "3 missing val"),
            ("batch", lambda old: np.linspace(0, 1, len(old)), ValueError, "133 new values for 1"),
            ("lane", lambda old: "left", ValueError, "'lane' of new cells to be int.*found 'left'"),
        ],
    )
    def test_conditions_that_cannot_be_used(self, query, reference, column, change, error, text):
        old = query.obs.pop(column)
        if change:
            query.obs[column] = change(old)
        with pytest.raises(error, match=text):
            MetaQModel.load_query_data(query, reference)

    def test_counts_that_cannot_be_used(self, query, reference):
        query.X = query.X + 0.5 * (query.X > 0)
        with pytest.raises(ValueError, match=r"non-integer.*in query\.X|in query\.X.*non-integer"):
            MetaQModel.load_query_data(query, reference)

    @pytest.mark.parametrize("of", [int, float, str])
    def test_conditions_as_numbers(self, known, reference, of):
        """Compared as text, whatever their type."""
        known = known.copy()
        known.obs["lane"] = known.obs["lane"].astype(of)
        model = MetaQModel.load_query_data(known, reference)
        same(model.get_assignments(), reference.get_assignments())

    def test_new_numbers_are_new_categories(self, query, reference):
        query.obs["batch"] = np.arange(query.n_obs) % 2
        query.obs["lane"] = 3.0
        model = MetaQModel.load_query_data(query, reference)
        assert model.new_conditions == {"batch": ["0", "1"], "lane": [3]}

    def test_numbers_stay_numbers(self, query, reference, tmp_path):
        query.obs["lane"] = np.array([1, 3])[np.arange(query.n_obs) % 2]
        model = MetaQModel.load_query_data(query, reference)
        assert model.adata.obs["lane"].dtype.kind == "i"
        assert "lane" in model.get_metacells().obs
        model.save(tmp_path / "query", save_anndata=True)

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"early_stopping": True}, ValueError, "no train_size or early_stopping"),
            ({"min_size": 2}, ValueError, "no min_size or max_size"),
            ({"max_epochs": 0}, ValueError, "max_epochs"),
            ({"plan_kwargs": {"rate": 1}}, TypeError, "found 'rate'"),
            ({"max_epoch": 1}, TypeError, "found 'max_epoch'"),
        ],
    )
    def test_arguments_of_training(self, query, reference, arguments, error, text):
        model = MetaQModel.load_query_data(query, reference)
        with pytest.raises(error, match=text):
            model.train(**arguments)

    def test_a_condition_with_one_cell(self, query, reference, train):
        with pytest.warns(UserWarning, match="fewer than 10 cells, e.g. 'z' with 1"):
            model = MetaQModel.load_query_data(query[:1].copy(), reference)
        assert len(train(model, 1).get_assignments()) == 1

    def test_no_cells_no_reference_and_no_known_category(self, query, toy, reference, mapped):
        with pytest.raises(TypeError, match="Expected an AnnData, found str"):
            MetaQModel.load_query_data("cells.h5ad", reference)
        with pytest.raises(TypeError, match="Expected a trained MetaQModel"):
            MetaQModel.load_query_data(query, 3)
        MetaQModel.setup_anndata(toy)
        with pytest.raises(ValueError, match="not trained"):
            MetaQModel.load_query_data(toy, MetaQModel(toy, 5))
        with pytest.raises(ValueError, match="saved model in no folder"):
            MetaQModel.load_query_data(query, "no folder")
        query.obs["batch"] = "w"
        with pytest.raises(ValueError, match="found 'w'"):
            mapped.get_assignments(query)

    def test_training_without_cells(self, mapped, tmp_path):
        mapped.save(tmp_path / "query")
        with pytest.raises(ValueError, match="without cells"):
            MetaQModel.load(tmp_path / "query", False, accelerator="cpu").train()


def test_a_reference_without_conditions(model, again):
    query = MetaQModel.load_query_data(again(index=slice(40)), model)
    query.train()
    same(query.get_assignments(), model.get_assignments()[:40])
    assert query.new_conditions == {}


def test_the_published_recipe_is_frozen_too(known, query, fit, train):
    reference = fit(known.copy(), 8, 3, setup={"batch_key": "batch"}, recipe="published")
    model = train(MetaQModel.load_query_data(query[:, 50:].copy(), reference), 2)
    before, after = reference.module.state_dict(), model.module.state_dict()
    may_differ = {"condition_embedding.tables.0", "parts.rna.coverage.is_missing"}
    for name in set(before) - may_differ:
        assert torch.equal(after[name], before[name]), name
    assert any("running_mean" in name for name in before)


class TestMuData:
    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, paired, fit):
        """A reference of RNA and proteins, and its cells."""
        mdata = MuData({kind: paired[kind].copy() for kind in ("rna", "adt")})
        mdata.obs["batch"] = np.array(["x", "y"])[np.arange(150) % 2]
        return fit(mdata, 6, 10, setup={"batch_key": "batch"}), mdata

    def test_the_same_cells_get_the_same_and_features_may_be_missing(self, pair):
        reference, mdata = pair
        query = mdata[:60].copy()
        model = MetaQModel.load_query_data(query, reference)
        same(model.get_assignments(), reference.get_assignments(query))
        parts = {"rna": mdata["rna"].copy(), "adt": mdata["adt"][:, :6].copy()}
        query = MuData(parts)
        query.obs["batch"] = mdata.obs["batch"]
        model = MetaQModel.load_query_data(query, reference)
        assert list(model.missing_features["adt"]) == ["protein6", "protein7"]
        assert model.get_metacells()["adt"].n_vars == 6

    @pytest.mark.parametrize("there", ["rna", "adt"])
    def test_a_modality_may_be_missing(self, pair, train, tmp_path, there):
        reference, mdata = pair
        query = MuData({there: mdata[there].copy()})
        query.obs["batch"] = "z"
        model = train(MetaQModel.load_query_data(query, reference), 2)
        found = model.get_assignments()["metacell"]
        state = mdata["rna"].obs["state"]
        assert metrics.purity(found, state.loc[found.index]).mean() > 0.9
        assert list(model.get_metacells().mod) == [there]
        model.save(tmp_path / "query")
        loaded = MetaQModel.load(tmp_path / "query", query, accelerator="cpu")
        same(loaded.get_assignments(), model.get_assignments())
        assert list(query.mod) == [there]

    def test_cells_that_cannot_be_used(self, pair):
        reference, mdata = pair
        query = MuData({"gex": mdata["rna"].copy()})
        with pytest.raises(ValueError, match="at least one modality.*'gex'"):
            MetaQModel.load_query_data(query, reference)
        with pytest.raises(TypeError, match="Expected a MuData with modalities of the model"):
            MetaQModel.load_query_data(mdata["rna"].copy(), reference)
        query = mdata.copy()
        query["adt"].X = query["adt"].X * np.float32(0.5)
        with pytest.raises(ValueError, match=r"integers >= 0\) in query\['adt'\]\.X, found"):
            MetaQModel.load_query_data(query, reference)
