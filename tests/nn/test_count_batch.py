import numpy as np
import pytest
import torch

from scmetaq.nn import CountBatch

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
