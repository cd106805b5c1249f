import numpy as np
import pytest
import torch

from scmetaq.nn import CountBatch
from scmetaq.nn._count_batch import FeatureCoverage

FEATURES = [2, 5, 6, 29]


@pytest.fixture
def counts(rng):
    counts = rng.poisson(0.4, size=(25, 30)).astype(np.float32)
    counts[3] = 0
    counts[:, 5] = 0
    return torch.from_numpy(counts)


@pytest.fixture(params=["dense", "csr"])
def batch(request, counts):
    return CountBatch(counts if request.param == "dense" else counts.to_sparse_csr())


def test_size_factor_is_the_library_size_over_ten_thousand(batch, counts):
    expected = counts.double().sum(1, keepdim=True) / 1e4
    assert expected[3] == 0
    expected[3] = 1e-4  # of a cell without counts: never divide by zero
    torch.testing.assert_close(batch.size_factor.double(), expected)


def test_per_10k_are_the_non_zero_counts_over_the_size_factor(batch, counts):
    cells, features = counts.nonzero(as_tuple=True)
    expected = counts[cells, features] / counts.sum(1)[cells] * 1e4
    torch.testing.assert_close(batch.per_10k, expected)


def test_dense_picks_features(batch, counts):
    found = batch.dense(torch.tensor(FEATURES))
    assert torch.equal(found, counts[:, FEATURES])


def test_dense_takes_other_values_in_place_of_counts(batch, counts):
    found = batch.dense(torch.tensor(FEATURES), batch.values.sqrt() * 3)
    torch.testing.assert_close(found, counts[:, FEATURES].sqrt() * 3)


def test_all_features(batch, counts):
    assert torch.equal(batch.dense(torch.arange(30)), counts)


def test_no_count_at_all():
    batch = CountBatch(torch.zeros(2, 5))
    assert batch.dense(torch.tensor([1, 4])).tolist() == [[0, 0], [0, 0]]
    assert torch.isfinite(batch.size_factor).all()


def covered():
    coverage = FeatureCoverage()
    coverage.set_rate(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    coverage.set_missing(torch.tensor([False, True, False, True]))
    return coverage


def test_library_sizes_allow_for_what_is_missing():
    """Of an average cell four in ten counts fall on the features that are there."""
    coverage, counts = covered(), torch.tensor([[3.0, 0.0, 9.0, 0.0]])
    torch.testing.assert_close(coverage.share, torch.tensor(0.4))
    found = coverage.batch(counts).size_factor
    torch.testing.assert_close(found, torch.tensor([[12 / 0.4 / 1e4]]))


def test_without_missing_features_nothing_changes():
    coverage, counts = FeatureCoverage(), torch.ones(2, 4)
    assert coverage.missing_of(torch.arange(4)) is None
    assert torch.equal(coverage.batch(counts).size_factor, torch.full((2, 1), 4 / 1e4))


def test_missing_ones_among_some():
    assert covered().missing_of(torch.tensor([1, 2])).tolist() == [True, False]


def test_it_comes_back_from_the_state():
    coverage = FeatureCoverage()
    coverage.load_state_dict(covered().state_dict())
    assert coverage.missing_of(torch.arange(4)).tolist() == [False, True, False, True]
