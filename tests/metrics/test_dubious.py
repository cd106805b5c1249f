import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scmetaq
from scmetaq.metrics import dubious
from scmetaq.metrics._dubious import _divergence, _thresholds
from scmetaq.metrics._groups import unit_rows
from scmetaq.metrics._log_counts import log_normalise


def of_states(rng, state, depth):
    """log1p counts of 120 genes by cells of the states, at their depths."""
    rate = np.array([rng.gamma(1.0, 1.5, size=120) for _ in range(4)])[state]
    return np.log1p(rng.poisson(rate * depth[:, None]))


@pytest.fixture
def cells(rng):
    """480 cells of four states at uneven depth, and metacells of 12 within states."""
    state = np.repeat(np.arange(4), 120)
    return of_states(rng, state, rng.uniform(0.7, 1.4, 480)), np.arange(480) // 12


@pytest.mark.parametrize(("n", "p"), [(15, 40), (40, 15)])
def test_divergence_is_relative_to_permuted_features(rng, n, p):
    def norm(X):
        return np.linalg.norm(np.corrcoef(X.T) - np.eye(p))

    X = rng.normal(size=(n, p)) + rng.normal(size=(n, 1))
    permuted = [norm(rng.permuted(X, axis=0)) ** 2 for _ in range(300)]
    found = _divergence(unit_rows((X).T).T)
    assert found == pytest.approx(norm(X) / np.sqrt(np.mean(permuted)), rel=0.01)
    assert found == pytest.approx(norm(X) * np.sqrt((n - 1) / (p * (p - 1))))


def test_one_state_passes_and_two_do_not(cells):
    X, assignment = cells
    pure = dubious(X, assignment, level=0.05)
    assert pure["dubious"].mean() <= 0.15
    mixed = np.where(np.arange(480) % 240 < 24, 100 + np.arange(480) % 2, assignment)
    found = dubious(X, mixed, level=0.05)
    assert found.loc[[100, 101], "dubious"].all()
    assert found["dubious"].drop([100, 101]).mean() <= 0.15
    kept = np.where(assignment == 3, -1, assignment)
    found = dubious(sparse.csr_matrix(X), kept, n_permutations=5)
    assert found.columns.tolist() == ["n_cells", "n_features", "statistic", "threshold", "dubious"]
    assert len(found) == 39
    assert (found["n_cells"] == 12).all()
    assert found["dubious"].dtype == bool
    detected = (X[assignment == 5] > 0).mean(axis=0) > 0.1
    varied = X[assignment == 5].std(axis=0) > 0
    assert found.loc[5, "n_features"] == (detected & varied).sum()


def test_homogeneous_metacells_at_real_depths_are_seldom_called(rng):
    """Counts drawn from one profile each at depths of blood cells; then cells of all types."""
    real = scmetaq.data.demo().X.toarray()
    pools = [real[rng.choice(len(real), 40)].sum(0) + 0.01 for _ in range(40)]
    profiles = np.array(pools) / np.sum(pools, axis=1, keepdims=True)
    depths = rng.choice(real.sum(1), (40, 25)).astype(int)
    counts = np.concatenate(
        [rng.multinomial(depth, profile) for depth, profile in zip(depths, profiles, strict=True)]
    )
    X, own = log_normalise(counts), np.arange(1000) // 25
    assert dubious(X, own, n_permutations=25)["dubious"].mean() <= 0.1
    of_all_types = dubious(log_normalise(real[:1000]), own, n_permutations=25)
    assert of_all_types["dubious"].mean() > 0.9


def test_a_seed_repeats_and_the_statistic_needs_neither_seed_nor_order(cells, rng):
    first, again, other = (dubious(*cells, n_permutations=5, seed=seed) for seed in (1, 1, 2))
    order = rng.permutation(480)
    shuffled = dubious(*(values[order] for values in cells), n_permutations=2)["statistic"]
    np.testing.assert_allclose(shuffled, first["statistic"])
    pd.testing.assert_frame_equal(first, again)
    pd.testing.assert_series_equal(first["statistic"], other["statistic"])
    assert not first["threshold"].equals(other["threshold"])


def test_large_metacells_are_sampled_and_small_ones_not_judged(cells):
    found = dubious(cells[0], np.arange(480) // 240, max_cells=40, n_permutations=5)
    assert found["n_cells"].tolist() == [40, 40]
    assert found["dubious"].all()
    X, assignment = cells
    assignment[:12] = [50, 50, 51, 52, 52, 52, 53, 53, 53, 53, 53, 53]
    found = dubious(X, assignment, n_permutations=5).loc[[50, 51, 52, 53]]
    assert found["statistic"].isna().tolist() == [True, True, False, False]
    assert found["threshold"].isna().tolist() == [True, True, False, False]
    assert not found.loc[[50, 51], "dubious"].any()


def test_nulls_are_pooled_over_the_nearest_sizes(rng):
    sizes = np.array([5, 10, 11, 40, 40, 2])
    null = rng.random((6, 30))
    null[5] = np.nan
    found = _thresholds(sizes, null, level=0.1, n_pooled=2)
    assert found[1] == np.quantile(null[[1, 2]], 0.9)
    assert found[3] == found[4] == np.quantile(null[[3, 4]], 0.9)
    assert np.isnan(found[5])


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        ({"level": 0}, ValueError, "level between 0 and 1, but not 0 or 1, found 0"),
        ({"level": 1}, ValueError, "level between 0 and 1, but not 0 or 1, found 1"),
        ({"min_detected": 5}, ValueError, "min_detected between 0 and 1, but not 1, found 5"),
        ({"n_permutations": 2.5}, TypeError, "n_permutations to be an int, found 2.5"),
        ({"max_cells": 2}, ValueError, "max_cells to be at least 3, found 2"),
        ({"seed": -1}, ValueError, "seed to be at least 0, found -1"),
        ({"seed": None}, TypeError, "seed to be an int, found None"),
    ],
)
def test_bad_options_are_refused(cells, words, error, match):
    with pytest.raises(error, match=match):
        dubious(*cells, **words)
