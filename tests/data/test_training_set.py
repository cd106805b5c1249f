import logging
import warnings

import numpy as np
import pytest
import scvi
import torch
from scipy import sparse

from scmetaq.data._training_set import csr_tensor, stratified_sample, training_set


def test_batches_have_counts_and_inputs():
    counts = sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(4, 3))
    inputs = {"rna_counts": counts, "rna_scores": np.eye(4, dtype=np.float32)}
    batch = training_set(inputs).create_torch_dataset()[[3, 1]]
    assert set(batch) == {"rna_counts", "rna_scores"}
    np.testing.assert_array_equal(batch["rna_counts"], [[9, 10, 11], [3, 4, 5]])
    np.testing.assert_array_equal(batch["rna_scores"], np.eye(4)[[3, 1]])
    assert all(values.dtype == np.float32 for values in batch.values())


def test_a_training_set_prints_nothing_and_tensors_give_no_warning(capsys, monkeypatch):
    monkeypatch.setattr(scvi.settings, "verbosity", logging.INFO)
    training_set({"rna_scores": np.eye(4)})
    assert capsys.readouterr() == ("", "")
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # not only the first time
    try:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            csr_tensor(np.eye(3))
    finally:
        torch.set_warn_always(always)
    assert not given


@pytest.mark.parametrize(
    "form",
    [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray],
    ids=["csr", "csc", "array", "dense"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_any_form_becomes_a_csr_tensor(form, dtype, rng):
    dense = rng.poisson(0.5, size=(6, 9)).astype(dtype)
    tensor = csr_tensor(form(dense))
    assert tensor.layout is torch.sparse_csr
    assert tensor.dtype is torch.float32
    np.testing.assert_array_equal(tensor.to_dense(), dense)


def test_further_rows_are_empty_and_pieces_of_an_entry_are_summed_in_a_copy(rng):
    dense = rng.poisson(0.5, size=(6, 9))
    padded = csr_tensor(dense, 8).to_dense()
    np.testing.assert_array_equal(padded, np.pad(dense, ((0, 2), (0, 0))))
    pieces = sparse.csr_matrix(([1.0, 2.0, 5.0], [3, 3, 1], [0, 3]), shape=(1, 4))
    np.testing.assert_array_equal(csr_tensor(pieces).to_dense(), [[0, 5, 0, 3]])
    assert csr_tensor(pieces).values().tolist() == [5, 3]
    assert pieces.nnz == 3


RARE = np.stack([np.r_[np.zeros(990), np.ones(10)], np.r_[np.full(500, -1), np.zeros(500)]], 1)


def test_rare_categories_are_taken_first_and_the_seed_decides():
    rare = RARE.astype(int)
    found = stratified_sample(rare, 100, n_each=8)
    assert len(found) == len(np.unique(found)) == 100
    assert (np.diff(found) > 0).all()
    assert (found >= 990).sum() >= 8
    assert abs((found < 500).sum() - 50) < 20  # the rest is random
    np.testing.assert_array_equal(stratified_sample(rare, 1000, n_each=8), range(1000))
    first, again, other = (stratified_sample(rare, 50, n_each=2, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(stratified_sample(np.empty((30, 0), int), 10, n_each=5)) == 10
