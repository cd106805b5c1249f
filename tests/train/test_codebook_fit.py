from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from scmetaq.module import MetaQModule
from scmetaq.nn import ModalityShape, squared_distances
from scmetaq.train import CodebookFit, _codebook_fit

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


class Fit(CodebookFit):
    """With latents that are given, not encoded."""

    def latents(self):
        return self.inputs["z"]


def make(module, z, **kwargs):
    options = {"warmup_fraction": 0.2, "init": "kmeans", "refine": False, "evenness": 0.2}
    return Fit(module, {"z": z}, **{**options, "seed": 0, **kwargs})


def finished(module, z, **kwargs):
    """Codes of a training without steps."""
    module.codebook.is_fitted = False
    make(module, z, **kwargs).finish()
    return module.codebook.codes.detach().clone()


def error(z, codes):
    return squared_distances(z, codes).amin(1).sum().item()


def test_codes_and_their_decoder_are_initialised_once_when_the_warm_up_is_over(module, z, trainer):
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


def test_random_codes_are_cells_or_without_warm_up_as_published(module, z, trainer):
    before = module.codebook.codes.detach().clone()
    make(module, z, init="random", warmup_fraction=0).on_train_batch_start(trainer, None, None, 0)
    assert torch.equal(module.codebook.codes, before)
    assert module.codebook.is_fitted
    module.codebook.is_fitted = False
    make(module, z, init="random").on_train_batch_start(trainer, None, None, 0)
    assert squared_distances(module.codebook.codes, z).amin(1).max() < 1e-9


@pytest.mark.parametrize("init", ["kmeans", "random", "geometric"])
def test_refined_codes_are_means_of_their_cells_and_no_worse(module, z, init):
    rough = finished(module, z, init=init)
    refined = finished(module, z, init=init, refine=True)
    assert error(z, refined) <= error(z, rough) * (1 + 1e-6)
    assert torch.equal(refined, finished(module, z, init=init, refine=True))
    assignment = module.codebook(z).assignment
    means = torch.stack([z[assignment == k].mean(0) for k in range(K)])
    torch.testing.assert_close(refined, means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_at_the_end_every_code_has_a_cell(module, z, is_fitted):
    if is_fitted:
        module.codebook.set_codes(torch.full((K, D), 100.0))
    make(module, z, warmup_fraction=1.0).finish()
    assert len(module.codebook(z).assignment.unique()) == K
    assert (module.codebook.usage > 0).all()


def test_only_the_last_codes_have_even_sizes_and_are_set_apart(module, z, trainer, monkeypatch):
    options, real = [], _codebook_fit.cluster
    monkeypatch.setattr(
        _codebook_fit, "cluster", lambda *a, **k: options.append(k) or real(*a, **k)
    )
    callback = make(module, z, refine=True, seed=3)
    callback.on_train_batch_start(trainer, None, None, 0)
    callback.finish()
    first = {"start": None, "seed": 3}
    assert options == [first, {**first, "evenness": 0.2, "set_apart": True}]


def codes_at_the_end(module, z, begun_with, *, trained_before):
    """Codes after a training in whose middle there were others."""
    module.codebook.is_fitted = False
    callback = make(module, z, refine=True)
    if trained_before:
        module.codebook.set_codes(begun_with)
    callback.on_train_start(None, None)
    module.codebook.set_codes(begun_with)
    callback.finish()
    return module.codebook.codes.detach().clone()


def test_at_the_end_codes_are_fitted_again_from_those_of_an_earlier_training(module, z):
    starts = z[:K], z[-K:] + 3
    assert torch.equal(*[codes_at_the_end(module, z, of, trained_before=False) for of in starts])
    # In the order in which they were: metacells keep their names
    codes = codes_at_the_end(module, z, z[:K], trained_before=False)
    order = torch.tensor([2, 0, 4, 1, 3])
    again = codes_at_the_end(module, z, codes[order], trained_before=True)
    assert torch.equal(squared_distances(again, codes[order]).argmin(1), torch.arange(K))


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_latents_of_prepared_inputs_are_those_of_the_trained_model(fit, toy, recipe, monkeypatch):
    """To the bit; many codes of the default recipe are fitted to more cells than its network."""
    monkeypatch.setattr("scmetaq.model._metaq.MAX_REFERENCE_CELLS", 60)
    for per_code, n_cells in ((10, 60), (20, 120), (100, 150)):
        monkeypatch.setattr("scmetaq.model._metaq._CELLS_PER_CODE", per_code)
        model = fit(toy, recipe=recipe, max_epochs=1)
        assert model.module.codebook.n_cells == n_cells
        prepared = model._prepare()
        assert len(prepared.cells) == (60 if recipe == "default" else 150)
        model.module.train()
        z = model._codebook_fit.latents()
        assert model.module.training
        latents, cells = model.get_latent_representation(), model._codebook_cells(0)
        is_part = len(cells) < len(prepared.cells)
        np.testing.assert_array_equal(z, latents[cells if is_part else prepared.cells])
        further = model._half_latents(model._cells(model.adata_manager).only(cells))
        np.testing.assert_array_equal(further, latents[cells].astype(np.float16))


def test_few_codes_are_trained_with_and_many_are_found_region_by_region(module, z, monkeypatch):
    monkeypatch.setattr(_codebook_fit, "_MOST_IN_TRAINING", 3)
    callback = make(module, z, refine=True)
    callback._initialise(z)
    codes = module.codebook.codes.detach().clone()
    assert len(codes.unique(dim=0)) == 3
    assert torch.equal(codes[3:], codes[: K - 3])
    called, real = [], _codebook_fit.cluster_by_region
    monkeypatch.setattr(_codebook_fit, "MOST_AT_ONCE", K - 1)
    monkeypatch.setattr(
        _codebook_fit, "cluster_by_region", lambda *a, **k: called.append(k) or real(*a, **k)
    )
    callback.finish(z.half())
    assert len(module.codebook(z).assignment.unique()) == K
    assert called[0]["evenness"] == 0.2
    assert torch.equal(called[0]["states"], module.state_dimensions)
