import numpy as np
from scipy import sparse

from scmetaq.data._training_set import training_set
from scmetaq.train import TrainingSetSplitter


def test_without_cells_held_out_there_is_nothing_to_validate():
    manager = training_set({"scores": np.zeros((20, 2), dtype=np.float32)})
    splitter = TrainingSetSplitter(None, training_set=manager, train_size=1.0)
    splitter.setup()
    assert splitter.val_dataloader() == []


def test_batches_are_those_of_the_training_set():
    counts = sparse.random(20, 5, 0.5, "csr", np.float32, np.random.default_rng(0))
    scores = np.arange(40, dtype=np.float32).reshape(20, 2)
    manager = training_set({"counts": counts, "scores": scores})
    splitter = TrainingSetSplitter(None, training_set=manager, train_size=0.8, batch_size=4)
    splitter.setup()
    batches = list(splitter.train_dataloader())
    cells = np.concatenate([batch["scores"][:, 0].numpy() for batch in batches]).astype(int) // 2
    assert sorted(cells) == sorted(splitter.train_idx)
    assert len(cells) == 16
    found = np.concatenate([batch["counts"].numpy() for batch in batches])
    np.testing.assert_array_equal(found, counts.toarray()[cells])
