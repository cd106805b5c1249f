import inspect

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse

from scmetaq import MetaQModel
from scmetaq.model import _metaq

GETTERS = """get_assignments get_latent_representation get_codebook get_metacells
get_quantization_report predict_labels"""


def names(model):
    return model.get_assignments()["metacell"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        *(
            ({"n_metacells": n}, ValueError, f"between 2 and 149 .*found {n}. .*n_metacells=3")
            for n in (1, 0, -5, 150, 1000)
        ),
        *(({"n_metacells": n}, TypeError, f"an int, found {n!r}") for n in (7.0, "10", True)),
        ({"n_metacells": None}, TypeError, "n_metacells is missing.*n_metacells=3"),
        ({"recipe": "best"}, ValueError, "Unknown recipe 'best'.*'default', 'published'"),
        ({"distance": "l1"}, ValueError, "l1.*expected one of"),
        ({"codebook_init": "best"}, ValueError, "best.*expected one of"),
        ({"likelihood": "zinb"}, ValueError, "zinb.*expected one of"),
        *(
            ({"evenness": e}, ValueError, f"evenness between 0 and 1, found {e!r}")
            for e in (-1, 1.5, "high")
        ),
        ({"n_latent": 2.5}, TypeError, "n_latent to be an int, found 2.5"),
        ({"n_top_features": 1.5}, TypeError, "n_top_features to be an int, found 1.5"),
    ],
)
def test_bad_arguments_of_the_model_are_refused(toy, options, error, message):
    MetaQModel.setup_anndata(toy)
    with pytest.raises(error, match=message):
        MetaQModel(toy, **{"n_metacells": 6, **options})


def test_an_untrained_model_can_be_looked_at_but_not_read_and_data_must_be_set_up(toy):
    with pytest.raises(ValueError, match="MetaQModel.setup_anndata first"):
        MetaQModel(toy, 6)
    MetaQModel.setup_anndata(toy, labels_key="state")
    model = MetaQModel(toy, 6)
    inspect.getmembers(model)
    assert not model.is_trained
    assert "metacells   6" in repr(model)
    for getter in GETTERS.split():
        with pytest.raises(RuntimeError, match="train the model first"):
            getattr(model, getter)()


def test_numpy_numbers_of_metacells_are_numbers(fit, toy, tmp_path):
    model = fit(toy, np.int64(6))
    model.get_metacells().write_h5ad(tmp_path / "metacells.h5ad")
    assert type(model.n_metacells) is int


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("n_metacells", [2, 30, 149])
def test_as_many_metacells_as_asked_for(fit, toy, recipe, n_metacells):
    model = fit(toy, n_metacells, recipe=recipe)
    assert names(model).nunique() == n_metacells
    assert model.get_metacells().n_obs == n_metacells
    assert model.get_quantization_report()["n_empty"] == 0


@pytest.mark.parametrize("codebook_init", ["kmeans", "random", "geometric"])
@pytest.mark.parametrize("recipe", ["default", "published"])
def test_every_initialisation(fit, toy, codebook_init, recipe):
    assert names(fit(toy, codebook_init=codebook_init, recipe=recipe)).nunique() == 6


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("distance", [None, "euclidean", "cosine"])
def test_cells_are_assigned_by_the_distance_and_the_margin_is_to_the_second_code(
    fit, toy, recipe, distance
):
    model = fit(toy, recipe=recipe, distance=distance)
    z = model.get_latent_representation().astype(float)
    codes = model.get_codebook().drop(columns="usage").to_numpy(dtype=float)
    is_cosine = (distance or {"published": "cosine"}.get(recipe)) == "cosine"
    if is_cosine:
        z, codes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, codes))
    squared = np.square(z[:, None] - codes[None]).sum(2) / (2 if is_cosine else 1)
    best, second = np.sort(squared, axis=1)[:, :2].T
    clear = second - best > 1e-4 * second
    assert clear.mean() > 0.95
    found = model.get_assignments()
    expected = [f"mc{i:04d}" for i in squared.argmin(1)[clear]]
    np.testing.assert_array_equal(found["metacell"][clear], expected)
    np.testing.assert_allclose(found["margin"], second - best, rtol=1e-5, atol=1e-5)
    assert found["metacell"].nunique() == 6


def test_states_are_told_apart_and_evenness_makes_sizes_even(toy_model, toy, fit):
    table = pd.crosstab(names(toy_model), toy.obs["state"])
    assert table.max(axis=1).sum() / 150 > 0.9
    spread = [names(fit(toy, 12, evenness=e)).value_counts().std() for e in (0, 1)]
    assert spread[1] < spread[0]


def test_one_seed_one_result_and_the_global_seed_is_the_seed(fit, toy):
    first, again, other = (fit(toy.copy(), seed=seed) for seed in (0, 0, 1))
    assert scvi.settings.seed == 1
    pd.testing.assert_frame_equal(first.get_assignments(), again.get_assignments())
    pd.testing.assert_frame_equal(first.get_codebook(), again.get_codebook())
    assert not np.array_equal(first.get_codebook(), other.get_codebook())


def test_only_the_decoders_of_cells_learn_and_as_published_all_starts_at_random(toy):
    scvi.settings.seed = 0
    MetaQModel.setup_anndata(toy, batch_key="state")
    learning = {}
    for recipe in ("default", "published"):
        model = MetaQModel(toy, 6, recipe=recipe)
        model._prepare()
        named = model.module.named_parameters()
        learning[recipe] = {name.split(".")[0]: p for name, p in named if p.requires_grad}
        names = {name for name, p in model.module.named_parameters() if p.requires_grad}
        if recipe == "default":
            assert names
            assert all(name.startswith("parts.rna.decoder.") for name in names)
    assert {"codebook", "condition_embedding", "parts"} <= learning["published"].keys()
    decoder = model.module.parts["rna"].decoder
    bias = decoder.log_rate.bias.detach().numpy()
    assert np.abs(bias).max() <= 1 / np.sqrt(decoder.log_rate.in_features)  # torch's default


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize(("modality", "likelihood"), [("adt", "nb"), ("atac", "poisson")])
def test_other_modalities(fit, paired, modality, likelihood, recipe):
    model = fit(paired[modality].copy(), setup={"modality": modality}, recipe=recipe)
    assert model.module.parts[modality].decoder.likelihood == likelihood
    assert names(model).nunique() == 6
    assert model.get_metacells().uns["metaq"]["modality"] == modality
    assert np.isfinite(list(model.get_quantization_report().values())).all()


def test_the_encoder_reads_at_most_so_many_features(fit, paired):
    cells = paired["atac"].copy()
    model = fit(cells, setup={"modality": "atac"}, n_top_features=30)
    chosen = model.module.parts["atac"].feature_scaling.features.numpy()
    n_cells = np.asarray((cells.X > 0).sum(0)).ravel()
    assert len(chosen) == 30
    assert n_cells[chosen].min() >= np.delete(n_cells, chosen).max()
    assert model.get_metacells().n_vars == 80


@pytest.mark.parametrize(
    ("n_cells", "n_features", "n_metacells"), [(60, 50, 5), (60, 50, 59), (10, 5, 3), (3, 4, 2)]
)
def test_tiny_data(fit, toy, n_cells, n_features, n_metacells):
    X = toy.X[:n_cells, :n_features].toarray() + np.eye(n_cells, n_features)
    X[:, 0] += 1
    model = fit(anndata.AnnData(sparse.csr_matrix(X)), n_metacells)
    assert names(model).nunique() == n_metacells
    assert np.isfinite(model.get_latent_representation()).all()


def test_duplicate_cells_go_together_and_too_few_distinct_ones_are_told(fit, toy):
    twice = anndata.concat([toy[:40], toy[:40]], keys=["a", "b"], index_unique="-")
    found = names(fit(twice))
    assert found.nunique() == 6
    np.testing.assert_array_equal(found[:40], found[40:])
    few = toy[np.arange(60) % 12].copy()
    few.obs_names_make_unique()
    for recipe in ("default", "published"):
        with pytest.raises(ValueError, match="least 20 distinct cells .*, found 12 among 60"):
            fit(few.copy(), 20, recipe=recipe)
    assert names(fit(few, 12)).nunique() == 12
    one_gene = toy[:, :1].copy()  # of which counts per 10,000 are the same in all cells
    with pytest.raises(ValueError, match="found 1 among 150: .* as one of them in what is read"):
        fit(one_gene)


def test_a_few_cells_more_than_metacells_are_enough(fit, toy):
    for n_cells in range(3, 8):
        found = names(fit(toy[np.arange(n_cells) * 20].copy(), n_cells - 1, 1))
        assert found.nunique() == n_cells - 1


@pytest.fixture(scope="module")
def bounded(fit, _toy):
    return fit(_toy.copy(), train={"min_size": 25, "max_size": 25})


def sizes(assignments):
    return assignments["metacell"].value_counts()


def test_sizes_are_within_bounds_also_one_cell_at_a_time_and_in_a_query(bounded, toy_model, toy):
    free = sizes(toy_model.get_assignments())
    assert free.min() < 25 < free.max()
    found = bounded.get_assignments()
    assert len(sizes(found)) == 6
    assert sizes(found).eq(25).all()
    assert bounded.get_metacells().obs["n_cells"].eq(25).all()
    alone = pd.concat([bounded.get_assignments(toy[[i]].copy()) for i in (0, 70, 149)])
    pd.testing.assert_series_equal(alone["metacell"], found["metacell"].iloc[[0, 70, 149]])
    shuffled = toy[np.random.default_rng(0).permutation(150)].copy()
    again = bounded.get_assignments(shuffled)["metacell"].loc[found.index]
    pd.testing.assert_series_equal(again, found["metacell"])
    query = MetaQModel.load_query_data(toy, bounded)
    pd.testing.assert_series_equal(query.get_assignments()["metacell"], found["metacell"])


def test_saved_and_repeated_models_have_equal_sizes(bounded, tmp_path, fit, toy, train, toy_model):
    bounded.save(tmp_path / "model", save_anndata=True)
    loaded = MetaQModel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_assignments(), bounded.get_assignments())
    again = fit(toy, train={"min_size": 25, "max_size": 25})
    pd.testing.assert_frame_equal(again.get_assignments(), bounded.get_assignments())
    model = train(fit(toy, train={"max_size": 26}), 1)
    assert not model.module.codebook.is_bounded


def test_usage_report_and_merged_metacells_are_of_the_bounded_ones(bounded):
    share = sizes(bounded.get_assignments()).sort_index() / 150
    np.testing.assert_allclose(bounded.get_codebook()["usage"], share, atol=1e-6)
    assert bounded.get_quantization_report()["n_empty"] == 0
    assert (bounded.get_assignments()["margin"] >= 0).all()
    assert sizes(bounded.get_assignments(n_metacells=3)).min() >= 24


def test_one_bound_will_do_and_of_very_many_cells_a_sample_is_bounded(fit, toy, monkeypatch):
    assert sizes(fit(toy, train={"max_size": 25}).get_assignments()).eq(25).all()
    of_published = fit(toy, train={"min_size": 10}, recipe="published").get_assignments()
    assert sizes(of_published).min() >= 10
    monkeypatch.setattr("scmetaq.model._number._MOST_SIMILARITIES", 6 * 130)
    found = sizes(fit(toy, train={"min_size": 24, "max_size": 26}).get_assignments())
    assert found.between(14, 38).all()


@pytest.fixture(scope="module")
def of_many(blood, fit):
    """Forty metacells found and looked up region by region, as thousands are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scmetaq.train._codebook_fit.MOST_AT_ONCE", 10)
        patch.setattr("scmetaq.nn._regions._CODES_PER_REGION", 10)
        for name in ("_regions", "_codebook"):
            patch.setattr(f"scmetaq.nn.{name}.FEWEST_CODES", 20)
        patch.setattr("scmetaq.nn._code_tree._MOST_AT_ONCE", 30)
        yield fit(blood.copy(), 40)


def test_many_metacells_are_exactly_as_many_and_as_good_as_few(of_many, blood, fit):
    assert len(of_many.module.codebook.region) == 40
    assert of_many.get_assignments()["metacell"].nunique() == 40
    assert of_many.get_metacells().obs["n_cells"].sum() == blood.n_obs
    found, expected = (of.get_quantization_report() for of in (of_many, fit(blood.copy(), 40)))
    assert found["codebook_loss"] < 1.02 * expected["codebook_loss"]
    assert found["perplexity"] > 0.95 * expected["perplexity"]


def test_a_part_of_the_cells_is_searched_for_many_codes_which_are_means_of_all(
    blood, fit, monkeypatch
):
    monkeypatch.setattr("scmetaq.train._codebook_fit.MOST_AT_ONCE", 10)
    monkeypatch.setattr("scmetaq.model._metaq.MOST_AT_ONCE", 10)
    monkeypatch.setattr("scmetaq.model._metaq.MAX_REFERENCE_CELLS", 100)
    monkeypatch.setattr("scmetaq.model._metaq._CELLS_SEARCHED", 5)
    monkeypatch.setattr("scmetaq.model._metaq._CELLS_AT_ONCE", 90)
    sizes, encode = [], _metaq.half_latents
    monkeypatch.setattr(
        _metaq, "half_latents", lambda m, of: sizes.append(of.n_cells) or encode(m, of)
    )
    model = fit(blood.copy(), 40)
    assert sizes[0] == 200
    assert max(sizes[1:]) == 90
    assert sum(sizes) == blood.n_obs
    z, found = model.get_latent_representation(), model.get_assignments()["metacell"]
    assert found.nunique() == 40
    codes = model.get_codebook().drop(columns="usage")
    means = pd.DataFrame(z, found.index).groupby(found).mean().to_numpy()
    within = ((z - means[found.astype("category").cat.codes]) ** 2).sum(1).mean()
    apart = ((codes.to_numpy() - means) ** 2).sum(1).mean()
    assert apart < 0.3 * within / (200 / 40)  # what means of the 200 alone would be off by


def test_many_metacells_are_the_same_when_loaded_cut_or_mapped_to(of_many, tmp_path):
    expected = of_many.get_assignments()
    of_many.save(str(tmp_path / "model"))
    loaded = MetaQModel.load(str(tmp_path / "model"), of_many.adata.copy())
    pd.testing.assert_frame_equal(loaded.get_assignments(), expected)
    query = MetaQModel.load_query_data(of_many.adata[::7].copy(), loaded)
    pd.testing.assert_frame_equal(query.get_assignments(), expected.iloc[::7])
    cut = of_many.get_assignments(n_metacells=12)["metacell"]
    assert cut.nunique() == 12
    is_nested = pd.crosstab(expected["metacell"], cut).gt(0).sum(axis=1) == 1
    assert is_nested.all()
