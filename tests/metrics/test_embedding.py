import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from scmetaq.metrics import (
    density,
    diffusion_map,
    euclidean_compactness,
    euclidean_separation,
    silhouette,
)


def test_plain_compactness_and_separation_are_variance_and_distance_of_means(cloud, of_cloud):
    frame = pd.DataFrame(cloud).groupby(of_cloud)
    found = euclidean_compactness(cloud, of_cloud)
    np.testing.assert_allclose(found, frame.var().mean(axis=1))
    assert np.isnan(found[20])  # one cell
    distances = cdist(frame.mean(), frame.mean())
    np.fill_diagonal(distances, np.inf)
    apart = euclidean_separation(cloud, of_cloud)
    np.testing.assert_allclose(apart, distances.min(axis=1))
    assert (found.name, apart.name) == ("euclidean_compactness", "euclidean_separation")
    some = np.where(of_cloud == 3, -1, of_cloud)
    pd.testing.assert_series_equal(euclidean_compactness(cloud, some), found.drop(3))


def test_density_is_one_over_the_distance_to_a_neighbour_among_all_cells(cloud, of_cloud):
    nearest = np.sort(cdist(cloud, cloud), axis=1)[:, 12]  # the first is the cell itself
    expected = pd.Series(1 / nearest).groupby(of_cloud).mean()
    found = density(cloud, of_cloud, n_neighbors=12)
    np.testing.assert_allclose(found, expected)
    some = np.where(of_cloud == 3, -1, of_cloud)
    pd.testing.assert_series_equal(density(cloud, some, n_neighbors=12), found.drop(3))
    with pytest.raises(ValueError, match=r"more than `n_neighbors` \(300\) cells, found 300"):
        density(cloud, of_cloud, n_neighbors=300)


def test_density_in_a_diffusion_map_is_within_pieces_of_the_graph(cloud, of_cloud, rng):
    both = np.concatenate([cloud, 100 + rng.normal(size=(80, 5))])
    space = diffusion_map(both)
    assignment = np.concatenate([of_cloud, np.full(80, 30)])
    found = density(space, assignment, n_neighbors=100)
    nearest = np.sort(cdist(space.components[:300], space.components[:300]), axis=1)[:, 100]
    expected = pd.Series(1 / nearest).groupby(of_cloud).mean()
    np.testing.assert_allclose(found.drop(30), expected)
    assert np.isnan(found[30])  # a piece of 80 cells


def of_supercell(means, own, sizes):
    """SuperCell's weighted silhouette, metacell by metacell as in its code."""
    d, widths = cdist(means, means), []
    for i in range(len(own)):
        inside = own == own[i]
        if sizes[inside].sum() == sizes[i]:
            widths.append(0)
            continue
        a = (d[i, inside] * sizes[inside]).sum() / (sizes[inside].sum() - sizes[i])
        others = [own == k for k in np.unique(own) if k != own[i]]
        b = min((d[i, o] * sizes[o]).sum() / sizes[o].sum() for o in others)
        widths.append((b - a) / max(a, b))
    return np.average(widths, weights=sizes)


def test_silhouette_of_pure_metacells_is_that_of_supercell(cloud, of_cloud, monkeypatch):
    labels = np.array(list("AAAAAABBBBBBBBCCCCCCCA"))[of_cloud]
    groups = pd.DataFrame(cloud).groupby(of_cloud)
    own = pd.Series(labels).groupby(of_cloud).first().to_numpy()
    expected = of_supercell(groups.mean().to_numpy(), own, groups.size().to_numpy())
    found = silhouette(cloud, of_cloud, labels)
    assert found == pytest.approx(expected)
    monkeypatch.setattr("scmetaq.metrics._embedding._BLOCK", 4)
    assert silhouette(cloud, of_cloud, labels) == pytest.approx(expected)
    one_each = silhouette(cloud, np.arange(300), labels)
    assert one_each == pytest.approx(silhouette_samples(cloud, labels).mean())


def test_silhouette_of_mixed_metacells_counts_their_parts_and_random_ones_are_worst(cloud, rng):
    labels = np.array(list("ABC"))[np.arange(300) // 100]
    assignment = np.arange(300) // 40
    parts = pd.factorize(pd.Series(assignment.astype(str)) + labels)[0]
    means = pd.DataFrame(cloud).groupby(assignment).mean().to_numpy()
    first = pd.Series(np.arange(300)).groupby(parts).first().to_numpy()
    expected = of_supercell(means[assignment[first]], labels[first], np.bincount(parts))
    assert silhouette(cloud, assignment, labels) == pytest.approx(expected)
    at_random = silhouette(cloud, rng.permutation(assignment), labels)
    assert at_random < 0 < expected
    missing = np.where(np.arange(300) < 40, None, labels)
    kept = np.where(np.arange(300) < 40, -1, assignment)
    by_labels, by_cells = silhouette(cloud, assignment, missing), silhouette(cloud, kept, labels)
    assert by_labels == pytest.approx(by_cells)
    assert np.isnan(silhouette(cloud, assignment, ["A"] * 300))
