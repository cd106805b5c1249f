from dataclasses import dataclass
from typing import Final, Literal

from scmetaq._errors import check_choice
from scmetaq.nn import CodebookInit, Distance, Norm

RecipeName = Literal["default", "published"]


@dataclass(frozen=True)
class Recipe:
    """Choices of method that belong together, by default those of the default recipe."""

    n_components: int = 200
    """Principal components concatenated with the learnt state; 0 for none."""
    norm: Norm = "layer"
    codebook_init: CodebookInit = "kmeans"
    distance: Distance = "euclidean"
    refine: bool = True
    """Whether codes are those of least quantization error (:func:`scmetaq.nn.cluster`), found
    before the decoders are trained."""
    adjust_codes: bool = False
    """Whether codes are disturbed at each step, and training stops when their losses have
    converged, as published (Eq. 11-15)."""
    lr: float = 8e-3
    one_cycle: bool = True
    """Whether the learning rate rises and falls over the training."""
    batch_size: int = 64
    max_steps: int | None = 24
    """Steps after which default training ends; None: the published 300 epochs."""


RECIPES: Final[dict[str, Recipe]] = {
    "default": Recipe(),
    "published": Recipe(
        n_components=0,
        norm="batch",
        codebook_init="random",
        distance="cosine",
        refine=False,
        adjust_codes=True,
        lr=1e-3,
        one_cycle=False,
        batch_size=512,
        max_steps=None,
    ),
}


def get_recipe(name: str) -> Recipe:
    """Recipe by its name, ``"default"`` or ``"published"``."""
    check_choice("recipe", name, list(RECIPES))
    return RECIPES[name]
