"""Kinds of counts, how each is modelled, and which modality of a MuData holds it."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Literal, get_args

import numpy as np
from mudata import MuData

from scmetaq._errors import InputKeyError, InputValueError, check_choice, listed

ModalityName = Literal["rna", "adt", "atac"]


@dataclass(frozen=True)
class Modality:
    """How the counts of one kind of data are modelled."""

    likelihood: Literal["nb", "poisson"]
    """Count distribution: negative binomial for RNA and ADT, Poisson for ATAC (Eq. 1, 3)."""
    n_top_features: int
    """Most features that the encoder reads and the decoder reconstructs."""
    decoder_hidden: tuple[int, ...]
    """Hidden layers of the decoder; the paper's ATAC decoder is linear."""
    usual_names: tuple[str, ...]
    """Names by which the modality is found in a MuData where none is given."""


MODALITIES: Final[dict[str, Modality]] = {
    "rna": Modality("nb", 3_000, (128, 512), ("rna", "gex")),
    "adt": Modality("nb", 3_000, (128, 512), ("adt", "prot", "protein")),
    "atac": Modality("poisson", 30_000, (), ("atac", "peaks")),
}
LAYER_ARGUMENTS: Final = {f"{kind}_layer": kind for kind in MODALITIES}
"""Arguments of ``setup_mudata`` that name layers, and the kind of counts of each."""
COLUMN_ARGUMENTS: Final = ("batch_key", "categorical_covariate_keys", "labels_key")
"""Arguments that name columns of ``obs``, of the MuData itself or of one of its modalities."""


def get_modality(name: str) -> Modality:
    """Preset of a modality by its name, ``"rna"``, ``"adt"`` or ``"atac"``."""
    check_choice("modality", name, get_args(ModalityName))
    return MODALITIES[name]


def find_modalities(mdata: MuData, modalities: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find which modality of a MuData holds each kind of counts.

    Parameters
    ----------
    mdata
        The cells.
    modalities
        Name of a modality for arguments of ``setup_mudata``, as in scvi-tools, e.g.
        ``{"rna_layer": "rna"}``; by their usual names if no layer is among them.

    Returns
    -------
    Name of the modality by kind, at least one, in the order RNA, ADT, ATAC.

    Raises
    ------
    ValueError
        An argument that does not exist, no modality of counts, or one used twice.
    KeyError
        No such modality.
    """
    there = list(mdata.mod)
    if modalities is None or not set(modalities) - set(COLUMN_ARGUMENTS):
        found = _by_usual_names(there)
        _check_there(modalities or {}, there)
    else:
        for argument in modalities:
            check_choice("key of modalities", argument, [*LAYER_ARGUMENTS, *COLUMN_ARGUMENTS])
        found = {
            kind: modalities[argument]
            for argument, kind in LAYER_ARGUMENTS.items()
            if modalities.get(argument) is not None
        }
        _check_there(modalities, there)
    if not found:
        problem = f"Expected a modality with counts of RNA, ADT or ATAC, found {listed(there)}."
        name = repr(next(iter(there), "rna"))
        fix = f'Say which is which, e.g. modalities={{"rna_layer": {name}, ...}}.'
        raise InputValueError(problem, fix, "modalities")
    return found


def check_layers_have_modalities(
    mdata: MuData, names: Mapping[str, str], layers: Mapping[str, str | None]
) -> None:
    """Refuse a layer of a kind of counts that no modality has."""
    for kind, layer in layers.items():
        if layer is not None and kind not in names:
            raise InputValueError(
                f"Expected a modality of {kind.upper()} counts for {kind}_layer={layer!r}, found "
                f"none by its name among {listed(mdata.mod)}.",
                "Say which it is, all of those in use together: "
                f'modalities={{"{kind}_layer": ..., ...}}.',
                "modalities",
            )


def warn_of_others(mdata: MuData, names: Mapping[str, str]) -> None:
    """Warn of modalities that are not used since their names are not those of known counts."""
    others = [repr(name) for name in mdata.mod if name not in names.values()]
    if others:
        used = ", ".join(f'"{kind}_layer": "{name}"' for kind, name in names.items())
        text = f"{', '.join(others)} left out: no name of RNA, ADT or ATAC counts. To use other"
        fix = f"modalities, or to say that these are all: modalities={{{used}}}."
        warnings.warn(f"{text} {fix}", UserWarning, stacklevel=4)


def of_modalities(name: str, value: Any, modalities: Collection[str]) -> dict[str, Any]:
    """One value per modality, of a value for all of them or a dict of some."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    for modality in value:
        check_choice(f"modality in {name}", modality, list(modalities))
    return {modality: value.get(modality) for modality in modalities}


def check_weights(weights: Mapping[str, float] | None, modalities: Collection[str]) -> None:
    """Refuse anything but one number per modality, none negative and one above zero."""
    if weights is None:
        return
    is_whole = isinstance(weights, Mapping) and set(weights) == set(modalities)
    numbers = list(weights.values()) if is_whole else []
    if not all(isinstance(w, Real) and 0 <= w < np.inf for w in numbers) or not sum(numbers):
        raise InputValueError(
            f"Expected modality_weights with a number for each of {', '.join(modalities)}, none "
            f"negative and one above zero, e.g. {dict.fromkeys(modalities, 1.0)}, found "
            f"{weights!r}.",
            argument="modality_weights",
        )


def _by_usual_names(there: list[str]) -> dict[str, str]:
    found = {}
    for kind, modality in MODALITIES.items():
        named = [name for name in there if name.lower() in modality.usual_names]
        if len(named) > 1:
            problem = f"Expected one modality of {kind.upper()} counts, found {', '.join(named)}."
            fix = f'Say which is meant: modalities={{"{kind}_layer": "{named[0]}", ...}}.'
            raise InputValueError(problem, fix, "modalities")
        if named:
            found[kind] = named[0]
    return found


def _check_there(modalities: Mapping[str, str], there: list[str]) -> None:
    for argument, name in modalities.items():
        if name is not None and name not in there:
            problem = f"No modality {name!r} for {argument}. Modalities there: {listed(there)}."
            raise InputKeyError(problem, argument="modalities")
    named = [modalities[argument] for argument in LAYER_ARGUMENTS if modalities.get(argument)]
    repeated = {name for name in named if named.count(name) > 1}
    if repeated:
        problem = f"Expected one kind of counts per modality, found {min(repeated)!r} named for"
        raise InputValueError(f"{problem} several.", argument="modalities")
