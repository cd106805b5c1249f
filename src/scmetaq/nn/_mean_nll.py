from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._likelihoods import LOG_RATE_RANGE, TERMS, Likelihood, is_inside
from ._non_zero_counts import NonZeroCounts

_BLOCK: Final = 1 << 17
"""Numbers of a block: what is computed from them stays in the cache of a core."""


def mean_nll(
    likelihood: Likelihood,
    log_rate: Tensor,
    other: Tensor | None,
    log_size: Tensor,
    counts: NonZeroCounts,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood of counts, averaged over features, and its gradient in one pass.

    Cells are taken in blocks that stay in a cache, from parameters to the mean and to the
    derivatives: twenty operations in a row on arrays of a batch would wait for memory instead.

    Parameters
    ----------
    likelihood
        Distribution of the counts.
    log_rate
        Log of the expected count per unit of size, ``(n_cells, n_features)``.
    other
        Second parameter of the distribution, ``(n_cells, n_features)``, if it has one.
    log_size
        Log of the size factors, ``(n_cells, 1)``, to which no gradient goes.
    counts
        The counts.
    weight
        Weight of each feature in the mean, ``(n_features,)``; by default all the same.

    Returns
    -------
    Weighted mean in nats, ``(n_cells,)``. It can be differentiated once.

    Raises
    ------
    ValueError
        If there are not as many parameters as counts.
    """
    if tuple(log_rate.shape) != counts.shape:
        raise ValueError(
            f"Expected parameters of all {counts.shape} counts, found {tuple(log_rate.shape)}."
        )
    log_size = log_size.detach().expand(len(log_rate), 1)
    counts = counts.to(log_rate.dtype)
    return _MeanNll.apply(likelihood, log_rate, other, log_size, counts, weight)


class _MeanNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        likelihood: Likelihood,
        log_rate: Tensor,
        other: Tensor | None,
        log_size: Tensor,
        counts: NonZeroCounts,
        weight: Tensor | None,
    ) -> Tensor:
        n_cells, n_features = log_rate.shape
        mean = log_rate.new_empty(n_cells)  # B
        learns = any(ctx.needs_input_grad[1:3])
        in_rate = torch.empty_like(log_rate) if learns else None  # B x M
        in_other = torch.empty_like(log_rate) if learns and other is not None else None
        for rows, of_rows in counts.blocks(_BLOCK):
            free = (log_rate[rows] + log_size[rows]).contiguous()  # b x M
            inside = is_inside(free, LOG_RATE_RANGE)
            log_m = free if inside else free.clamp(*LOG_RATE_RANGE)
            second = None if other is None else other[rows].contiguous()
            terms = TERMS[likelihood](log_m, second, of_rows, learns=learns)
            if weight is not None:
                terms = terms.weighted(weight)
            mean[rows] = terms.nll.sum(1)  # no product of matrices, which autocast would round
            if in_rate is not None and terms.in_log_mean is not None:
                in_rate[rows] = terms.in_log_mean if inside else terms.in_log_mean * (free == log_m)
            if in_other is not None and terms.in_other is not None:
                in_other[rows] = terms.in_other
        ctx.save_for_backward(in_rate, in_other)
        ctx.scale = 1 / max(1, n_features) if weight is None else 1.0
        return mean.mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        in_rate, in_other = ctx.saved_tensors
        grad = grad_outputs[0][:, None] * ctx.scale
        in_rate, in_other = (v if v is None else v * grad for v in (in_rate, in_other))
        return None, in_rate, in_other, None, None, None
