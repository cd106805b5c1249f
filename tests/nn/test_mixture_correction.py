import harmonypy
import numpy as np
import pytest
import scanpy as sc
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

import scmetaq
from scmetaq.nn import MixtureCorrection, fit_mixture, fit_query_offsets, initial_codes
from scmetaq.nn import _mixture_correction as code
from scmetaq.nn._mixture_correction import one_hot


def fitted(values, conditions, n_categories, start, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixture = fit_mixture(values, conditions, n_categories, start=start, generator=generator)
    correction = MixtureCorrection(len(start), n_categories, values.shape[1])
    correction.set_state(mixture)
    return correction


class TestCellLines:
    """Five cell lines in five batches."""

    @pytest.fixture(scope="class")
    @classmethod
    def cells(cls):
        """Principal components, and ``obs``."""
        adata = scmetaq.data.demo_batches()
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
        sc.pp.pca(adata, n_comps=20)
        return torch.from_numpy(adata.obsm["X_pca"]).float(), adata.obs

    @pytest.fixture(scope="class")
    @classmethod
    def corrected(cls, cells):
        """Values that are corrected twice, with another start and order each."""
        values, obs = cells
        conditions = torch.from_numpy(obs["batch"].cat.codes.to_numpy().astype(int))[:, None]
        unit = torch.nn.functional.normalize(values, dim=1)
        corrections = [
            fitted(values, conditions, [5], initial_codes(unit, 20, seed=seed), seed)
            for seed in range(2)
        ]
        return [
            (correction, conditions, correction(values, conditions)) for correction in corrections
        ]

    def test_batches_mix_better_than_by_harmonypy_and_lines_stay_as_pure(self, cells, corrected):
        values, obs = cells
        theirs = harmonypy.run_harmony(
            values.numpy(), obs, ["batch"], random_state=0, verbose=False
        )
        mixing, purity = quality(theirs.Z_corr.reshape(len(obs), -1), obs)
        ours = np.array([quality(of.numpy(), obs) for _, _, of in corrected]).mean(0)
        assert ours[0] > mixing + 0.1 > quality(values.numpy(), obs)[0] + 0.4
        assert ours[1] > purity - 0.005

    def test_refinements_converge(self, cells, corrected, monkeypatch):
        """Shares of the clusters follow from the corrected cell, as in the fit."""
        monkeypatch.setattr(code, "_N_REFINEMENTS", 40)
        for correction, conditions, found in corrected:
            limit = correction(cells[0], conditions)
            assert (found - limit).norm() < 0.05 * (cells[0] - limit).norm()


def quality(values, obs):
    """How much batches mix among neighbours of a line, 1 by chance; neighbours of the line."""
    lines, batches = obs["cell_type"].to_numpy(), obs["batch"].to_numpy()
    found = NearestNeighbors(n_neighbors=30).fit(values).kneighbors(return_distance=False)
    mixing = []
    for line in np.unique(lines):
        of_line, batch = values[lines == line], batches[lines == line]
        near = NearestNeighbors(n_neighbors=15).fit(of_line).kneighbors(return_distance=False)
        others = 1 - np.array([(batch == b).mean() for b in batch])
        mixing += list((batch[near] != batch[:, None]).mean(1) / others)
    return np.mean(mixing), (lines[found] == lines[:, None]).mean()


def simulate(n=600, seed=0):
    """Three states under three conditions, whose effects differ between states."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.arange(n) % 3
    condition = torch.randint(0, 3, (n,), generator=generator)
    effects = torch.randn(3, 3, 6, generator=generator)
    noise = 0.2 * torch.randn(n, 6, generator=generator)
    values = 3 * torch.eye(3, 6)[state] + effects[state, condition] + noise
    return state, condition[:, None], values


@pytest.fixture(scope="module")
def simulated():
    """States, conditions, values and the correction that was fitted to them."""
    state, conditions, values = simulate()
    return state, conditions, values, fitted(values, conditions, [3], values[:3])


def between_conditions(values, state, condition):
    """Share of the variance within states that is between conditions."""
    total = between = 0.0
    for s in range(3):
        of_state = values[state == s]
        centre = of_state.mean(0)
        total += (of_state - centre).square().sum()
        for c in range(3):
            part = values[(state == s) & (condition == c)]
            between += len(part) * (part.mean(0) - centre).square().sum()
    return float(between / total)


def test_effects_of_conditions_are_removed_and_states_are_kept(simulated):
    state, conditions, values, correction = simulated
    corrected = correction(values, conditions)
    assert between_conditions(values, state, conditions[:, 0]) > 0.8
    assert between_conditions(corrected, state, conditions[:, 0]) < 0.05
    means = torch.stack([corrected[state == s].mean(0) for s in range(3)])
    within = (corrected - means[state]).square().sum(1).mean()
    assert torch.pdist(means).square().min() > 10 * within


def test_cells_are_corrected_by_themselves_and_others_come_to_those_of_their_state(simulated):
    _, conditions, values, correction = simulated
    whole = correction(values, conditions)
    torch.testing.assert_close(correction(values[[7]], conditions[[7]]), whole[[7]])
    state, conditions, values, _ = simulated
    train, new = slice(0, 500), slice(500, 600)
    correction = fitted(values[train], conditions[train], [3], values[:3])
    known = correction(values[train], conditions[train])
    nearest = torch.cdist(correction(values[new], conditions[new]), known).argmin(1)
    assert (state[train][nearest] == state[new]).float().mean() > 0.98


def test_a_state_of_one_condition_stays(simulated):
    """The effect of a condition that is nowhere else cannot be separated from its state."""
    state, conditions, values, _ = simulated
    conditions = torch.where(state[:, None] == 2, 0, conditions)
    corrected = fitted(values, conditions, [3], values[:3])(values, conditions)
    means = torch.stack([corrected[state == s].mean(0) for s in range(3)])
    assert torch.pdist(means).min() > 1


def test_effects_are_a_ridge_regression_with_a_free_intercept():
    """In one cluster, of two keys, also where a category has two cells."""
    generator = torch.Generator().manual_seed(0)
    conditions = torch.stack([torch.arange(40) % 2, (torch.arange(40) < 2).long()], 1)
    values = 4 + torch.randn(40, 5, generator=generator) + 2 * conditions[:, :1]
    correction = fitted(values, conditions, [2, 2], values[:1])
    expected = Ridge(alpha=1).fit(one_hot(conditions, [2, 2]), values)
    np.testing.assert_allclose(correction.offsets[0], expected.coef_.T, atol=1e-4)
    residual = values - expected.predict(one_hot(conditions, [2, 2])) + expected.intercept_
    np.testing.assert_allclose(correction(values, conditions), residual, atol=1e-4)


def test_the_state_and_the_seed_decide_all_and_before_the_fit_values_are_unchanged(simulated):
    _, conditions, values, _ = simulated
    assert torch.equal(MixtureCorrection(3, [3], 6)(values, conditions), values)
    # Also of another number of clusters
    _, conditions, values, correction = simulated
    other = MixtureCorrection(7, [3], 6)
    other.load_state_dict(correction.state_dict())
    assert torch.equal(other(values, conditions), correction(values, conditions))
    assert torch.equal(fitted(values, conditions, [3], values[:3]).offsets, correction.offsets)


def test_columns_of_several_keys_are_indicators_and_copied_to_their_places():
    conditions = torch.tensor([[0, 2], [1, 0]])
    expected = np.array([[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(one_hot(conditions, [2, 3]), expected)
    reference = MixtureCorrection(2, [2, 3], 4)
    generator = torch.Generator().manual_seed(0)
    shapes = [values.shape for values in reference.state]
    state = [torch.randn(shape, generator=generator) for shape in shapes]
    reference.set_state(type(reference.state)(*state))
    correction = MixtureCorrection(2, [3, 5], 4)
    correction.take_over(reference)
    new = correction.columns([range(2, 3), range(3, 5)])
    assert new.tolist() == [2, 6, 7]
    assert torch.equal(correction.offsets[:, [0, 1, 3, 4, 5]], reference.offsets)
    assert not correction.offsets[:, new].any()
    values = torch.randn(5, 4, generator=generator)
    conditions = torch.tensor([[0, 0], [1, 2], [0, 1], [1, 0], [0, 2]])
    torch.testing.assert_close(correction(values, conditions), reference(values, conditions))


class TestQuery:
    """A third condition of three states, mapped onto a correction of two."""

    @staticmethod
    def cells(effects, n, seed):
        """States, and values under a condition with an effect on each state."""
        generator = torch.Generator().manual_seed(seed)
        state = torch.arange(n) % 3
        noise = 0.2 * torch.randn(n, 6, generator=generator)
        return state, 3 * torch.eye(3, 6)[state] + effects[state] + noise

    @pytest.fixture(scope="class")
    @classmethod
    def effects(cls):
        """Of three conditions on three states: most of it is shared between states."""
        generator = torch.Generator().manual_seed(1)
        shared = torch.randn(3, 1, 6, generator=generator)
        return shared + 0.3 * torch.randn(3, 3, 6, generator=generator)

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, effects):
        """A correction of two conditions, and the centres of the states in it."""
        parts = [cls.cells(effects[a], 300, a) for a in range(2)]
        state, values = map(torch.cat, zip(*parts, strict=True))
        conditions = torch.arange(2).repeat_interleave(300)[:, None]
        correction = fitted(values, conditions, [2], values[:3])
        return correction, centres(correction(values, conditions), state)

    @pytest.fixture
    def correction(self, reference):
        """That of a query, before the effect of its condition is estimated."""
        correction = MixtureCorrection(3, [3], 6)
        correction.take_over(reference[0])
        return correction

    @staticmethod
    def mapped(correction, values, new=(2,)):
        """Corrected values of cells of the third condition."""
        conditions = torch.full((len(values), 1), 2)
        fit_query_offsets(correction, values, conditions, new=torch.tensor(new))
        return correction(values, conditions)

    def test_cells_come_to_those_of_their_state(self, correction, reference, effects):
        state, values = self.cells(effects[2], 120, 7)
        found = self.mapped(correction, values)
        assert (torch.cdist(values, reference[1]).argmin(1) == state).float().mean() < 0.9
        assert (torch.cdist(found, reference[1]).argmin(1) == state).all()
        assert (centres(found, state) - reference[1]).norm(dim=1).max() < 0.6

    def test_a_state_of_few_cells_is_corrected_by_the_effect_on_the_others(
        self, correction, reference, effects
    ):
        """Also where every fourth cell is of a state that the reference lacks."""
        state, values = with_new_state(*self.cells(effects[2], 160, 7))
        chosen = (state != 2) | (torch.arange(160) < 6)
        found = self.mapped(correction, values[chosen])
        assert (state[chosen] == 2).sum() == 2
        before, after = (
            (centres(of, state[chosen]) - reference[1]).norm(dim=1)[2]
            for of in (values[chosen], found)
        )
        assert after < 0.4 * before

    def test_a_state_that_the_reference_lacks_is_not_moved_onto_a_known_one(
        self, correction, reference, effects
    ):
        state, values = with_new_state(*self.cells(effects[2], 160, 7))
        found, is_new = self.mapped(correction, values), state == 3
        assert (centres(found[~is_new], state[~is_new]) - reference[1]).norm(dim=1).max() < 0.5
        assert torch.cdist(found[is_new], reference[1]).min() > 1.5

    def test_nor_if_a_known_condition_goes_with_it(self, correction, reference, effects):
        """Weights are relative to the cells of the same new conditions, whatever their known."""
        of_two = MixtureCorrection(3, [3, 2], 6)
        no_effect = torch.zeros(3, 2, 6)
        offsets = torch.cat([correction.offsets, no_effect], 1)
        log_penalty = torch.cat([correction.log_penalty, no_effect[:, :, 0]], 1)
        of_two.set_state(code.Mixture(correction.centroids, offsets, log_penalty))
        state, values = with_new_state(*self.cells(effects[2], 160, 7))
        is_new = state == 3
        conditions = torch.stack([torch.full((160,), 2), is_new.long()], 1)
        fit_query_offsets(of_two, values, conditions, new=torch.tensor([2]))
        assert torch.cdist(of_two(values, conditions)[is_new], reference[1]).min() > 1.5

    def test_what_was_known_stays_bit_identical(self, correction, reference, effects):
        known = reference[0]
        self.mapped(correction, self.cells(effects[2], 60, 7)[1])
        assert torch.equal(correction.centroids, known.centroids)
        assert torch.equal(correction.offsets[:, :2], known.offsets)
        assert torch.equal(correction.log_penalty[:, :2], known.log_penalty)
        assert correction.offsets[:, 2].abs().max() > 0.1
        _, values = self.cells(effects[1], 60, 3)
        conditions = torch.ones(60, 1, dtype=torch.long)
        assert torch.equal(correction(values, conditions), known(values, conditions))

    @pytest.mark.parametrize(("n", "low", "high"), [(1, 0.1, 0.25), (12, 0.5, 0.8), (60, 0.8, 1.1)])
    def test_few_cells_are_corrected_by_a_part_of_their_difference(
        self, correction, effects, n, low, high
    ):
        """The ridge has the weight of ten cells."""
        _, values = self.cells(effects[2], n, 7)
        found = self.mapped(correction, values)
        full = (
            values - correction.centroids[code._cosine(values, correction.centroids).argmax(1)]
        ).mean(0)
        assert low < (values - found).mean(0) @ full / full.square().sum() < high


def with_new_state(state, values):
    """Every fourth cell is of a state of its own, numbered 3."""
    is_new = torch.arange(len(values)) % 4 == 0
    moved = values + 3 * torch.eye(6)[4] - 3 * torch.eye(3, 6)[state]
    return torch.where(is_new, 3, state), torch.where(is_new[:, None], moved, values)


def centres(values, state):
    return torch.stack([values[state == s].mean(0) for s in range(3)])


def test_effects_of_new_categories_of_two_keys_are_separated():
    """Each key has one new category, in half of the cells."""
    generator = torch.Generator().manual_seed(0)
    correction = MixtureCorrection(2, [2, 2], 5)
    correction.centroids.copy_(4 * torch.eye(2, 5))
    state = torch.arange(400) % 2
    conditions = torch.randint(0, 2, (400, 2), generator=generator)
    effects = 0.5 * torch.randn(2, 5, generator=generator)
    noise = 0.1 * torch.randn(400, 5, generator=generator)
    values = correction.centroids[state] + conditions.float() @ effects + noise
    fit_query_offsets(correction, values, conditions, new=torch.tensor([1, 3]))
    for column, effect in zip((1, 3), effects, strict=True):
        torch.testing.assert_close(
            correction.offsets[:, column], effect.expand(2, -1), atol=0.08, rtol=0
        )
