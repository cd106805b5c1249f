import pytest
import torch

from scmetaq.nn import non_zero_counts


@pytest.fixture
def counts():
    x = torch.poisson(torch.full((7, 5), 0.4), generator=torch.Generator().manual_seed(0))
    x[2] = 0
    return x


@pytest.fixture(params=[False, True], ids=["non-zeros", "all, as on a GPU"])
def known(counts, request, monkeypatch):
    monkeypatch.setattr("scmetaq.nn._device.on_cpu", lambda _: not request.param)
    return non_zero_counts(counts)


def test_only_non_zeros_are_kept_off_the_gpu(counts):
    known = non_zero_counts(counts)
    assert known.at.tolist() == counts.flatten().nonzero()[:, 0].tolist()
    assert known.values.tolist() == counts[counts > 0].tolist()
    torch.testing.assert_close(known.log_factorial, torch.lgamma(known.values + 1))


def test_values_are_added_at_counts(counts, known):
    found = torch.zeros_like(counts)
    known.add(found, known.values)
    assert torch.equal(found, counts)
    assert torch.equal(known.pick(counts), known.values)


def test_zeros_keep_what_they_had(counts, known):
    found = torch.full_like(counts, -1)
    known.replace(found, known.values)
    assert torch.equal(found, torch.where(counts > 0, counts, -1))


@pytest.mark.parametrize("n_numbers", [1, 5, 12, 34, 35, 1000])
def test_blocks_put_together_are_the_whole(counts, known, n_numbers):
    found, seen = torch.zeros_like(counts), []
    for rows, block in known.blocks(n_numbers):
        seen += range(len(counts))[rows]
        assert block.shape == tuple(counts[rows].shape)
        part = torch.zeros(block.shape)
        block.add(part, block.values)
        found[rows] = part
    assert seen == list(range(len(counts)))
    assert torch.equal(found, counts)


def test_no_cells_and_no_counts():
    assert non_zero_counts(torch.zeros(3, 4)).values.numel() == 0
    assert non_zero_counts(torch.zeros(0, 4)).shape == (0, 4)
