import torch

from scmetaq.nn import FeatureCoverage


def covered():
    coverage = FeatureCoverage(4)
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
    coverage, counts = FeatureCoverage(4), torch.ones(2, 4)
    assert coverage.missing_of(torch.arange(4)) is None
    assert torch.equal(coverage.batch(counts).size_factor, torch.full((2, 1), 4 / 1e4))


def test_missing_ones_among_some():
    assert covered().missing_of(torch.tensor([1, 2])).tolist() == [True, False]


def test_it_comes_back_from_the_state():
    coverage = FeatureCoverage(4)
    coverage.load_state_dict(covered().state_dict())
    assert coverage.missing_of(torch.arange(4)).tolist() == [False, True, False, True]
