from typing import Any, cast

import torch
from torch import Tensor, nn

from scmetaq.nn import Axes, ModalityShape
from scmetaq.nn._inputs import PRESENT, Inputs


class CrossModalImputation(nn.Module):
    """Linear imputation of the modalities that a cell lacks from those that it has.

    A cell without a modality gets scores and a profile that are predicted from each of its others,
    and averaged. Without a fitted map it gets those of the average cell, which are zero. Nothing
    is imputed unless all modalities have a linear path.
    """

    has_gaps: Tensor
    """Of which modalities cells of the training had gaps, ``(n_modalities,)`` bool."""
    maps: dict[str, Axes]
    """Of each pair ``source_to_target``: from scores to scores and profile."""

    def __init__(self, modalities: dict[str, ModalityShape]):
        super().__init__()
        self.register_buffer("has_gaps", torch.zeros(len(modalities), dtype=torch.bool))
        self.width = {name: 2 * shape.n_scores for name, shape in modalities.items()}
        has_paths = all(shape.n_components for shape in modalities.values())
        maps = {}
        for target, shape in modalities.items():
            for source in modalities if has_paths else ():
                if source != target:
                    n_output = self.width[target] + shape.n_components
                    maps[f"{source}_to_{target}"] = Axes(self.width[source], n_output)
        self.maps = cast(Any, nn.ModuleDict(maps))

    def forward(self, inputs: Inputs) -> Inputs:
        """Impute the scores and the profile of modalities that cells lack, and keep the rest."""
        if not self.maps:
            return inputs
        imputed = {}
        for target, own in inputs.items():
            sources = {name: part for name, part in inputs.items() if name != target}
            total = sum(
                part[PRESENT] * self.maps[f"{name}_to_{target}"](part["scores"])
                for name, part in sources.items()
            )
            n_sources = sum(part[PRESENT] for part in sources.values())
            estimate = total / torch.as_tensor(n_sources).clamp_min(1)  # B x (2S + C)
            new = estimate.tensor_split([self.width[target]], 1)
            imputed[target] = own | {
                name: torch.where(own[PRESENT] > 0, own[name], values)
                for name, values in zip(("scores", "profile"), new, strict=True)
            }
        return imputed
