import numpy as np
import pytest
from scipy import sparse

from scmetaq.data._fingerprint import fingerprints


@pytest.fixture
def counts(rng):
    return sparse.csr_matrix(rng.poisson(0.3, size=(300, 40)).astype(np.float32))


def test_it_is_the_sum_of_counts_times_numbers_modulo_two_to_the_64(counts):
    weights = np.random.default_rng(0).integers(2**64 - 1, size=40, dtype=np.uint64, endpoint=True)
    exact = [
        sum(int(n) * int(w) for n, w in zip(row, weights, strict=True)) % 2**64
        for row in counts.toarray()
    ]
    assert fingerprints({"rna": counts}).view(np.uint64).tolist() == exact


def test_it_is_told_from_each_cell_alone(counts):
    found = fingerprints({"rna": counts})
    np.testing.assert_array_equal(fingerprints({"rna": counts[::-3]}), found[::-3])
    assert len(set(found)) == len(np.unique(counts.toarray(), axis=0))


def test_modalities_are_not_mixed_up(counts):
    none = sparse.csr_matrix(counts.shape, dtype=np.float32)
    pairs = [(counts, none), (none, counts), (counts, counts)]
    found = [fingerprints({"adt": adt, "rna": rna}) for adt, rna in pairs]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (found[a] != found[b]).mean() > 0.99
    turned = fingerprints({"rna": counts, "adt": none})
    np.testing.assert_array_equal(found[1], turned)
