from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, Final, Literal

from scmetaq._errors import InputValueError, check_choice
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


def check_latent(
    model: Any, recipe: str, distance: str | None, modality_weights: Any, label_weight: float
) -> None:
    """Refuse options that a latent which is given, or has dimensions for labels, cannot have."""
    if model._use_rep and (recipe != "default" or modality_weights is not None):
        problem = "Expected the default recipe without modality_weights, since use_rep gives the"
        raise InputValueError(f"{problem} latent, found others.", argument="recipe")
    if not isinstance(label_weight, Real) or not 0 <= label_weight < inf:
        problem = f"Expected label_weight to be a number of at least zero, found {label_weight!r}."
        raise InputValueError(problem, argument="label_weight")
    if label_weight and not model._label_keys:
        problem = "Expected labels for label_weight, found none:"
        raise InputValueError(problem, "name their column at set-up, labels_key.", "label_weight")
    if label_weight and (recipe != "default" or distance == "cosine"):
        problem = "Expected the default recipe with Euclidean distances for label_weight, found"
        raise InputValueError(f"{problem} others.", argument="label_weight")
