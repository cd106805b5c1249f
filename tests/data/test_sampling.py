import numpy as np

from scmetaq.data._sampling import stratified_sample

RARE = np.stack([np.r_[np.zeros(990), np.ones(10)], np.r_[np.full(500, -1), np.zeros(500)]], 1)


def test_rare_categories_are_taken_first():
    found = stratified_sample(RARE.astype(int), 100, n_each=8)
    assert len(found) == len(np.unique(found)) == 100
    assert (np.diff(found) > 0).all()
    assert (found >= 990).sum() >= 8
    assert abs((found < 500).sum() - 50) < 20  # the rest is random


def test_all_cells_are_taken_where_there_is_room():
    np.testing.assert_array_equal(stratified_sample(RARE.astype(int), 1000, n_each=8), range(1000))


def test_the_seed_decides():
    first, again, other = (
        stratified_sample(RARE.astype(int), 50, n_each=2, seed=s) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_no_ways_are_no_strata():
    assert len(stratified_sample(np.empty((30, 0), int), 10, n_each=5)) == 10
