import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from scmetaq.nn import LinearPath, LinearView

SELECTED = np.array([0, 3, 4, 7, 8, 12, 19])


@pytest.fixture
def counts(rng):
    return rng.poisson(rng.gamma(1, 4, size=20), size=(80, 20)).astype(np.float32) + 1


def transformed(counts, transform):
    """What a view projects, in double precision."""
    scaled = counts[:, SELECTED] / counts.sum(1, keepdims=True).astype(float) * 1e4
    if transform == "sqrt":
        return np.sqrt(scaled)
    log = np.log1p(scaled)
    if transform == "log":
        return log
    return np.array([(row - row.mean()) / np.linalg.norm(row - row.mean()) for row in log])


@pytest.mark.parametrize("transform", ["log", "sqrt", "profile"])
def test_scores_are_those_of_scikit_learns_pca(counts, transform):
    values = transformed(counts, transform)
    pca = PCA(4).fit(values)
    view = LinearView(7, 4, transform=transform)
    offset = pca.mean_ @ pca.components_.T
    view.set_map(*map(torch.as_tensor, (SELECTED, pca.components_.T.copy(), offset)))
    found = view(torch.from_numpy(counts), torch.from_numpy(counts.sum(1, keepdims=True) / 1e4))
    np.testing.assert_allclose(found, pca.transform(values), atol=1e-4)


def test_inner_products_of_profiles_are_correlations(counts):
    view = LinearView(7, 7, transform="profile")
    view.set_map(torch.from_numpy(SELECTED), torch.eye(7), torch.zeros(7))
    profile = view(torch.from_numpy(counts), torch.from_numpy(counts.sum(1, keepdims=True) / 1e4))
    expected = np.corrcoef(transformed(counts, "log"))
    np.testing.assert_allclose(profile @ profile.T, expected, atol=1e-5)


def test_a_flat_profile_is_zero_not_nan():
    view = LinearView(3, 3, transform="profile")
    view.set_map(torch.arange(3), torch.eye(3), torch.zeros(3))
    assert view(torch.zeros(1, 3), torch.ones(1, 1)).tolist() == [[0, 0, 0]]


def test_path_joins_the_log_and_the_square_root_view(counts):
    path = LinearPath(7, 3, 4, n_scores=5)
    features = torch.from_numpy(SELECTED)
    for view in (path.log, path.sqrt):
        view.set_map(features, torch.randn(7, 5), torch.randn(5))
    inputs = torch.from_numpy(counts), torch.from_numpy(counts.sum(1, keepdims=True) / 1e4)
    scores = path.scores(*inputs)
    assert torch.equal(scores, torch.cat([path.log(*inputs), path.sqrt(*inputs)], 1))
    assert path.to_state(scores).shape == (80, 3)


def test_nothing_of_the_path_learns():
    path = LinearPath(7, 3, 4, n_scores=5)
    assert not any(parameter.requires_grad for parameter in path.parameters())


def test_maps_are_saved(counts):
    path, other = LinearPath(7, 3, 4, n_scores=5), LinearPath(7, 3, 4, n_scores=5)
    path.log.set_map(torch.from_numpy(SELECTED), torch.randn(7, 5), torch.randn(5))
    other.load_state_dict(path.state_dict())
    inputs = torch.from_numpy(counts), torch.from_numpy(counts.sum(1, keepdims=True) / 1e4)
    assert torch.equal(path.scores(*inputs), other.scores(*inputs))
