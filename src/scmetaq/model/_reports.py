"""How well codes stand for cells: reports of a trained model."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from torch import Tensor

from scmetaq._errors import InputValueError
from scmetaq.data._cells import Cells
from scmetaq.data._checks import check_cut
from scmetaq.data._training_set import spread
from scmetaq.module import MetaQModule
from scmetaq.nn import cut_tree, merge_codes, perplexity

from ._base import Mixin
from ._blocks import Block

_MOST_DECODED = 20_000
"""Cells whose counts are compared with those decoded, where there are more."""
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


class ReportsMixin(Mixin):
    """How much of the cells is left after quantization. Nothing here changes the model."""

    module: MetaQModule
    n_metacells: int

    def get_quantization_report(self, adata: AnnData | MuData | None = None) -> dict[str, float]:
        """How well codes stand for the cells that they quantize.

        Parameters
        ----------
        adata
            Cells to quantize; by default those of the model.

        Returns
        -------
        ``reconstruction_ratio``
            Negative log-likelihood of the counts decoded from latents over that of the counts
            decoded from codes; 1 where quantization loses nothing.
        ``reconstruction_loss``, ``quantized_loss``
            The two, in nats per cell and selected feature, added up over modalities.
        ``codebook_loss``
            Squared distance of cells to their codes, mean over cells and dimensions (Eq. 10).
        ``mean_margin``
            Mean similarity difference to the second-best code (paper: assignment confidence).
        ``perplexity``
            Effective number of metacells, by their share of the cells.
        ``n_metacells``, ``n_empty``
            Codes, and codes without any of these cells.

        Of more than 20,000 cells the first three are means over 20,000 of them, spread evenly.
        With several modalities they are given also for each that cells have, of those cells:
        ``reconstruction_ratio_rna`` and so on.
        """
        cells = self._cells(self._registered(adata))
        chosen = spread(cells.n_cells, _MOST_DECODED)
        decoded = cells if len(chosen) == cells.n_cells else cells.only(chosen)
        found = self._in_blocks(_losses, decoded)
        whole = found
        if decoded is not cells:
            whole = self._in_blocks(partial(_losses, of_counts=False), cells)
        sizes = torch.bincount(torch.from_numpy(whole["assignment"]), minlength=self.n_metacells)
        present = {kind: of_kind.is_present for kind, of_kind in decoded.counts.items()}
        several = {f"_{kind}": [kind] for kind, here in present.items() if here.any()}
        report: dict[str, float] = {}
        for suffix, kinds in {"": present, **(several if len(present) > 1 else {})}.items():
            plain, quantized = (
                sum(_mean(found[f"{name}_{kind}"], present[kind]) for kind in kinds)
                for name in ("plain", "quantized")
            )
            report[f"reconstruction_ratio{suffix}"] = plain / quantized
            report[f"reconstruction_loss{suffix}"] = plain
            report[f"quantized_loss{suffix}"] = quantized
        return report | {
            "codebook_loss": _mean(whole["held"]),
            "mean_margin": _mean(whole["margin"]),
            "perplexity": float(perplexity(sizes)),
            "n_metacells": self.n_metacells,
            "n_empty": int((sizes == 0).sum()),
        }

    def get_outlier_scores(
        self,
        adata: AnnData | MuData | None = None,
        *,
        indices: Any = None,
        batch_size: int | None = None,
        dataloader: Any = None,
    ) -> pd.Series:
        r"""How far each cell is from its code, against the other cells of the metacell.

        .. math:: o_i = \frac{\|z_i - q(z_i)\|}{s_{k(i)}}

        with the distance :math:`s_k` at which the cells of code :math:`k` typically are: their
        median in training, to which ten cells at the median distance of all cells are added,
        which few cells hardly support. Doublets and damaged cells have high scores, if they are
        few; many alike make a metacell of their own and have lower ones, and so has a cell that is
        alone in its metacell. Cells of the model drew their codes to themselves, so that cells that
        it has never seen score a little higher.

        Parameters
        ----------
        adata
            Cells, with the features of the model; by default those of the model.
        indices, batch_size, dataloader
            As of :meth:`get_latent_representation`.

        Returns
        -------
        Indexed by barcode, ``outlier_score``: about one for a typical cell, higher for one that is
        unlike its metacell. Scores are no probabilities: compare cells of one data set.

        Raises
        ------
        TypeError, KeyError, ValueError
            As :meth:`get_assignments`; or all cells of the model are alone in their metacells.
        """
        chosen = self._chosen(adata, indices, batch_size, dataloader)
        return self._outlier_scores(chosen.cells).iloc[chosen.place]

    def _outlier_scores(self, cells: Cells) -> pd.Series:
        if not bool((self.module.codebook.typical_distance > 0).any()):
            problem = "Expected distances of cells to their codes, found none: all cells of the"
            fix = "Train with fewer metacells."
            raise InputValueError(f"{problem} model are alone in their metacells.", fix)

        def score(module: Any, block: Block) -> dict[str, torch.Tensor]:
            codebook = module.codebook
            found = module.inference(block.inputs, block.conditions)
            assignment = codebook(**found).assignment
            typical = codebook.typical_distance[assignment].clamp_min(1e-12)
            return {"score": codebook.distances(**found, assignment=assignment) / typical}

        found = self._in_blocks(score, cells)["score"]
        return pd.Series(found, cells.names, name="outlier_score")

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
        numbers = sorted(set(np.asarray(n_metacells).tolist()))
        if not numbers:
            problem = "Expected at least one number of metacells, found none."
            raise InputValueError(problem, argument="n_metacells")
        for number in numbers:
            check_cut(number, self.n_metacells)
        everything = self._cells(self._registered(None))
        n_cells = everything.n_cells
        chosen = spread(n_cells, _MOST_CELLS)
        cells = everything if len(chosen) == n_cells else everything.sample(chosen)
        codebook = self.module.codebook
        merges = merge_codes(codebook.codes, codebook.usage)
        cuts = [self._cut(cut_tree(merges, number), n_cells) for number in numbers]
        found = self._in_blocks(partial(_losses_of_cuts, cuts=cuts), cells)
        mean = {name: values.mean(0, dtype=np.float64) for name, values in found.items()}
        share = {kind: max(of.is_present.mean(), 1e-12) for kind, of in cells.counts.items()}
        plain, quantized = (
            sum(mean[f"{name}_{kind}"] / of for kind, of in share.items())
            for name in ("plain", "quantized")
        )
        errors = found["prediction_error"]
        above = errors - errors[:, [errors.mean(0).argmin()]]
        return pd.DataFrame(
            {
                "margin": mean["margin"],
                "reconstruction_ratio": plain / quantized,
                "codebook_loss": mean["codebook_loss"],
                "prediction_error": mean["prediction_error"],
                "prediction_error_se": above.std(0, dtype=np.float64, ddof=1) / len(above) ** 0.5,
                "cells_per_metacell": n_cells / np.array(numbers),
            },
            index=pd.Index(numbers, name="n_metacells"),
        )

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


def _losses(module: Any, block: Block, *, of_counts: bool = True) -> dict[str, Tensor]:
    """Code of each cell of a block, its margin and losses, on request not those of counts."""
    latent = module.inference(block.inputs, block.conditions)
    z, found = latent["z"], module.codebook(**latent)._asdict()
    found["held"] = (z - module.codebook.embed(found["assignment"])).square().mean(1)
    if not of_counts:
        return found
    decoded = module.generative(**latent, conditions=block.conditions)
    counts = module.selected_counts(block.counts)
    for name in ("plain", "quantized"):
        losses = module.nll(decoded[name], block.inputs, counts)
        found |= {f"{name}_{kind}": nll for kind, nll in losses.items()}
    return found


def _losses_of_cuts(module: Any, block: Block, *, cuts: list[_Cut]) -> dict[str, Tensor]:
    """Losses of each cell of a block at each cut, ``(n_cells, n_cuts)`` or ``(n_cells, 1)``."""
    latent = module.inference(block.inputs, block.conditions)
    z = latent["z"]  # B x D
    counts = module.selected_counts(block.counts)
    losses = module.nll(module.decode(z, block.conditions), block.inputs, counts)
    found = {f"plain_{kind}": [loss] for kind, loss in losses.items()}
    for cut in cuts:
        chosen = module.codebook(**latent, group=cut.group)
        decoded = module.decode_codes(cut.codes, chosen.assignment, block.conditions)
        losses = module.nll(decoded, block.inputs, counts)
        of_cut = {f"quantized_{kind}": loss for kind, loss in losses.items()}
        of_cut["margin"] = chosen.margin
        of_cut |= cut.errors(z, chosen.assignment)
        for name, values in of_cut.items():
            found.setdefault(name, []).append(values)
    return {name: torch.stack(values, 1) for name, values in found.items()}


def _mean(values: np.ndarray, of: np.ndarray | None = None) -> float:
    """Mean over cells, or over those that have a modality."""
    n = len(values) if of is None else max(1, int(of.sum()))
    return float(values.sum(dtype=np.float64) / n)
