import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse
from scipy.special import gammaln
from sklearn.linear_model import Ridge

from scmetaq import MetaQModel
from scmetaq.data._cells import Cells, Counts
from scmetaq.data._reference import (
    denoised_states,
    fit_reference,
    select_features,
    size_factor,
)
from scmetaq.model import _metaq
from scmetaq.model._reference_fit import shared_dimensions
from scmetaq.nn import neighborhood_mean


def scores(reference, counts):
    rate = counts.toarray() / size_factor(counts)
    log, root = reference.log, reference.sqrt
    return np.hstack([log(np.log1p(rate[:, log.features])), root(np.sqrt(rate[:, root.features]))])


def inputs(model, counts):
    """What the module reads of cells."""
    conditions = np.empty((counts.shape[0], 0), int)
    return model._read_all(
        Cells({"rna": Counts(counts)}, conditions, pd.RangeIndex(counts.shape[0]))
    )["rna"]


def test_the_module_computes_scores_as_fitted_and_states_nearer_to_denoised_ones_than_a_line(
    model, blood
):
    part = model.module.parts["rna"]
    path, scaling = part.linear_path, part.feature_scaling
    features = select_features(blood.X, len(scaling.features), by_variance=True)
    n_components = path.profile.axes.shape[1]
    reference = fit_reference(blood.X, features, n_components=n_components, seed=0)
    np.testing.assert_allclose(scaling.mean, reference.scaling.mean, rtol=1e-5)
    np.testing.assert_allclose(scaling.scale, reference.scaling.scale, rtol=1e-5)
    found = torch.from_numpy(inputs(model, blood.X)["scores"])
    np.testing.assert_allclose(found, scores(reference, blood.X), atol=1e-3)
    target = denoised_states(neighborhood_mean(found, found).numpy(), part.n_latent)
    state = model.get_latent_representation()[:, : part.n_latent]
    linear = Ridge(alpha=len(target) / 100).fit(found * 10, target).predict(found * 10)
    error, of_linear = (np.square(s - target).sum(1).mean() for s in (state, linear))
    assert error < 0.5 * of_linear


def test_decoders_of_codes_are_near_the_best_rates_of_their_cells(model, blood):
    """The likelihood of one rate for each metacell and gene, the mean of its cells."""
    report = model.get_quantization_report()
    features = model._selected("rna")
    counts, size = blood.X[:, features].toarray(), size_factor(blood.X)
    code = model.get_assignments()["metacell"].astype("category").cat.codes.to_numpy()
    one = np.eye(code.max() + 1)[code]
    rate = (one.T @ counts + 1e-3) / (one.T @ size + 1e-3)
    mean = counts.sum(0) / size.sum()

    def poisson(expected):
        return (expected - counts * np.log(expected) + gammaln(counts + 1)).mean()

    best, flat = poisson(rate[code] * size), poisson(np.maximum(mean, 1e-6) * size)
    assert best < flat
    assert report["quantized_loss"] < best + 0.1 * (flat - best)
    assert report["reconstruction_ratio"] < 1.01


def test_statistics_are_fitted_once(fit, train, toy):
    model = fit(toy)
    kept = {k: v.clone() for k, v in model.module.state_dict().items() if "linear_path" in k}
    train(model)
    after = model.module.state_dict()
    assert kept
    assert all(torch.equal(value, after[name]) for name, value in kept.items())


@pytest.fixture
def many_cells(toy, monkeypatch):
    """A model of more cells than may be in the reference sample."""
    monkeypatch.setattr(_metaq, "MAX_REFERENCE_CELLS", 40)
    monkeypatch.setattr(_metaq, "_CELLS_PER_CODE", 10)
    scvi.settings.seed = 0
    MetaQModel.setup_anndata(toy)
    return MetaQModel(toy, 6)


def test_many_cells_are_sampled(many_cells, toy):
    chosen = many_cells._codebook_cells(0)
    sample = many_cells._cells(many_cells.adata).counts["rna"].of(chosen)
    assert sample.shape == (60, 60)
    assert isinstance(sample, sparse.csr_matrix)
    cells = {tuple(row) for row in toy.X.toarray()}
    assert all(tuple(row) in cells for row in sample.toarray())
    again = many_cells._codebook_cells(0)
    np.testing.assert_array_equal(again, many_cells._codebook_cells(0))


def test_statistics_are_those_of_a_random_sample(many_cells, toy, monkeypatch):
    """Cells are sorted by state here: the first ones are not like the others."""
    rows = {tuple(row): i for i, row in enumerate(toy.X.toarray())}
    seen = []
    fit_statistics = _metaq.fit_statistics

    def spy(part, kind, counts, **options):
        seen.extend(rows[tuple(row)] for row in counts.toarray())
        return fit_statistics(part, kind, counts, **options)

    monkeypatch.setattr(_metaq, "fit_statistics", spy)
    many_cells.train(3, accelerator="cpu", enable_progress_bar=False)
    assert 20 <= len(seen) <= 40
    assert max(seen) > 130


@pytest.mark.parametrize(("recipe", "n_cells"), [("default", 40), ("published", 150)])
def test_what_is_trained_on(many_cells, toy, train, recipe, n_cells):
    """A part of the reference sample; as published, all cells."""
    model = train(MetaQModel(toy, 6, recipe=recipe), train_size=0.8, validation_size=0.2)
    assert model.get_assignments()["metacell"].nunique() == 6
    used = np.concatenate([model.train_indices, model.validation_indices])
    prepared = model._prepare()
    assert set(used) == set(prepared.cells)
    assert len(used) == n_cells
    assert len(model.train_indices) == 0.8 * n_cells
    prepared = many_cells._prepare()
    batch = prepared.inputs
    features = many_cells.module.parts["rna"].feature_scaling.features.numpy()
    counts = toy.X[prepared.cells]
    np.testing.assert_array_equal(batch["rna_counts"].toarray(), counts[:, features].toarray())
    for name, values in inputs(many_cells, counts).items():
        if name == "present":  # all have the only modality
            continue
        np.testing.assert_array_equal(batch[f"rna_{name}"], values)


def test_a_modality_counts_by_the_dimensions_in_which_neighbours_agree(rng):
    """Noise counts for little, few dimensions for less than many, however large their variance."""
    noise = rng.normal(size=(600, 20))
    in_two = noise + np.pad(rng.normal(size=(4, 2)), [(0, 0), (0, 18)])[np.arange(600) % 4] * 4
    in_all = noise + rng.normal(size=(10, 20))[np.arange(600) % 10] * 2
    one_large = in_all * np.where(np.arange(20) == 0, 10, 1)
    found = [
        shared_dimensions(scores.astype(np.float32), 0)
        for scores in (noise, in_two, in_all, one_large)
    ]
    assert 0 < found[0] < found[1] < 0.6 * found[2]
    assert found[3] == pytest.approx(found[2], rel=0.1)
