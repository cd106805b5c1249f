from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from scmetaq.model._blocks import half_latents
from scmetaq.module import MetaQModule
from scmetaq.nn import ModalityShape, initial_codes, squared_distances
from scmetaq.train import CodebookStart, _codebook_fit, fit_codes, latents

K, D = 5, 3


@pytest.fixture
def z():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(80, D, generator=generator) + 4 * torch.eye(D).repeat(27, 1)[:80]


@pytest.fixture
def module():
    torch.manual_seed(0)
    return MetaQModule({"rna": ModalityShape(10, n_components=0)}, K, n_latent=D)


@pytest.fixture
def trainer(module):
    optimizer = torch.optim.AdamW(module.parameters())
    return SimpleNamespace(global_step=2, estimated_stepping_batches=10, optimizers=[optimizer])


@pytest.fixture
def given(monkeypatch):
    """Latents are those that are given, not encoded."""
    monkeypatch.setattr(_codebook_fit, "latents", lambda module, inputs: inputs["z"])


def make(module, z, **kwargs):
    options = {"warmup_fraction": 0.2, "init": "kmeans", "seed": 0}
    return CodebookStart(module, {"z": z}, **{**options, **kwargs})


def fitted(module, z, *, start=None, **kwargs):
    """Codes of least quantization error."""
    module.codebook.is_fitted = False
    if start is not None:
        module.codebook.set_codes(start)
    fit_codes(module, z, **{"init": "kmeans", "evenness": 0.2, "seed": 0, **kwargs})
    return module.codebook.codes.detach().clone()


def error(z, codes):
    return squared_distances(z, codes).amin(1).sum().item()


def test_codes_and_their_decoder_start_once_when_the_warm_up_is_over(module, z, trainer, given):
    optimizer, codebook, part = trainer.optimizers[0], module.codebook, module.parts["rna"]
    codebook.codes.grad = torch.ones(K, D)
    optimizer.step()
    assert codebook.codes in optimizer.state
    callback = make(module, z)
    for trainer.global_step in range(3):
        assert not codebook.is_fitted
        callback.on_train_batch_start(trainer, None, None, trainer.global_step)
    centres = KMeans(K, n_init=1, random_state=0).fit(z.numpy()).cluster_centers_
    np.testing.assert_allclose(codebook.codes.detach(), centres, rtol=1e-5)
    assert codebook.codes not in optimizer.state  # which was of the codes that were replaced
    assert torch.equal(part.decoder(z).log_rate, part.quantized_decoder(z).log_rate)
    codebook.set_codes(z[:K])
    callback.on_train_batch_start(trainer, None, None, 3)
    assert torch.equal(codebook.codes, z[:K])


def test_random_codes_are_cells_or_without_warm_up_as_published(module, z, trainer, given):
    before = module.codebook.codes.detach().clone()
    make(module, z, init="random", warmup_fraction=0).on_train_batch_start(trainer, None, None, 0)
    assert torch.equal(module.codebook.codes, before)
    assert module.codebook.is_fitted
    module.codebook.is_fitted = False
    make(module, z, init="random").on_train_batch_start(trainer, None, None, 0)
    assert squared_distances(module.codebook.codes, z).amin(1).max() < 1e-9


@pytest.mark.parametrize("init", ["kmeans", "random", "geometric"])
def test_fitted_codes_are_means_of_their_cells_and_no_worse_than_their_start(module, z, init):
    rough = initial_codes(z, K, init, seed=0)
    codes = fitted(module, z, init=init, evenness=0.0)
    assert error(z, codes) <= error(z, rough) * (1 + 1e-6)
    assert torch.equal(codes, fitted(module, z, init=init, evenness=0.0))
    assignment = module.codebook(z).assignment
    means = torch.stack([z[assignment == k].mean(0) for k in range(K)])
    torch.testing.assert_close(codes, means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_at_the_end_every_code_has_a_cell(module, z, is_fitted, given):
    if is_fitted:
        module.codebook.set_codes(torch.full((K, D), 100.0))
    make(module, z, warmup_fraction=1.0).finish()
    assert len(module.codebook(z).assignment.unique()) == K
    assert (module.codebook.usage > 0).all()


def test_codes_continue_from_those_of_an_earlier_training(module, z):
    """In the order in which they were: metacells keep their names."""
    codes = fitted(module, z)
    order = torch.tensor([2, 0, 4, 1, 3])
    again = fitted(module, z, start=codes[order])
    assert torch.equal(squared_distances(again, codes[order]).argmin(1), torch.arange(K))


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_latents_of_prepared_inputs_are_those_of_the_trained_model(fit, toy, recipe, monkeypatch):
    """To the bit; many codes of the default recipe are fitted to more cells than its statistics."""
    monkeypatch.setattr("scmetaq.model._metaq.MAX_REFERENCE_CELLS", 60)
    for per_code, n_cells in ((10, 60), (20, 120), (100, 150)):
        monkeypatch.setattr("scmetaq.model._metaq._CELLS_PER_CODE", per_code)
        model = fit(toy, recipe=recipe, max_epochs=1)
        assert model.module.codebook.n_cells == n_cells
        prepared = model._prepare()
        assert len(prepared.cells) == (60 if recipe == "default" else 150)
        model.module.train()
        z = latents(model.module, prepared.inputs)
        assert model.module.training
        found = model.get_latent_representation()
        np.testing.assert_array_equal(z, found[prepared.cells])
        cells = model._codebook_cells(0)
        further = half_latents(model.module, model._cells(model.adata).only(cells))
        np.testing.assert_array_equal(further, found[cells].astype(np.float16))


def test_many_codes_are_found_region_by_region_and_few_at_once(module, z, monkeypatch):
    called = {}
    for name in ("cluster", "cluster_by_region"):
        real = getattr(_codebook_fit, name)

        def watched(*args, name=name, real=real, **kwargs):
            called[name] = kwargs
            return real(*args, **kwargs)

        monkeypatch.setattr(_codebook_fit, name, watched)
    fitted(module, z, seed=3)
    few = {"start": None, "evenness": 0.2, "seed": 3}
    assert called == {"cluster": few}
    monkeypatch.setattr(_codebook_fit, "MOST_AT_ONCE", K - 1)
    fitted(module, z.half())
    assert len(module.codebook(z).assignment.unique()) == K
    assert called["cluster_by_region"]["evenness"] == 0.2
    assert torch.equal(called["cluster_by_region"]["states"], module.state_dimensions)
