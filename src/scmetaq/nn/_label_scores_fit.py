import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ._label_scores import LabelScoresState
from ._prototype_fit import PrototypeFit
from ._ridge import fit_ridge


def fit_label_scores(
    values: Tensor, label: Tensor, fold: Tensor, *, n_labels: int
) -> LabelScoresState:
    """Scores of labels from some of their cells.

    Parameters
    ----------
    values
        What is read of cells, ``(N, M)``.
    label
        Index of the label of each, ``(N,)``.
    fold
        Fold of each, ``(N,)``, see :class:`~scmetaq.nn.PrototypeFit`.
    n_labels
        Number of labels; those without cells are passed over.
    """
    n_cells = torch.bincount(label, minlength=n_labels)  # L
    targets = F.one_hot(label, n_labels).double()  # N x L
    ridge = fit_ridge(values, targets, n_cells[label].double().rsqrt())
    fit = PrototypeFit(n_cells, n_labels)
    fit.add(ridge.left_out, label, fold)
    found = fit.finish(ridge.left_out, label, fold)
    return LabelScoresState(
        ridge.axes, ridge.offset, found.means, n_cells, found.whitening, found.spread
    )
