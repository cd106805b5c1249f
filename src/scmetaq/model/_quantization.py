from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from torch import Tensor

from scmetaq.nn import perplexity

from ._assignment import AssignmentMixin
from ._reading import Block


class QuantizationMixin(AssignmentMixin):
    """How much of the cells is left after quantization."""

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

        With several modalities the first three also for each that cells have, of those cells:
        ``reconstruction_ratio_rna`` and so on.
        """
        cells = self._cells(self._registered(adata))
        found = self._in_blocks(self._losses, cells)
        sizes = torch.bincount(torch.from_numpy(found["assignment"]), minlength=self.n_metacells)
        present = {kind: of_kind.is_present for kind, of_kind in cells.counts.items()}
        losses = {
            name: sum(_mean(found[f"{name}_{kind}"], here) for kind, here in present.items())
            for name in ("plain", "quantized")
        }
        report = {
            **_report(losses["plain"], losses["quantized"]),
            "codebook_loss": _mean(found["held"]),
            "mean_margin": _mean(found["margin"]),
            "perplexity": float(perplexity(sizes)),
            "n_metacells": self.n_metacells,
            "n_empty": int((sizes == 0).sum()),
        }
        if len(present) > 1:
            for kind, here in present.items():
                if not here.any():  # a query may lack a modality
                    continue
                of_kind = (_mean(found[f"{name}_{kind}"], here) for name in ("plain", "quantized"))
                report |= {f"{name}_{kind}": value for name, value in _report(*of_kind).items()}
        return report

    def _losses(self, block: Block) -> dict[str, Tensor]:
        """Losses of each cell of a block, its code and its margin."""
        module = self.module
        z = module.inference(block.inputs, block.conditions)["z"]
        decoded = module.generative(z, block.conditions)
        found: dict[str, Any] = module.codebook(z)._asdict()
        found["held"] = (z - decoded["z_q"]).square().mean(1)
        counts = module.selected_counts(block.counts)
        for name in ("plain", "quantized"):
            losses = module.nll(decoded[name], block.inputs, counts)
            found |= {f"{name}_{kind}": nll for kind, nll in losses.items()}
        return found


def _mean(values: np.ndarray, of: np.ndarray | None = None) -> float:
    """Mean over cells, or over those that have a modality."""
    n = len(values) if of is None else max(1, int(of.sum()))
    return float(values.sum(dtype=np.float64) / n)


def _report(plain: float, quantized: float) -> dict[str, float]:
    return {
        "reconstruction_ratio": plain / quantized,
        "reconstruction_loss": plain,
        "quantized_loss": quantized,
    }
