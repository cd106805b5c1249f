from typing import Any, Self

import torch
from torch import nn

from scmetaq.nn import ConditionEmbedding

from ._modality_module import ModalityModule


class ReferenceMappingModule(ModalityModule):
    """A module that cells of new conditions can be mapped onto.

    Only what :meth:`grown_parts` names may be larger in the module of a query than in that of its
    reference; all else is copied and does not learn. What is known of the conditions of the
    reference is frozen by where it is kept: in buffers, of which no optimiser knows.
    """

    condition_embedding: ConditionEmbedding

    def grown_parts(self) -> dict[str, Any]:
        """Parts with rows for conditions, by attribute; each has a method ``take_over``."""
        return {"condition_embedding": self.condition_embedding}

    @torch.no_grad()
    def take_over(self, reference: Self) -> None:
        """Become the module of a query: that of a reference, with rows for new conditions.

        Parameters
        ----------
        reference
            Trained module of the same sizes, but for the number of conditions.
        """
        grown = self.grown_parts()
        known = {
            name: values
            for name, values in reference.state_dict().items()
            if name.split(".")[0] not in grown
        }
        lacking = self.load_state_dict(known, strict=False).missing_keys
        assert all(name.split(".")[0] in grown for name in lacking)
        of_reference = reference.grown_parts()
        for name, part in grown.items():
            part.take_over(of_reference[name])
        self._freeze_the_rest()

    def on_load(self, model: Any, **kwargs: Any) -> None:
        """Take the form of a query's module, where a query is loaded."""
        super().on_load(model, **kwargs)
        if model.reference_ is not None:
            self.condition_embedding.freeze(model.reference_["n_categories"])
            self._freeze_the_rest()

    def _freeze_the_rest(self) -> None:
        """Leave nothing to learn but the embeddings of new conditions."""
        self.requires_grad_(False)
        learnt: nn.Module = self.condition_embedding
        learnt.requires_grad_(True)
