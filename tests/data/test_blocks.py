import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from scmetaq.data._blocks import by_rows, csr_tensor


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


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_rows_can_be_cut(form, rng):
    dense = rng.poisson(0.5, size=(6, 9)).astype(np.float32)
    counts = by_rows(form(dense))
    assert getattr(counts, "format", "dense") in ("csr", "dense")
    rows = counts[2:4]
    np.testing.assert_array_equal(rows.toarray() if sparse.issparse(rows) else rows, dense[2:4])


def test_further_rows_are_empty(rng):
    dense = rng.poisson(0.5, size=(6, 9))
    padded = csr_tensor(dense, 8).to_dense().numpy()
    np.testing.assert_array_equal(padded[:6], dense)
    assert padded.shape == (8, 9)
    assert not padded[6:].any()


def test_says_nothing():
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # not only the first time
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            csr_tensor(np.eye(3))
    finally:
        torch.set_warn_always(always)
    assert not said


def test_pieces_of_an_entry_are_added_up_in_a_copy():
    pieces = sparse.csr_matrix(([1.0, 2.0, 5.0], [3, 3, 1], [0, 3]), shape=(1, 4))
    np.testing.assert_array_equal(csr_tensor(pieces).to_dense(), [[0, 5, 0, 3]])
    assert csr_tensor(pieces).values().tolist() == [5, 3]
    assert pieces.nnz == 3
