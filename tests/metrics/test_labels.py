import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn import metrics as sk

from scmetaq.metrics import accuracy, agreement, balanced_accuracy, entropy, mixing, purity

OF_LABELS = pytest.mark.parametrize("metric", [purity, accuracy, balanced_accuracy, entropy])


@pytest.fixture
def labelled(rng):
    """Metacells and labels of 400 cells, with ties of labels in some metacells."""
    assignment = pd.Series(rng.integers(0, 80, 400))
    return assignment, pd.Series(rng.choice(list("abcd"), 400, p=[0.5, 0.3, 0.15, 0.05]))


@pytest.fixture
def table(labelled):
    """Cells per metacell and label, shape (80, 4)."""
    found = pd.crosstab(*labelled)
    assert ((found == found.max(axis=1).to_numpy()[:, None]).sum(axis=1) > 1).any()
    return found


def test_purity_agrees_with_counting_by_pandas_and_with_seacells(labelled, table, of_seacells):
    """``SEACells.evaluate.compute_celltype_purity``."""
    found = purity(*labelled)
    np.testing.assert_allclose(found, table.max(axis=1) / table.sum(axis=1))
    assert found.index.tolist() == table.index.tolist()
    assert (found.name, found.index.name) == ("purity", "metacell")
    found = purity(of_seacells["metacells"], of_seacells["labels"])
    np.testing.assert_allclose(found, of_seacells["purity"])
    assert 0 < found.min() < 0.9


def test_accuracies_are_those_of_the_first_most_frequent_label_and_entropy_scipys(labelled, table):
    """``argmax`` takes the first of a tie, and columns are in alphabetical order."""
    assignment, labels = labelled
    predicted = table.columns[table.loc[assignment].to_numpy().argmax(axis=1)]
    assert accuracy(*labelled) == pytest.approx((predicted == labels).mean(), rel=1e-12)
    expected = sk.balanced_accuracy_score(labels, predicted)
    assert balanced_accuracy(*labelled) == pytest.approx(expected, rel=1e-12)
    found = entropy(*labelled)
    np.testing.assert_allclose(found, scipy_entropy(table, axis=1), atol=1e-15)
    assert found.name == "entropy"
    zero = entropy([0, 0, 1, 1], ["T", "T", "T", "B"])
    assert not np.signbit(zero[0])
    assert zero.tolist() == [0, pytest.approx(np.log(2))]


def test_accuracy_weighs_cells_and_purity_metacells_and_ties_go_to_the_first_label():
    """A giant metacell, half T and half B, and ten pure ones of a single cell."""
    assignment = np.append(np.zeros(90, int), np.arange(1, 11))
    labels = ["T"] * 45 + ["B"] * 45 + ["T"] * 10
    assert accuracy(assignment, labels) == pytest.approx((45 + 10) / 100)
    assert purity(assignment, labels).mean() == pytest.approx((0.5 + 10) / 11)
    tie = [0, 0, 1, 1, 1], ["T", "B", "T", "T", "B"]
    assert balanced_accuracy(*tie) == (1 / 2 + 2 / 3) / 2
    assert accuracy(*tie) == 3 / 5
    labels = ["T"] * 98 + ["rare"] * 2
    assert balanced_accuracy(np.zeros(100, int), labels) == pytest.approx(0.5)
    assert accuracy(np.zeros(100, int), labels) == pytest.approx(0.98)
    assert balanced_accuracy(np.array([0] * 98 + [1] * 2), labels) == 1


def test_missing_labels_and_cells_do_not_count():
    assignment = pd.Series(["m0", "m0", "m0", "m0", "m1", None])
    labels = pd.Series(["T", "T", "B", None, None, "C"])
    assert purity(assignment, labels).to_dict() == {
        "m0": pytest.approx(2 / 3),
        "m1": pytest.approx(np.nan, nan_ok=True),
    }
    assert accuracy(assignment, labels) == pytest.approx(2 / 3)
    assert balanced_accuracy(assignment, labels) == 0.5
    assert entropy(assignment, labels).isna().tolist() == [False, True]
    with pytest.raises(ValueError, match="both a metacell and a label, found none"):
        purity(np.array([-1, 0]), pd.Series(["T", None]))


@OF_LABELS
def test_order_of_cells_does_not_matter(metric, labelled, rng):
    assignment, labels = (values.to_numpy() for values in labelled)
    order = rng.permutation(400)
    np.testing.assert_array_equal(
        metric(assignment, labels), metric(assignment[order], labels[order])
    )


@OF_LABELS
def test_bad_labels_are_refused(metric):
    with pytest.raises(ValueError, match="found 3 and 2"):
        metric([0, 1, 1], ["T", "B"])
    with pytest.raises(TypeError, match=r"Expected categories in `labels`, .* e\.g\. 0\.5\."):
        metric([0, 0, 1], [0.5, 1.0, 2.0])
    whole = metric([0, 0, 1], [1.0, np.nan, 2.0])
    np.testing.assert_array_equal(whole, metric([0, 0, 1], ["1", None, "2"]))


def shannon(values):
    share = np.unique(values, return_counts=True)[1] / len(values)
    return -(share * np.log(share)).sum()


def by_loop(assignment, conditions, labels):
    """Weighted mean, share of cells with one condition, by going through the metacells."""
    sizes, values, alone = [], [], 0
    for metacell in np.unique(assignment):
        inside = assignment == metacell
        names, counts = np.unique(labels[inside], return_counts=True)
        possible = shannon(conditions[labels == names[counts.argmax()]])
        if possible > 0:
            sizes.append(inside.sum())
            values.append(min(1, shannon(conditions[inside]) / possible))
            alone += inside.sum() if len(set(conditions[inside])) == 1 else 0
    return np.average(values, weights=sizes), alone / sum(sizes)


@pytest.fixture
def cells(rng):
    """Metacells, conditions and labels of 400 cells; label "d" occurs in one condition only."""
    labels = np.sort(rng.choice(list("abcd"), 400))
    conditions = rng.choice(["x", "y", "z"], 400, p=[0.6, 0.3, 0.1])
    conditions[labels == "d"] = "x"
    assignment = np.sort(rng.integers(0, 60, 400))
    return assignment, conditions, labels


def test_mixing_agrees_with_a_loop_and_at_its_extremes(cells, rng):
    found = mixing(*cells)
    assert found[:2] == pytest.approx(by_loop(*cells), rel=1e-12)
    assert found.of_metacell.between(0, 1).sum() + found.of_metacell.isna().sum() == 60
    assert found.of_metacell.isna().any()
    assert (found.of_metacell == 0).any()
    order = rng.permutation(400)
    renamed = [pd.Series(values[order]).map(lambda v: f"n{v}") for values in cells]
    assert mixing(*renamed)[:2] == pytest.approx(found[:2])
    conditions = ["x", "y"] * 20
    assert mixing(np.tile([0, 1], 20), conditions)[:2] == (0, 1)
    assert mixing(np.repeat(np.arange(10), 4), conditions)[:2] == (1, 0)
    found = mixing([0, 0, 1], ["x", "x", "x"])  # nothing can mix
    assert np.isnan(found[:2]).all()
    assert found.of_metacell.isna().all()


def test_mixing_without_labels_or_without_anything_for_some_cells(cells):
    assignment, conditions, _ = cells
    expected = by_loop(assignment, conditions, np.full(400, "all"))
    assert mixing(assignment, conditions)[:2] == pytest.approx(expected)
    assignment, conditions, labels = (pd.Series(v).astype(object) for v in cells)
    for start, column in enumerate((assignment, conditions, labels)):
        column[start::10] = None
    known = (assignment.notna() & conditions.notna() & labels.notna()).to_numpy()
    assert mixing(assignment, conditions, labels)[:2] == pytest.approx(
        by_loop(*(values[known] for values in cells))
    )


def test_bad_columns_of_mixing_are_refused(cells):
    assignment, conditions, labels = cells
    with pytest.raises(ValueError, match="found 400 and 399"):
        mixing(assignment, conditions[1:])
    with pytest.raises(ValueError, match="Expected conditions, found 400"):
        mixing(assignment, pd.Series([None] * 400))
    with pytest.raises(ValueError, match="a metacell, a condition and a label, found none"):
        mixing([0, -1], ["x", "y"], pd.Series([None, "a"]))
    with pytest.raises(TypeError, match="Expected categories in `labels`"):
        mixing([0, 0, 1], ["a", "b", "a"], [0.5, 1.0, 2.0])
    # doses, say
    assert mixing([0, 0, 1, 1], [0.1, 2.5, 0.1, 2.5]).mixing == 1


@pytest.fixture
def groupings(rng):
    """An assignment of 300 cells, finer than their four labels, and these."""
    labels = rng.integers(0, 4, 300)
    return labels * 5 + rng.integers(0, 7, 300), labels


def test_agreement_is_that_of_scikit_learn(groupings):
    expected = {
        "ami": sk.adjusted_mutual_info_score(*groupings),
        "ari": sk.adjusted_rand_score(*groupings),
        "homogeneity": sk.homogeneity_score(*groupings[::-1]),
        "completeness": sk.completeness_score(*groupings[::-1]),
        "nmi": sk.normalized_mutual_info_score(*groupings),
        "fmi": sk.fowlkes_mallows_score(*groupings),
    }
    assert agreement(*groupings)._asdict() == pytest.approx(expected)


def test_average_method_is_that_of_the_adjusted_mutual_information(groupings):
    found = {
        method: agreement(*groupings, average_method=method)
        for method in ("max", "arithmetic", "geometric", "min")
    }
    ami = [numbers.ami for numbers in found.values()]
    assert ami == sorted(ami)
    assert len({numbers[1:] for numbers in found.values()}) == len(set(ami)) - 3 == 1
    of_paper = sk.adjusted_mutual_info_score(*groupings, average_method="max")
    assert found["max"].ami == pytest.approx(of_paper)
    assert found["arithmetic"] == agreement(*groupings)
    with pytest.raises(ValueError, match=r"average_method 'mean': expected one of 'arithmetic'"):
        agreement(*groupings, average_method="mean")


def test_a_finer_grouping_is_homogeneous_and_names_do_not_matter(groupings):
    fine, coarse = np.arange(12), np.arange(12) // 4
    assert agreement(fine, coarse).homogeneity == pytest.approx(1)
    assert agreement(coarse, fine).homogeneity < 0.6
    there, back = agreement(*groupings), agreement(*groupings[::-1])
    assert there.homogeneity == pytest.approx(back.completeness)
    assert there.nmi == pytest.approx(back.nmi)
    found = agreement(np.array([0, 0, 1, 1, -1]), pd.Series(["x", "x", "y", "y", "y"]))
    assert found == pytest.approx((1,) * 6)
    with pytest.raises(ValueError, match="cells with a group of both groupings, found none"):
        agreement(np.array([0, -1]), np.array([-1, 0]))
