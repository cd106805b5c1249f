from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scmetaq.data._checks import check_cut
from scmetaq.nn import CountParameters, beside, cut_tree, merge_codes

from ._parts import MetaQParts
from ._reading import Block, ReadingMixin

_MOST_CELLS = 10_000
"""Cells that means are taken over; their standard error is then far below what cuts differ by."""


class _Cut(NamedTuple):
    """Codes merged to fewer."""

    group: Tensor
    """Group of each code, ``(n_codes,)``."""
    codes: Tensor
    """Means of the codes of each group, ``(n_groups, n_latent)``."""
    n_cells: Tensor
    """Cells that had a part in the mean of each group, ``(n_groups,)``; infinite of others'."""
    mean: Tensor
    """Mean of all cells, ``(n_latent,)``."""

    def errors(self, z: Tensor, assignment: Tensor) -> dict[str, Tensor]:
        """Squared distances of cells to the mean of their group, and of its other cells.

        Without the cell itself the mean of ``n`` cells is ``n / (n - 1)`` times as far away; no
        further if the cell had no part in it. A cell that is alone is predicted by the mean of all.
        """
        error = (z - self.codes[assignment]).square().mean(1)  # B
        n = self.n_cells[assignment].round()
        others = error / (1 - 1 / n).square()
        alone = (z - self.mean).square().mean(1)
        return {"codebook_loss": error, "prediction_error": torch.where(n > 1, others, alone)}


class GranularityMixin(ReadingMixin, MetaQParts):
    """What is left of the cells at each number of metacells that a training can be cut to."""

    def get_granularity_report(self, n_metacells: Sequence[int]) -> pd.DataFrame:
        """How well fewer metacells stand for the cells, for several numbers of them at once.

        The codes of a cut are the means of the codes that it merges, by their usage. Means are over
        the cells of the model, or 10,000 of them spread evenly.

        Parameters
        ----------
        n_metacells
            Numbers of metacells, each from 2 to those of the model.

        Returns
        -------
        Indexed by ``n_metacells``, in increasing order:

        ``margin``
            Mean similarity to the code minus that to the best code of another metacell (paper:
            similarity difference).
        ``reconstruction_ratio``
            As in :meth:`get_quantization_report`: negative log-likelihood of the counts decoded
            from latents over that of the counts decoded from codes.
        ``codebook_loss``
            Squared distance of cells to the code of their metacell, mean over cells and
            dimensions (Eq. 10).
        ``prediction_error``
            The same to the mean of the *other* cells of the metacell. Unlike the codebook loss, it
            rises again where metacells begin to follow the noise of single cells. Cells of a query
            had no part in the codes of the reference: there it is the codebook loss.
        ``prediction_error_se``
            Standard error of what it exceeds the lowest one by.
        ``cells_per_metacell``
            Cells of the model over metacells.

        Raises
        ------
        TypeError
            A number is not whole.
        ValueError
            No number, one below 2, or more than the model has.
        """
        numbers = self._checked_cuts(n_metacells)
        everything = self._cells(self._registered(None))
        n_cells = everything.n_cells
        chosen = np.linspace(0, n_cells - 1, min(n_cells, _MOST_CELLS)).astype(np.int64)
        cells = everything if len(chosen) == n_cells else everything.sample(chosen)
        codebook = self.module.codebook
        merges = merge_codes(codebook.codes, codebook.usage)
        cuts = [self._cut(cut_tree(merges, number), n_cells) for number in numbers]
        found = self._in_blocks(lambda block: self._losses_of_cuts(block, cuts), cells)
        mean = {name: values.mean(0, dtype=np.float64) for name, values in found.items()}
        share = {kind: max(of.is_present.mean(), 1e-12) for kind, of in cells.counts.items()}
        plain, quantized = (
            sum(mean[f"{name}_{kind}"] / of for kind, of in share.items())
            for name in ("plain", "quantized")
        )
        return pd.DataFrame(
            {
                "margin": mean["margin"],
                "reconstruction_ratio": plain / quantized,
                "codebook_loss": mean["codebook_loss"],
                "prediction_error": mean["prediction_error"],
                "prediction_error_se": _standard_error(found["prediction_error"]),
                "cells_per_metacell": n_cells / np.array(numbers),
            },
            index=pd.Index(numbers, name="n_metacells"),
        )

    def _checked_cuts(self, n_metacells: Sequence[int]) -> list[int]:
        numbers = sorted(set(np.asarray(n_metacells).tolist()))
        if not numbers:
            raise ValueError("Expected at least one number of metacells, found none.")
        for number in numbers:
            check_cut(number, self.n_metacells)
        return numbers

    def _cut(self, group: Tensor, n_cells: int) -> _Cut:
        codebook = self.module.codebook
        group = group.to(codebook.codes.device)
        n_groups = int(group.max()) + 1
        share = torch.zeros(n_groups).to(codebook.usage).index_add_(0, group, codebook.usage)
        sizes = share * (codebook.n_cells if self.reference_ else n_cells)
        if self.reference_:  # whose cells the codes are of, but for those that were added
            of_reference = group[: self.reference_["n_metacells"]].unique()
            sizes[of_reference] = torch.inf
        everything = codebook.merged(torch.zeros_like(group), 1)[0]
        return _Cut(group, codebook.merged(group, n_groups), sizes, everything)

    def _losses_of_cuts(self, block: Block, cuts: list[_Cut]) -> dict[str, Tensor]:
        """Losses of each cell of a block at each cut, ``(n_cells, n_cuts)`` or ``(n_cells, 1)``."""
        module = self.module
        z = module.inference(block.inputs, block.conditions)["z"]  # B x D
        condition = module.condition_embedding(block.conditions)
        plain = {
            k: part.decoder(beside(part.block(z), condition)) for k, part in module.parts.items()
        }
        counts = module.selected_counts(block.counts)
        losses = module.nll(plain, block.inputs, counts)
        found = {f"plain_{kind}": [loss] for kind, loss in losses.items()}
        for cut in cuts:
            chosen = module.codebook.lookup_groups(z, cut.group)
            decoded = self._decode_groups(cut.codes, chosen.assignment, block.conditions)
            losses = module.nll(decoded, block.inputs, counts)
            of_cut = {f"quantized_{kind}": loss for kind, loss in losses.items()}
            of_cut["margin"] = chosen.margin
            of_cut |= cut.errors(z, chosen.assignment)
            for name, values in of_cut.items():
                found.setdefault(name, []).append(values)
        return {name: torch.stack(values, 1) for name, values in found.items()}

    def _decode_groups(
        self, codes: Tensor, assignment: Tensor, conditions: Tensor
    ) -> dict[str, CountParameters]:
        """Count distributions of cells, by modality, decoded from the codes of their groups."""
        module = self.module
        pairs = torch.cat([assignment[:, None], conditions], 1)  # B x (1 + n_keys)
        used, row = pairs.unique(dim=0, return_inverse=True)
        z_q = beside(codes[used[:, 0]], module.condition_embedding(used[:, 1:]))
        return {kind: part.quantized_decoder(z_q).take(row) for kind, part in module.parts.items()}


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Standard error of the difference of each column's mean to the lowest mean."""
    lowest = values[:, values.mean(0).argmin()]
    spread: np.ndarray = (values - lowest[:, None]).std(0, dtype=np.float64, ddof=1)
    return spread / np.sqrt(len(values))
