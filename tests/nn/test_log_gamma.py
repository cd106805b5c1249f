import numpy as np
import pytest
import scipy.special
import torch

from scmetaq.nn._log_gamma import gamma_differences

COUNTS = (0.0, 1, 2, 3, 10, 300, 1e4, 1e6)


def grid(dtype):
    x = torch.tensor(COUNTS, dtype=dtype)
    r = torch.logspace(-4, 4, 161, dtype=dtype)
    return (part.reshape(-1) for part in torch.meshgrid(x, r, indexing="ij"))


def sums(x, r):
    """Both differences of small counts by their recurrence, which loses no digits."""
    x, r = x.double().numpy(), r.double().numpy()
    i = np.arange(300)[:, None]
    of_count = i < x
    return np.where(of_count, np.log(r + i), 0).sum(0), np.where(of_count, 1 / (r + i), 0).sum(0)


def test_agrees_with_scipy():
    x, r = grid(torch.float64)
    log_gamma, digamma = gamma_differences(x, r)
    wanted = scipy.special.gammaln(x + r) - scipy.special.gammaln(r)
    np.testing.assert_allclose(log_gamma, wanted, rtol=1e-8, atol=1e-8)
    wanted = scipy.special.digamma(x + r) - scipy.special.digamma(r)
    np.testing.assert_allclose(digamma, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-8)])
def test_no_digits_are_lost_for_large_dispersions(dtype, tolerance):
    x, r = grid(dtype)
    few = x <= 300
    x, r = x[few], r[few]
    for found, wanted in zip(gamma_differences(x, r), sums(x, r), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_of_no_count_both_are_zero():
    r = torch.logspace(-4, 4, 41)
    for found in gamma_differences(torch.zeros_like(r), r):
        assert found.abs().max() == 0


def test_functions_of_the_library_say_the_same_on_a_gpu(monkeypatch):
    x, r = grid(torch.float64)
    expected = gamma_differences(x, r)
    monkeypatch.setattr("scmetaq.nn._device.on_cpu", lambda values: False)
    for found, wanted in zip(gamma_differences(x, r), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_very_large_dispersions_do_not_overflow():
    x, r = torch.tensor([2.0, 2.0]), torch.tensor([1e10, 1e18])
    log_gamma, digamma = gamma_differences(x, r)
    torch.testing.assert_close(log_gamma, 2 * r.log(), rtol=1e-5, atol=0)
    torch.testing.assert_close(digamma, 2 / r, rtol=1e-5, atol=1e-6)
