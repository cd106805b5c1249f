import importlib

import numpy as np
import pytest

from scmetaq.metrics import integration_score, lisi

scib_metrics = pytest.importorskip("scib_metrics")


@pytest.fixture
def latent(rng):
    """240 cells of three types, well apart, in two batches that are half mixed."""
    kind, batch = np.repeat(["A", "B", "C"], 80), np.tile(["x", "y"], 120)
    centres = 4 * rng.normal(size=(3, 6))[np.repeat([0, 1, 2], 80)]
    return centres + 0.7 * (batch == "y")[:, None] + rng.normal(size=(240, 6)), kind, batch


def of_definition(X, groups, n_neighbors):
    """Inverse Simpson's index by a Gaussian of fixed perplexity, cell by cell."""
    found = []
    for row in X:
        distances = np.linalg.norm(X - row, axis=1)
        near = np.argsort(distances)[1:n_neighbors]  # the cell itself has no weight
        low, high = 0.0, np.inf
        beta = 1.0
        for _ in range(100):
            weight = np.exp(-beta * distances[near])
            weight /= weight.sum()
            entropy = -(weight * np.log(weight + 1e-300)).sum()
            if entropy > np.log(n_neighbors // 3):
                low, beta = beta, beta * 2 if np.isinf(high) else (beta + high) / 2
            else:
                high, beta = beta, (beta + low) / 2
        shares = [weight[groups[near] == name].sum() for name in np.unique(groups)]
        found.append(1 / np.square(shares).sum())
    return (np.median(found) - 1) / (len(np.unique(groups)) - 1)


def test_lisi_follows_its_definition_of_labels_and_of_conditions(latent):
    X, kind, batch = latent
    assert lisi(X, batch, n_neighbors=60) == pytest.approx(of_definition(X, batch, 60), abs=0.01)
    mixed = np.where(np.arange(240) % 3 == 0, np.roll(kind, 80), kind)
    assert lisi(X, mixed, n_neighbors=60) == pytest.approx(of_definition(X, mixed, 60), abs=0.01)
    assert lisi(X, kind) < 0.02 < lisi(X, batch)
    assert np.isnan(lisi(X, ["one"] * 240))
    known = np.where(np.arange(240) < 100, batch, None)
    assert lisi(X, known) == pytest.approx(lisi(X[:100], batch[:100]))
    with pytest.raises(ValueError, match=r"at least `n_neighbors` \(90\) points, found 80"):
        lisi(X[:80], batch[:80])


def test_integration_score_is_scib_s_mean_of_its_metrics(latent, rng):
    X, kind, batch = latent
    before = X + 3 * (batch == "y")[:, None]
    found = integration_score(X, kind, batch, unintegrated=before)
    bio = ["isolated_labels", "nmi_ari_cluster_labels_kmeans_nmi", "silhouette_label", "clisi_knn"]
    bio.append("nmi_ari_cluster_labels_kmeans_ari")
    of_batch = ["bras", "ilisi_knn", "kbet_per_label", "graph_connectivity", "pcr_comparison"]
    assert set(found.index) == {*bio, *of_batch, "bio_conservation", "batch_correction", "total"}
    assert found["bio_conservation"] == pytest.approx(found[bio].mean())
    assert found["batch_correction"] == pytest.approx(found[of_batch].mean())
    expected = 0.6 * found["bio_conservation"] + 0.4 * found["batch_correction"]
    assert found["total"] == pytest.approx(expected)
    direct = scib_metrics.silhouette_label(X.astype(np.float32), kind)
    assert found["silhouette_label"] == pytest.approx(float(direct), abs=1e-3)
    assert found["clisi_knn"] == pytest.approx(1 - lisi(X, kind), abs=0.01)
    assert found["total"] > integration_score(before, kind, batch, unintegrated=before)["total"]
    with pytest.raises(ValueError, match="several conditions, none missing, found 1 for 240 rows"):
        integration_score(X, kind, ["x"] * 240, unintegrated=before)
    with pytest.raises(ValueError, match="several labels, none missing, found 3 for 239 rows"):
        integration_score(X, [None, *kind[1:]], batch, unintegrated=before)


def test_without_scib_metrics_the_command_to_install_it_is_named(latent, monkeypatch):
    module = importlib.import_module("scmetaq.metrics._scib")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'scmetaq\[scib\]'"):
        lisi(latent[0], latent[1])
