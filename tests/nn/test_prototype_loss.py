import torch

from scmetaq.nn import class_means, prototype_loss


def test_every_label_counts_alike():
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    prototypes = torch.tensor([[0.0, 0.0], [1.0, 2.0], [9.0, 9.0]])
    labels = torch.tensor([0, 0, 0, 1])
    # label 0: mean of 5, 0, 0; label 1: 1; label 2 does not occur
    torch.testing.assert_close(prototype_loss(z, labels, prototypes), torch.tensor(5 / 3 + 1))


def test_cells_without_a_label_are_left_alone():
    z = torch.randn(5, 3, requires_grad=True)
    labels = torch.tensor([0, -1, 1, -1, 1])
    prototypes = torch.randn(2, 3)
    loss = prototype_loss(z, labels, prototypes)
    torch.testing.assert_close(loss, prototype_loss(z[[0, 2, 4]], labels[[0, 2, 4]], prototypes))
    loss.backward()
    assert (z.grad[[1, 3]] == 0).all()
    assert (z.grad[[0, 2, 4]] != 0).all()
    assert prototype_loss(z, torch.full((5,), -1), prototypes) == 0


def test_a_cell_at_its_prototype_has_a_finite_gradient():
    z = torch.zeros(1, 3, requires_grad=True)
    prototype_loss(z, torch.tensor([0]), torch.zeros(1, 3)).backward()
    assert torch.isfinite(z.grad).all()


def test_class_means_are_means_of_the_labelled():
    z, labels = torch.randn(30, 4), torch.arange(30) % 4 - 1
    found = class_means(z, labels)
    expected = torch.stack([z[labels == k].mean(0) for k in range(3)])
    torch.testing.assert_close(found, expected)
    with_gap = class_means(z, torch.where(labels == 1, -1, labels))
    assert (with_gap[1] == 0).all()
