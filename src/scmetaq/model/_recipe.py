from dataclasses import dataclass
from typing import Final, Literal

from scmetaq._errors import check_choice
from scmetaq.nn import CodebookInit, Distance, Norm

RecipeName = Literal["default", "published"]


@dataclass(frozen=True)
class Recipe:
    """Choices of method that belong together."""

    n_components: int
    """Principal components concatenated with the learnt state; 0 for none."""
    norm: Norm
    codebook_init: CodebookInit
    distance: Distance
    refine: bool
    """Whether codes are those of least quantization error (:func:`scmetaq.nn.cluster`)."""
    adjust_codes: bool
    """Whether codes are disturbed at each step, and training stops when their losses have
    converged, as published (Eq. 11-15)."""
    lr: float
    one_cycle: bool
    """Whether the learning rate rises and falls over the training."""
    batch_size: int
    max_steps: int | None
    """Steps after which default training ends; None: the published 300 epochs."""
    warmup_fraction: float
    """Share of the steps before there are codes."""
    decoded_share: float
    """Share of each batch that is decoded in training."""


RECIPES: Final[dict[str, Recipe]] = {
    "default": Recipe(
        n_components=200,
        norm="layer",
        codebook_init="kmeans",
        distance="euclidean",
        refine=True,
        adjust_codes=False,
        lr=2e-3,
        one_cycle=True,
        batch_size=256,
        max_steps=200,
        warmup_fraction=0.6,
        decoded_share=0.25,
    ),
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
        warmup_fraction=0.0,
        decoded_share=1.0,
    ),
}


def get_recipe(name: str) -> Recipe:
    """Recipe by its name, ``"default"`` or ``"published"``."""
    check_choice("recipe", name, list(RECIPES))
    return RECIPES[name]
