"""One seed gives one model, whatever happened before and in whatever form the cells are."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scvi
import torch
from scipy import sparse

from scmetaq import COEM, MetaQModel, SCPoli

CASES = {
    "default": (MetaQModel, {"n_metacells": 6}),
    "published": (MetaQModel, {"n_metacells": 6, "recipe": "published"}),
    "scpoli": (SCPoli, {}),
    "coem": (COEM, {"n_components": 5}),
}


@pytest.fixture(params=CASES)
def made(request, toy, paired, train):
    """A function that registers, makes and trains a model, and sets no seed."""
    cls, options = CASES[request.param]
    cells = paired if cls is COEM else toy

    def make(**training):
        data = cells.copy()
        setup = {} if cls is COEM else {"labels_key": "state"}
        (cls.setup_mudata if cls is COEM else cls.setup_anndata)(data, **setup)
        return train(cls(data, **options), 2, **training)

    return make


def state(model):
    return {name: of.numpy().tobytes() for name, of in model.module.state_dict().items()}


def test_models_trained_one_after_the_other_are_the_same_and_of_other_seeds_are_not(made):
    scvi.settings.seed = 3
    first = state(made())
    torch.rand(7)
    np.random.default_rng()
    np.random.rand(3)  # noqa: NPY002 - the state that libraries share
    other_seed, after = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    second = made()
    assert state(second) == first
    assert torch.equal(torch.get_rng_state(), other_seed)  # of others nothing is drawn
    np.testing.assert_array_equal(np.random.get_state()[1], after)  # noqa: NPY002
    scvi.settings.seed = 4
    assert state(made()) != first


def test_models_without_a_seed_differ(fit, toy):
    first = state(fit(toy.copy(), seed=None))
    assert state(fit(toy, seed=None)) != first


def test_a_seed_of_the_training_alone_counts(fit, train, toy):
    scvi.settings.seed = 0
    models = []
    for _ in range(2):
        MetaQModel.setup_anndata(toy)
        models.append(MetaQModel(toy, 6))
    scvi.settings.seed = 5
    first, second = (state(train(model, 1)) for model in models)
    assert first == second
    assert first != state(fit(toy, max_epochs=1))


def test_training_that_goes_on_draws_on(fit, train, toy):
    whole = [state(train(fit(toy.copy(), recipe="published"), 3)) for _ in range(2)]
    assert whole[0] == whole[1]
    assert whole[0] != state(fit(toy.copy(), recipe="published"))


FORMS = {
    "dense": lambda X: X.toarray(),
    "F order": lambda X: np.asfortranarray(X.toarray()),
    "whole numbers": lambda X: X.astype(np.int64),
    "double": lambda X: X.astype(np.float64).tocsc(),
    "array": sparse.csr_array,
    "zeros stored": lambda X: zeros_stored(X),
    "each count in two": lambda X: doubled(X),
}


def zeros_stored(X):
    row, column = np.indices(X.shape).reshape(2, -1)
    return sparse.csr_matrix((X.toarray().ravel(), column, np.arange(0, X.shape[1] * 151, 60)))


def doubled(X):
    """Unsorted, with an entry for the half of each count."""
    parts = np.floor(X.data / 2), np.ceil(X.data / 2)
    order = np.concatenate(
        [
            np.r_[b - 1 : a - 1 : -1] if a else np.r_[:b][::-1]
            for a, b in zip(X.indptr, X.indptr[1:], strict=False)
        ]
    )
    data = np.stack([of[order] for of in parts], 1).ravel()
    return sparse.csr_matrix((data, np.repeat(X.indices[order], 2), X.indptr * 2), X.shape)


@pytest.mark.parametrize(
    ("form", "recipe"),
    [*((form, "default") for form in FORMS), ("each count in two", "published")],
)
def test_the_form_of_the_counts_changes_nothing(fit, toy, form, recipe):
    expected = state(fit(toy.copy(), max_epochs=2, recipe=recipe))
    X = FORMS[form](toy.X)
    assert (sparse.csr_matrix(X) != toy.X).nnz == 0
    toy.X = X
    assert state(fit(toy, max_epochs=2, recipe=recipe)) == expected


def test_two_threads_give_the_assignments_of_one(fit, blood):
    one = fit(blood.copy(), 12)
    torch.set_num_threads(2)
    try:
        two = fit(blood.copy(), 12)
    finally:
        torch.set_num_threads(1)
    assert (one.get_assignments()["metacell"] == two.get_assignments()["metacell"]).all()
    z = [model.get_latent_representation() for model in (one, two)]
    np.testing.assert_allclose(*z, atol=1e-5)


SCRIPT = """
import hashlib, sys
import numpy as np, pandas as pd, scvi, torch
from anndata import AnnData
from scmetaq import MetaQModel
np.random.seed(7), torch.manual_seed(7)
counts = np.random.default_rng(0).poisson(1.0, (80, 30)) + 1
obs = pd.DataFrame({k: list("xyzw" * 20) for k in ("b", "c", "t")}, [f"c{i}" for i in range(80)])
adata = AnnData(counts.astype(np.float32), obs)
scvi.settings.seed = 0
MetaQModel.setup_anndata(adata, batch_key="b", categorical_covariate_keys=["c"], labels_key=["t"])
model = MetaQModel(adata, 5)
model.train(2, accelerator="cpu", enable_progress_bar=False)
found = hashlib.sha256(model.get_latent_representation().tobytes())
for table in (model.get_assignments(), model.get_metacells().obs, model.predict_labels()):
    found.update(table.to_csv().encode())
for of in model.module.state_dict().values():
    found.update(of.numpy().tobytes())
found = found.hexdigest()
"""


@pytest.mark.slow
def test_another_process_agrees_to_the_last_bit_under_any_hash_seed():
    here = {}
    exec(SCRIPT, here)
    given = os.environ | {"PYTHONHASHSEED": "23"}
    n_threads = f"torch.set_num_threads({torch.get_num_threads()})"
    script = SCRIPT.replace("np.random.seed(7)", n_threads) + "print('found', found)"
    command = [sys.executable, "-W", "ignore", "-c", script]
    run = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    assert f"found {here['found']}" in run.stdout.splitlines()
