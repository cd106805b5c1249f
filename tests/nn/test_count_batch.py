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


def test_size_factors_are_library_sizes_over_ten_thousand_and_divide_counts(batch, counts):
    expected = counts.double().sum(1, keepdim=True) / 1e4
    assert expected[3] == 0
    expected[3] = 1e-4  # of a cell without counts: never divide by zero
    torch.testing.assert_close(batch.size_factor.double(), expected)
    cells, features = counts.nonzero(as_tuple=True)
    expected = counts[cells, features] / counts.sum(1)[cells] * 1e4
    torch.testing.assert_close(batch.per_10k, expected)


def test_dense_picks_features_of_counts_or_other_values(batch, counts):
    assert torch.equal(batch.dense(torch.tensor(FEATURES)), counts[:, FEATURES])
    assert torch.equal(batch.dense(torch.arange(30)), counts)
    found = batch.dense(torch.tensor(FEATURES), batch.values.sqrt() * 3)
    torch.testing.assert_close(found, counts[:, FEATURES].sqrt() * 3)
    none = CountBatch(torch.zeros(2, 5))
    assert none.dense(torch.tensor([1, 4])).tolist() == [[0, 0], [0, 0]]
    assert torch.isfinite(none.size_factor).all()


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


def test_missing_ones_are_named_and_come_back_from_the_state():
    coverage = FeatureCoverage()
    assert coverage.missing_of(torch.arange(4)) is None
    found = coverage.batch(torch.ones(2, 4)).size_factor
    assert torch.equal(found, torch.full((2, 1), 4 / 1e4))
    coverage.load_state_dict(covered().state_dict())
    assert coverage.missing_of(torch.arange(4)).tolist() == [False, True, False, True]
    assert coverage.missing_of(torch.tensor([1, 2])).tolist() == [True, False]
