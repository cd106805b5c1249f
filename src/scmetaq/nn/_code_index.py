"""Nearest codes of cells without comparing every cell with every code."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.cluster import KMeans
from torch import Tensor

FEWEST_CODES: Final = 2_048
"""Codes from which on an index is used: fewer are compared with every cell sooner."""
_N_SEARCHED: Final = 16
"""Regions of codes that a cell is compared with."""
_MAX_PASSES: Final = 10
"""Passes of the k-means that puts codes into regions."""


def code_regions(codes: Tensor, n_regions: int | None = None, *, seed: int = 0) -> Tensor:
    """Region of each code by k-means, ``(n_codes,)``, by default as an index has; none is empty."""
    n_regions = round(2 * len(codes) ** 0.5) if n_regions is None else n_regions
    kmeans = KMeans(n_regions, n_init=1, max_iter=_MAX_PASSES, random_state=seed)
    found = torch.from_numpy(kmeans.fit_predict(codes.detach().float().cpu().numpy()))
    return found.unique(return_inverse=True)[1].to(codes.device)


class CodeIndex:
    r"""Codes in regions, of which a cell is compared with those of the nearest ones only.

    The score of code :math:`k` for cell :math:`z` is :math:`w_k^\top z + b_k`. With
    :math:`2 \sqrt K` regions a cell is compared with about :math:`10 \sqrt K` of the :math:`K`
    codes and centres. Which codes are compared depends on the cell alone.

    Parameters
    ----------
    weight
        :math:`w`, ``(n_codes, n_latent)``.
    bias
        :math:`b`, ``(n_codes,)``.
    region
        Region of each code, ``(n_codes,)``, none empty.
    centre_weight, centre_bias
        The same of the centres of the regions, ``(n_regions, n_latent)`` and ``(n_regions,)``.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        region: Tensor,
        centre_weight: Tensor,
        centre_bias: Tensor,
    ):
        order, sizes = region.argsort(stable=True), region.bincount().tolist()
        self.codes = [codes.clone() for codes in order.split(sizes)]
        self.weight = [weight[codes].T.contiguous() for codes in self.codes]
        self.bias = [bias[codes] for codes in self.codes]
        self.centre_weight, self.centre_bias = centre_weight.T.contiguous(), centre_bias

    @classmethod
    def of(
        cls,
        codes: Tensor,
        region: Tensor,
        offsets: Tensor | None = None,
        *,
        is_cosine: bool = False,
        is_weighted: bool = False,
    ) -> "CodeIndex":
        """Index by Euclidean distance, minus half its square being the score, or by cosine.

        With ``offsets`` of similarities, ``(n_codes,)``. Where dimensions have weights :math:`u` of
        each cell, the index is for :math:`[u z, u]`.
        """
        codes = F.normalize(codes) if is_cosine else codes
        centres = region_means(codes, region)
        centres = F.normalize(centres) if is_cosine else centres
        bias, of_centres = (half_squares(of) * (not is_cosine) for of in (codes, centres))
        if is_weighted:
            codes, centres = (torch.cat([of, of.square() / -2], 1) for of in (codes, centres))
            bias, of_centres = torch.zeros_like(bias), torch.zeros_like(of_centres)
        if offsets is not None:
            bias = bias + offsets / (1 if is_cosine else 2)
        return cls(codes, bias, region, centres, of_centres)

    def candidates(self, z: Tensor, n_best: int, *, n_searched: int = _N_SEARCHED) -> Tensor:
        """Best codes of each of the nearest regions, ``(n_cells, n_searched * n_best)``.

        Regions with fewer codes are filled up with the code of largest score.
        """
        n_searched = min(n_searched, len(self.codes))
        near = torch.addmm(self.centre_bias, z, self.centre_weight).topk(n_searched).indices
        where = near.flatten()
        places = where.argsort(stable=True).split(
            where.bincount(minlength=len(self.codes)).tolist()
        )
        found = near.new_empty(len(where), n_best)
        for region, of_region in enumerate(places):
            if len(of_region):
                rows = z[of_region // n_searched]
                score = torch.addmm(self.bias[region], rows, self.weight[region])
                best = score.topk(min(n_best, score.shape[1])).indices
                chosen = self.codes[region][best]
                found[of_region, : best.shape[1]] = chosen
                found[of_region, best.shape[1] :] = chosen[:, :1]
        return found.view(len(z), -1)


def region_means(codes: Tensor, region: Tensor) -> Tensor:
    """Mean of the codes of each region, ``(n_regions, n_latent)``."""
    n = region.bincount()
    total = codes.new_zeros(len(n), codes.shape[1]).index_add_(0, region, codes)
    return total / n[:, None]


def half_squares(codes: Tensor) -> Tensor:
    """Minus half the squared length of each code, ``(n_codes,)``."""
    return codes.square().sum(1) / -2
