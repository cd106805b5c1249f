from typing import Any

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scmetaq.data._blocks import by_rows, canonical
from scmetaq.nn import perplexity, reconstruction_nll

from ._assignment import AssignmentMixin

_BLOCK = 1_024


class QuantizationMixin(AssignmentMixin):
    """How much of the cells is left after quantization."""

    def get_quantization_report(self, adata: AnnData | None = None) -> dict[str, float]:
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
            The two, in nats per cell and selected feature.
        ``codebook_loss``
            Squared distance of cells to their codes, mean over cells and dimensions (Eq. 10).
        ``mean_margin``
            Mean similarity difference to the second-best code (paper: assignment confidence).
        ``perplexity``
            Effective number of metacells, by their share of the cells.
        ``n_metacells``, ``n_empty``
            Codes, and codes without any of these cells.
        """
        manager = self._registered(adata)
        counts = by_rows(manager.get_from_registry(REGISTRY_KEYS.X_KEY))
        n_codes = self.n_metacells
        sums = np.zeros(4)
        sizes = torch.zeros(n_codes)
        for start in range(0, counts.shape[0], _BLOCK):
            part, assignment = self._quantization_sums(counts[start : start + _BLOCK])
            sums += part
            sizes += torch.bincount(assignment, minlength=n_codes).cpu()
        plain, quantized, held, margin = sums / counts.shape[0]
        return {
            "reconstruction_ratio": plain / quantized,
            "reconstruction_loss": plain,
            "quantized_loss": quantized,
            "codebook_loss": held,
            "mean_margin": margin,
            "perplexity": float(perplexity(sizes)),
            "n_metacells": n_codes,
            "n_empty": int((sizes == 0).sum()),
        }

    @torch.inference_mode()
    def _quantization_sums(self, block: Any) -> tuple[np.ndarray, torch.Tensor]:
        """Sums over a block of cells of the two losses, the codebook loss and the margin."""
        module = self.module.eval()
        x = torch.from_numpy(canonical(block).toarray()).to(module.device)
        encoded = module.inference(**module.read(x))
        decoded = module.generative(encoded["z"])
        found = module.codebook(encoded["z"])
        selected = x[:, module.feature_scaling.features]
        per_cell = [
            reconstruction_nll(decoded[part], selected, encoded["size_factor"])
            for part in ("plain", "quantized")
        ]
        per_cell.append((encoded["z"] - decoded["z_q"]).square().mean(1))
        per_cell.append(found.margin)
        sums = np.array([float(values.double().sum()) for values in per_cell])
        return sums, found.assignment
