import logging

import numpy as np
import scvi
from scipy import sparse

from scmetaq.data._training_set import training_set


def test_batches_have_counts_and_inputs():
    counts = sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(4, 3))
    inputs = {"size_factor": np.ones((4, 1), np.float32), "scores": np.eye(4, dtype=np.float32)}
    batch = training_set(counts, inputs).create_torch_dataset()[[3, 1]]
    assert set(batch) == {"X", "size_factor", "scores"}
    np.testing.assert_array_equal(batch["X"], [[9, 10, 11], [3, 4, 5]])
    np.testing.assert_array_equal(batch["scores"], np.eye(4)[[3, 1]])
    assert all(values.dtype == np.float32 for values in batch.values())


def test_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(scvi.settings, "verbosity", logging.INFO)
    training_set(sparse.csr_matrix(np.eye(4, dtype=np.float32)), {"scores": np.eye(4)})
    assert capsys.readouterr() == ("", "")
