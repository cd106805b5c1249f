import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from scmetaq.metrics import classifier_test, module_preservation
from scmetaq.metrics._log_counts import log_normalise


@pytest.fixture
def cells(rng):
    """Counts of 400 cells of four types x 80 genes, types and metacells of ten cells of one."""
    kind = np.repeat(np.arange(4), 100)
    rate = rng.gamma(1.0, 1.5, size=(4, 80))[kind] * rng.uniform(0.6, 1.5, (400, 1))
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    return counts, np.array(list("ABCD"))[kind], np.arange(400) // 10


def test_a_classifier_of_pure_metacells_labels_cells_and_of_mixed_ones_not(cells):
    counts, kind, assignment = cells
    good = classifier_test(counts, assignment, kind)
    X = log_normalise(counts).toarray()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    reference = LogisticRegression().fit(X[::10], kind[::10]).score(X, kind)
    assert min(good) > 0.95
    assert good.accuracy > reference - 0.02  # of single cells, one of each metacell
    mixed = classifier_test(counts, np.arange(400) % 100 // 10 + 10 * (np.arange(400) < 200), kind)
    assert mixed.accuracy == pytest.approx(0.5, abs=0.05)  # A or B: A, and C or D: C
    assert classifier_test(counts, assignment, kind) == good


def test_all_labelled_cells_are_judged_and_rare_labels_count_as_much(cells):
    counts, kind, assignment = cells
    merged = np.where(kind == "D", 3, assignment)  # to which ten cells of A belong
    merged = np.where(np.isin(assignment, range(30, 40)), 0, merged)  # D: a minority nowhere else
    found = classifier_test(counts, merged, np.where(np.arange(400) < 310, kind, None))
    assert found.balanced_accuracy < found.accuracy
    outside = np.where(np.arange(400) % 10 < 2, -1, assignment)
    assert classifier_test(counts, outside, kind).accuracy > 0.9
    assert classifier_test(counts, assignment, ["one"] * 400) == (1, 1)


def plain(counts, assignment, modules):
    """Density in cells and in metacells, and correlation of correlations, by numpy's cov."""
    X = log_normalise(counts, np.float64).toarray()
    means = pd.DataFrame(X).groupby(assignment).mean().to_numpy()
    weights = np.bincount(assignment)
    rows = {}
    for module in np.unique(modules[modules >= 0]):
        genes = modules == module
        pairs = np.triu_indices(genes.sum(), 1)
        in_cells = np.corrcoef(X[:, genes].T)[pairs]
        cov = np.cov(means[:, genes].T, fweights=weights)
        in_metacells = (cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov))))[pairs]
        between = np.corrcoef(in_cells, in_metacells)[0, 1]
        rows[module] = [genes.sum(), in_cells.mean(), in_metacells.mean(), between]
    columns = ["n_genes", "cells", "metacells", "preservation"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def test_modules_given_are_correlated_across_cells_and_weighted_metacells(cells, rng, tmp_path):
    counts, _, assignment = cells
    assignment = np.where(assignment % 3 == 0, 0, assignment)
    assignment = pd.factorize(assignment)[0]
    modules = rng.choice([-1, 0, 1, 2], size=80)
    found = module_preservation(counts, assignment, modules)
    expected = plain(counts, assignment, modules)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.index.name == "module"
    AnnData(counts).write_h5ad(tmp_path / "cells.h5ad")
    on_disk = read_h5ad(tmp_path / "cells.h5ad", backed="r").X
    pd.testing.assert_frame_equal(module_preservation(on_disk, assignment, modules), found)
    with pytest.raises(ValueError, match=r"one module per gene \(80\), found 79"):
        module_preservation(counts, assignment, modules[1:])


def test_modules_are_found_and_denser_in_metacells_than_in_random_ones(cells, rng):
    counts, _, assignment = cells
    good = module_preservation(counts, assignment, n_modules=5)
    bad = module_preservation(counts, rng.permutation(assignment), n_modules=5)
    assert good["n_genes"].sum() == 80
    pd.testing.assert_frame_equal(good[["n_genes", "cells"]], bad[["n_genes", "cells"]])
    assert (good["metacells"] > bad["metacells"] + 0.05).all()
    assert bad["metacells"].mean() == pytest.approx(bad["cells"].mean(), abs=0.15)
