import logging

import numpy as np
import scvi
from scipy import sparse

from scmetaq.data._training_set import training_set


def test_batches_have_counts_and_inputs():
    counts = sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(4, 3))
    inputs = {"rna_counts": counts, "rna_scores": np.eye(4, dtype=np.float32)}
    batch = training_set(inputs).create_torch_dataset()[[3, 1]]
    assert set(batch) == {"rna_counts", "rna_scores"}
    np.testing.assert_array_equal(batch["rna_counts"], [[9, 10, 11], [3, 4, 5]])
    np.testing.assert_array_equal(batch["rna_scores"], np.eye(4)[[3, 1]])
    assert all(values.dtype == np.float32 for values in batch.values())


def test_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(scvi.settings, "verbosity", logging.INFO)
    training_set({"rna_scores": np.eye(4)})
    assert capsys.readouterr() == ("", "")
