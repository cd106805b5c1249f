import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from scmetaq.nn import Axes, CountBatch, LinearPath

SELECTED = np.array([0, 3, 4, 7, 8, 12, 19])
ROOTED = np.array([1, 3, 5, 6, 7, 8, 19])


@pytest.fixture
def counts(rng):
    counts = rng.poisson(rng.gamma(1, 4, size=20), size=(80, 20)).astype(np.float32)
    counts[:, 0] += 1
    return counts


def transformed(counts, view):
    """What a view projects, in double precision."""
    per_10k = counts / counts.sum(1, keepdims=True).astype(float) * 1e4
    if view == "sqrt":
        return np.sqrt(per_10k[:, ROOTED])
    log = np.log1p(per_10k[:, SELECTED])
    if view == "log":
        return log
    return np.array([(row - row.mean()) / np.linalg.norm(row - row.mean()) for row in log])


def make():
    path = LinearPath(7, 3, 4, n_scores=5)
    path.set_features(torch.from_numpy(SELECTED), torch.from_numpy(ROOTED))
    for view in (path.log, path.sqrt, path.profile):
        view.set_map(torch.randn(view.axes.shape), torch.randn(view.offset.shape))
    return path


def test_every_view_gives_the_scores_of_scikit_learns_pca(counts):
    path = make()
    expected = {}
    for name in ("log", "sqrt", "profile"):
        view = getattr(path, name)
        values = transformed(counts, name)
        pca = PCA(view.axes.shape[1]).fit(values)
        view.set_map(*map(torch.as_tensor, (pca.components_.T, pca.mean_ @ pca.components_.T)))
        expected[name] = pca.transform(values)
    scores, profile = path(CountBatch(torch.from_numpy(counts)))
    np.testing.assert_allclose(scores[:, :5], expected["log"], atol=1e-3)
    np.testing.assert_allclose(scores[:, 5:], expected["sqrt"], atol=1e-3)
    np.testing.assert_allclose(profile, expected["profile"], atol=1e-4)


def test_inner_products_of_profiles_are_correlations(counts):
    path = LinearPath(7, 3, 7, n_scores=5)
    path.set_features(torch.from_numpy(SELECTED), torch.from_numpy(SELECTED))
    path.profile.set_map(torch.eye(7), torch.zeros(7))
    profile = path(CountBatch(torch.from_numpy(counts))).profile
    expected = np.corrcoef(transformed(counts, "log"))
    np.testing.assert_allclose(profile @ profile.T, expected, atol=1e-5)


def test_a_flat_profile_is_zero_not_nan():
    path = LinearPath(3, 3, 3, n_scores=2)
    path.profile.set_map(torch.eye(3), torch.zeros(3))
    assert path(CountBatch(torch.zeros(1, 3))).profile.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1.0])
def test_profiles_are_never_longer_than_one(noise):
    path = LinearPath(30, 30, 30, n_scores=2)
    path.profile.set_map(torch.eye(30), torch.zeros(30))
    generator = torch.Generator().manual_seed(0)
    counts = 5_000 * torch.ones(4, 30) * (1 + noise * torch.rand(4, 30, generator=generator))
    assert path(CountBatch(counts.round())).profile.norm(dim=1).max() < 1 + 1e-5


def test_axes_are_an_affine_map():
    axes = Axes(2, 1)
    axes.set_map(torch.tensor([[2.0], [3.0]]), torch.tensor([1.0]))
    assert axes(torch.tensor([[1.0, 10.0]])).tolist() == [[31.0]]


def test_nothing_of_the_path_learns():
    assert not any(parameter.requires_grad for parameter in make().parameters())


def test_maps_and_features_are_saved(counts):
    path, other = make(), LinearPath(7, 3, 4, n_scores=5)
    other.load_state_dict(path.state_dict())
    batch = CountBatch(torch.from_numpy(counts))
    for found, expected in zip(other(batch), path(batch), strict=True):
        assert torch.equal(found, expected)
