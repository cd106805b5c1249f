from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from scmetaq.module import MetaQModule
from scmetaq.nn import ModalityShape, squared_distances
from scmetaq.train import CodebookFit

K, D = 5, 3


@pytest.fixture
def z():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(80, D, generator=generator) + 4 * torch.eye(D).repeat(27, 1)[:80]


@pytest.fixture
def module():
    torch.manual_seed(0)
    return MetaQModule(
        {"rna": ModalityShape(10, n_components=0)}, K, n_latent=D, distance="euclidean"
    )


@pytest.fixture
def trainer(module):
    return SimpleNamespace(
        global_step=0,
        estimated_stepping_batches=10,
        optimizers=[torch.optim.AdamW(module.parameters())],
    )


class Fit(CodebookFit):
    """With latents that are given, not encoded."""

    def latents(self):
        return self.inputs["z"]


def make(module, z, **kwargs):
    options = {"warmup_fraction": 0.25, "init": "kmeans", "refine": False, "evenness": 0.2}
    return Fit(module, {"z": z}, **{**options, "seed": 0, **kwargs})


def error(z, codes):
    return squared_distances(z, codes).amin(1).sum().item()


def test_codes_come_when_the_warm_up_is_over(module, z, trainer):
    callback = make(module, z)
    for step, fitted in ((0, False), (1, False), (2, True)):
        trainer.global_step = step
        callback.on_train_batch_start(trainer, None, None, step)
        assert bool(module.codebook.fitted) == fitted
    centres = KMeans(K, n_init=1, random_state=0).fit(z.numpy()).cluster_centers_
    np.testing.assert_allclose(module.codebook.codes.detach(), centres, rtol=1e-5)


def test_codes_are_initialised_once(module, z, trainer):
    callback = make(module, z, warmup_fraction=0)
    callback.on_train_batch_start(trainer, None, None, 0)
    codes = torch.randn(K, D)
    module.codebook.set_codes(codes)
    callback.on_train_batch_start(trainer, None, None, 0)
    assert torch.equal(module.codebook.codes, codes)


def test_the_decoder_of_codes_starts_as_a_copy(module, z, trainer):
    make(module, z, warmup_fraction=0).on_train_batch_start(trainer, None, None, 0)
    part = module.parts["rna"]
    assert torch.equal(part.decoder(z).log_rate, part.quantized_decoder(z).log_rate)


@pytest.mark.parametrize("init", ["kmeans", "random", "geometric"])
def test_refining_never_makes_the_codes_worse(module, z, init):
    make(module, z, warmup_fraction=0.5, init=init).finish()
    rough = error(z, module.codebook.codes)
    module.codebook.forget_codes()
    make(module, z, warmup_fraction=0.5, init=init, refine=True).finish()
    assert error(z, module.codebook.codes) <= rough * (1 + 1e-6)


def test_random_codes_after_a_warm_up_are_cells(module, z, trainer):
    trainer.global_step = 2
    make(module, z, init="random").on_train_batch_start(trainer, None, None, 0)
    assert squared_distances(module.codebook.codes, z).amin(1).max() < 1e-9


def test_without_warm_up_random_codes_stay_as_published(module, z, trainer):
    before = module.codebook.codes.detach().clone()
    make(module, z, init="random", warmup_fraction=0).on_train_batch_start(trainer, None, None, 0)
    assert torch.equal(module.codebook.codes, before)
    assert module.codebook.fitted


def test_training_that_ends_early_has_codes_all_the_same(module, z):
    make(module, z, warmup_fraction=1.0).finish()
    assert module.codebook.fitted
    assert len(module.codebook(z).assignment.unique()) == K


def test_at_the_end_every_code_has_a_cell(module, z):
    module.codebook.set_codes(torch.full((K, D), 100.0))
    make(module, z).finish()
    assert len(module.codebook(z).assignment.unique()) == K


def test_at_the_end_codes_are_the_means_of_their_cells(module, z):
    module.codebook.set_codes(z[:K])
    make(module, z, refine=True).finish()
    assignment = module.codebook(z).assignment
    means = torch.stack([z[assignment == k].mean(0) for k in range(K)])
    torch.testing.assert_close(module.codebook.codes.detach(), means, rtol=1e-4, atol=1e-4)


def codes_at_the_end(module, z, trainer, begun_with, *, trained_before):
    """Codes after a training in whose middle there were others."""
    module.codebook.forget_codes()
    callback = make(module, z, refine=True)
    if trained_before:
        module.codebook.set_codes(begun_with)
    callback.on_train_start(trainer, None)
    module.codebook.set_codes(begun_with)
    callback.finish()
    return module.codebook.codes.detach().clone()


def test_at_the_end_codes_are_fitted_again(module, z, trainer):
    starts = z[:K], z[-K:] + 3
    found = [codes_at_the_end(module, z, trainer, of, trained_before=False) for of in starts]
    assert torch.equal(*found)


def test_codes_of_an_earlier_training_are_the_start(module, z, trainer):
    """In the order in which they were: metacells keep their names."""
    codes = codes_at_the_end(module, z, trainer, z[:K], trained_before=False)
    order = torch.tensor([2, 0, 4, 1, 3])
    again = codes_at_the_end(module, z, trainer, codes[order], trained_before=True)
    assert torch.equal(squared_distances(again, codes[order]).argmin(1), torch.arange(K))


def test_one_seed_one_codebook(module, z):
    codes = []
    for _ in range(2):
        module.codebook.forget_codes()
        make(module, z, refine=True, seed=3).finish()
        codes.append(module.codebook.codes.detach().clone())
    assert torch.equal(*codes)


def test_the_optimiser_forgets_the_codes_that_were_replaced(module, z, trainer):
    optimizer = trainer.optimizers[0]
    module.codebook.codes.grad = torch.ones(K, D)
    optimizer.step()
    assert module.codebook.codes in optimizer.state
    make(module, z, warmup_fraction=0).on_train_batch_start(trainer, None, None, 0)
    assert module.codebook.codes not in optimizer.state


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize("n_cells", [1, 150])
def test_latents_are_those_of_the_trained_model(fit, toy, recipe, n_cells):
    """Read from the prepared inputs, to the bit, whatever the number of cells."""
    model = fit(toy, recipe=recipe, max_epochs=1)
    model._prepare()
    inputs = model._codebook_fit.inputs
    inputs = {name: values[:n_cells] for name, values in inputs.items()}
    model.module.train()
    callback = make(model.module, None)
    callback.inputs = inputs
    z = CodebookFit.latents(callback)
    assert model.module.training
    np.testing.assert_array_equal(z, model.get_latent_representation()[:n_cells])


def test_codes_of_many_are_fitted_to_more_cells_than_the_network(fit, toy, monkeypatch):
    monkeypatch.setattr("scmetaq.model._metaq.MAX_REFERENCE_CELLS", 60)
    monkeypatch.setattr("scmetaq.model._metaq._CELLS_PER_CODE", 20)
    for recipe in ("default", "published"):
        model = fit(toy, 6, recipe=recipe, max_epochs=1)
        assert model.module.codebook.n_cells == 120
        model._prepare()
        codebook_fit = model._codebook_fit
        cells = model._codebook_cells(0)
        z = codebook_fit.latents()
        np.testing.assert_array_equal(z, model.get_latent_representation()[cells])
