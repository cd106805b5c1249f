"""What the modules of all models share."""

import math
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any, Self

import torch
from scvi.module.base import BaseModuleClass, auto_move_data
from torch import Tensor

from scmetaq.nn import ConditionEmbedding, CountBatch, CountParameters, count_nll
from scmetaq.nn._inputs import CONDITIONS, COUNTS, PRESENT, Inputs, nested
from scmetaq.nn._likelihoods import NonZeroCounts, non_zero_counts


class ModalityModule(BaseModuleClass):
    """A module with a :class:`~scmetaq.nn.Part` for each modality.

    Letters: ``B`` cells of a batch, ``G`` features of a modality, ``M`` selected ones.
    """

    parts: Any
    """Networks and features of each modality, by its name."""
    decoded_share: float = 1.0
    """Share of the cells of a training batch that are decoded."""

    @auto_move_data
    def read(
        self,
        counts: dict[str, Tensor],
        present: dict[str, Tensor],
        conditions: Tensor,
        *,
        sizes: Tensor | None = None,
    ) -> Inputs:
        """Compute the inputs of :meth:`inference`, which do not depend on learnt weights.

        Parameters
        ----------
        counts
            Raw counts of all features ``(B, G)`` of each modality, dense or CSR tensors; empty
            rows for cells without it.
        present
            Which cells have each modality: 1 or 0, ``(B, 1)``.
        conditions
            Category of each condition key, ``(B, n_keys)`` int64.
        sizes
            Library sizes in place of those of the counts, ``(B, 1)``.
        """
        return self.complete(self.read_parts(counts, present, sizes), conditions)

    def complete(self, inputs: Inputs, conditions: Tensor) -> Inputs:
        """Inputs as modules need them that impute modalities, or subtract effects of conditions."""
        return inputs

    def read_parts(
        self, counts: dict[str, Tensor], present: dict[str, Tensor], sizes: Tensor | None = None
    ) -> Inputs:
        """What each part reads of the counts, and which cells have it."""
        return {
            name: {PRESENT: present[name], **part.read(counts[name], sizes)}
            for name, part in self.parts.items()
        }

    def n_decoded(self, n_cells: int) -> int:
        """Number of cells of a batch, the first ones, that are decoded."""
        return math.ceil(n_cells * self.decoded_share) if self.training else n_cells

    def selected_counts(self, counts: dict[str, Tensor]) -> dict[str, NonZeroCounts]:
        """Counts of the selected features, from raw counts of all features ``(B, G)``."""
        return {
            name: non_zero_counts(CountBatch(counts[name]).dense(part.feature_scaling.features))
            for name, part in self.parts.items()
        }

    def nll(
        self,
        decoded: Mapping[str, CountParameters],
        data: Inputs,
        counts: Mapping[str, NonZeroCounts] | None = None,
    ) -> dict[str, Tensor]:
        """Negative log-likelihood of each modality, in nats, mean over its features measured.

        Parameters
        ----------
        decoded
            Parameters of the first cells of a batch, by modality.
        data
            Their size factors, counts of the selected features unless given as ``counts`` and,
            where some cells lack a modality, which have it.
        counts
            Counts of the same cells, which several calls can share.

        Returns
        -------
        ``(n_decoded,)`` each; zero for cells that lack the modality.
        """
        losses = {}
        for name, parameters in decoded.items():
            part, n_cells = self.parts[name], len(parameters.log_rate)
            inputs = {key: values[:n_cells] for key, values in data[name].items()}
            known = counts[name] if counts is not None else inputs[COUNTS]
            size, missing = part.size(inputs), part.missing
            nll = count_nll(parameters, known, size, is_missing=missing)  # B
            losses[name] = nll * inputs[PRESENT][:, 0] if PRESENT in inputs else nll
        return losses

    def summed_nll(self, decoded: Mapping[str, CountParameters], data: Inputs) -> dict[str, Tensor]:
        """The same as :meth:`nll`, summed over the features measured."""
        n_measured = {}
        for name, part in self.parts.items():
            n_missing = 0 if part.missing is None else int(part.missing.sum())
            n_measured[name] = len(part.feature_scaling.features) - n_missing
        return {name: n_measured[name] * nll for name, nll in self.nll(decoded, data).items()}


class ReferenceMappingModule(ModalityModule):
    """A module that cells of new conditions can be mapped onto.

    Only the parts of :meth:`grown_parts` may be larger in the module of a query than in that of its
    reference; everything else is copied and does not learn. Vectors of the reference's conditions
    are buffers, which no optimiser knows.
    """

    condition_embedding: ConditionEmbedding

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        conditions = tensors[CONDITIONS].long()
        return {"inputs": nested(tensors, self.parts), "conditions": conditions}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"], "conditions": tensors[CONDITIONS].long()}

    def grown_parts(self) -> dict[str, Any]:
        """Parts with rows for conditions, by attribute; each has a method ``take_over``."""
        return {"condition_embedding": self.condition_embedding}

    @torch.no_grad()
    def take_over(self, reference: Self) -> None:
        """Become the module of a query: copy a reference's, add rows for new conditions.

        ``reference`` is trained and of the same sizes, except for the number of conditions.
        """
        grown, of_reference = self.grown_parts(), reference.grown_parts()
        known = {k: v for k, v in reference.state_dict().items() if k.split(".")[0] not in grown}
        self.load_state_dict(known, strict=False)
        for name, part in grown.items():
            part.take_over(of_reference[name])
        self._freeze_the_rest()

    def on_load(self, model: Any, **kwargs: Any) -> None:
        """Freeze what is frozen in a query's module, where a query is loaded."""
        super().on_load(model, **kwargs)
        if model.reference_ is not None:
            self.condition_embedding.freeze(model.reference_["n_categories"])
            self._freeze_the_rest()

    def _freeze_the_rest(self) -> None:
        """Let only the embeddings of new conditions learn."""
        self.requires_grad_(False)
        self.condition_embedding.requires_grad_(True)


def total(parts: Iterable[Tensor]) -> Tensor:
    """Sum of at least one tensor, all of one shape."""
    return reduce(add, parts)
