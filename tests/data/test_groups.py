import numpy as np
import pytest
from scipy import sparse

from scmetaq.data._groups import GroupCounts, condition_effects, group_counts


def test_counts_of_groups_are_added_up(rng):
    counts = rng.poisson(2, size=(30, 5)).astype(np.float32)
    size, group = rng.random(30).astype(np.float32), np.arange(30) % 4
    of_group = sparse.csr_array((np.ones(30, np.float32), (group, np.arange(30))))
    found = group_counts(of_group, sparse.csr_matrix(counts), size)
    for k in range(4):
        of, s = counts[group == k], size[group == k]
        np.testing.assert_allclose(found.totals[k], of.sum(0))
        np.testing.assert_allclose(found.exposure[k], s.sum(), rtol=1e-5)
        np.testing.assert_allclose(found.exposure_squares[k], (s**2).sum(), rtol=1e-5)
        np.testing.assert_allclose(found.cross[k], (of * s[:, None]).sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.squares, (counts**2).sum(0))


def test_effects_of_conditions_are_between_cells_that_are_alike(rng):
    """Two of three donors are the same; states that one has more of are no effect of it."""
    groups = np.array([(k, donor) for k in range(6) for donor in range(3)])
    rate = np.exp(rng.normal(size=(6, 40)))[groups[:, 0]] * 20
    rate[groups[:, 1] == 2] *= np.exp(rng.normal(size=40))
    exposure = np.where((groups == [0, 0]).all(1), 50.0, 10.0)
    totals = rng.poisson(rate * exposure[:, None])
    counts = GroupCounts(totals, exposure, exposure, totals, totals.sum(0))
    (effects,) = condition_effects(groups, [counts])
    assert effects.shape == (3, 3)
    assert np.linalg.norm(effects, axis=1).max() == pytest.approx(1)
    between = np.linalg.norm(effects[:, None] - effects, axis=2)
    assert between[0, 1] < 0.2 * between[0, 2]
