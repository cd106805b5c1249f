"""Agreement of two groupings of the same cells."""

from typing import Literal, NamedTuple, get_args

from numpy.typing import ArrayLike
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    fowlkes_mallows_score,
    homogeneity_completeness_v_measure,
)

from scmetaq._errors import InputValueError, check_choice
from scmetaq.metrics._groups import check_same_cells, group_cells

_Mean = Literal["arithmetic", "max", "min", "geometric"]


class Agreement(NamedTuple):
    """How well two groupings of the same cells agree.

    Attributes
    ----------
    ami
        Adjusted mutual information: 1 for the same grouping, about 0 for independent ones.
        Relative to the mean of the two entropies that ``average_method`` names.
    ari
        Adjusted Rand index: 1 for the same grouping, about 0 for independent ones.
    homogeneity, completeness
        1 if every group of the first grouping is within one of the second, or the reverse.
    nmi
        Normalised mutual information (V-measure): the harmonic mean of homogeneity and
        completeness. Many small groups raise it by chance.
    fmi
        Fowlkes-Mallows index: geometric mean of precision and recall of pairs of cells.
    """

    ami: float
    ari: float
    homogeneity: float
    completeness: float
    nmi: float
    fmi: float


def agreement(a: ArrayLike, b: ArrayLike, *, average_method: _Mean = "arithmetic") -> Agreement:
    """Compare two groupings of the same cells: two assignments, or an assignment and labels.

    Parameters
    ----------
    a, b
        Group of each cell, shape ``(n_cells,)``: assignments, or labels. A cell that is missing or
        -1 in either grouping is left out.
    average_method
        Mean of the two entropies in the denominator of the adjusted mutual information, as in
        scikit-learn; Eq. 26 of Li et al., MetaQ, Nature Communications 2025, has ``"max"``.

    Returns
    -------
    Six numbers of at most 1; higher is more alike. Homogeneity of ``a`` with regard to ``b`` and
    completeness swap when the groupings do; the others are symmetric.

    Notes
    -----
    Metacells are many and small by design. Against a few labels, homogeneity is the fair number;
    the others fall with the number of metacells however good these are.
    """
    check_choice("average_method", average_method, get_args(_Mean))
    check_same_cells(a, b)
    first, second = group_cells(a).codes, group_cells(b).codes
    both = (first >= 0) & (second >= 0)
    if not both.any():
        raise InputValueError(
            "Expected cells that are in a group of both groupings, found none.",
            "Check that the two columns are of the same cells.",
        )
    first, second = first[both], second[both]
    homogeneity, completeness, nmi = homogeneity_completeness_v_measure(second, first)
    return Agreement(
        ami=float(adjusted_mutual_info_score(first, second, average_method=average_method)),
        ari=float(adjusted_rand_score(first, second)),
        homogeneity=float(homogeneity),
        completeness=float(completeness),
        nmi=float(nmi),
        fmi=float(fowlkes_mallows_score(first, second)),
    )
