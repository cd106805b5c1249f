from dataclasses import dataclass
from typing import Final, Literal, get_args

from ._validation import check_choice

ModalityName = Literal["rna", "adt", "atac"]


@dataclass(frozen=True)
class Modality:
    """How the counts of one kind of data are modelled."""

    name: ModalityName
    likelihood: Literal["nb", "poisson"]
    """Count distribution: negative binomial for RNA and ADT, Poisson for ATAC (Eq. 1, 3)."""
    n_top_features: int
    """Most features that the encoder reads and the decoder reconstructs."""
    decoder_hidden: tuple[int, ...]
    """Hidden layers of the decoder; the paper's ATAC decoder is linear."""


MODALITIES: Final[dict[str, Modality]] = {
    "rna": Modality("rna", "nb", 3_000, (128, 512)),
    "adt": Modality("adt", "nb", 3_000, (128, 512)),
    "atac": Modality("atac", "poisson", 30_000, ()),
}


def get_modality(name: str) -> Modality:
    """Preset of a modality by its name, ``"rna"``, ``"adt"`` or ``"atac"``."""
    check_choice("modality", name, get_args(ModalityName))
    return MODALITIES[name]
