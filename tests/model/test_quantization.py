import numpy as np
import pytest
import torch

from scmetaq.nn import count_nll

KEYS = {
    "reconstruction_ratio",
    "reconstruction_loss",
    "quantized_loss",
    "codebook_loss",
    "mean_margin",
    "perplexity",
    "n_metacells",
    "n_empty",
}


@pytest.fixture(scope="module")
def report(model):
    return model.get_quantization_report()


def test_losses_agree_with_the_module(report, model, blood):
    x = torch.from_numpy(blood.X.toarray())
    module = model.module
    with torch.no_grad():
        conditions = torch.zeros(len(x), 0, dtype=torch.long)
        inputs = module.read({"rna": x}, {"rna": torch.ones(len(x), 1)}, conditions)
        decoded = module.generative(module.inference(inputs, conditions)["z"], conditions)
        selected = x[:, module.parts["rna"].feature_scaling.features]
        factor = x.sum(1, keepdim=True) / 1e4
        losses = {
            name: count_nll(decoded[part]["rna"], selected, factor).mean().item()
            for name, part in (("reconstruction_loss", "plain"), ("quantized_loss", "quantized"))
        }
    for name, value in losses.items():
        assert report[name] == pytest.approx(value, rel=1e-5)
    ratio = losses["reconstruction_loss"] / losses["quantized_loss"]
    assert report["reconstruction_ratio"] == pytest.approx(ratio, rel=1e-5)


def test_the_rest_agrees_with_latents_and_assignments(report, model, assignments):
    assert set(report) == KEYS
    share = assignments["metacell"].value_counts(normalize=True)
    assert report["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert report["mean_margin"] == pytest.approx(assignments["margin"].mean(), rel=1e-3)
    codes = model.get_codebook().drop(columns="usage").loc[assignments["metacell"]].to_numpy()
    error = np.square(model.get_latent_representation() - codes).mean()
    assert report["codebook_loss"] == pytest.approx(error, rel=1e-4)
    assert (report["n_metacells"], report["n_empty"]) == (10, 0)


def test_blocks_do_not_matter(report, model, monkeypatch):
    monkeypatch.setattr("scmetaq.model._base._BLOCK", 33)
    found = model.get_quantization_report()
    assert found == pytest.approx(report, rel=1e-5)


def test_other_cells_may_leave_metacells_empty(model, assignments, again):
    of_one = np.flatnonzero(assignments["metacell"] == "mc0002")
    report = model.get_quantization_report(again(index=of_one))
    assert report["n_empty"] == 9
    assert report["perplexity"] == pytest.approx(1)


def test_more_metacells_lose_less(fit, toy):
    few, many = (fit(toy.copy(), k).get_quantization_report() for k in (3, 60))
    assert many["codebook_loss"] < few["codebook_loss"]
    assert many["perplexity"] > few["perplexity"]
