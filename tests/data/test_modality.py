import dataclasses

import pytest
from mudata import MuData

from scmetaq.data._modality import MODALITIES, find_modalities, get_modality


def test_presets_of_the_paper():
    assert get_modality("rna").likelihood == get_modality("adt").likelihood == "nb"
    assert get_modality("atac").likelihood == "poisson"
    assert get_modality("rna").n_top_features == 3_000
    assert get_modality("atac").n_top_features == 30_000
    assert get_modality("rna").decoder_hidden == (128, 512)
    assert get_modality("atac").decoder_hidden == ()


def test_keys_are_names():
    assert all(name == modality.name for name, modality in MODALITIES.items())


def test_presets_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_modality("rna").likelihood = "poisson"


def test_an_unknown_modality_is_told_those_there_are():
    with pytest.raises(ValueError, match="Unknown modality 'protein'.*'rna', 'adt', 'atac'"):
        get_modality("protein")


def test_modalities_are_found_by_their_usual_names(toy_mdata):
    assert find_modalities(toy_mdata, None) == {"rna": "rna", "adt": "adt", "atac": "atac"}
    other = MuData({"ATAC": toy_mdata["atac"], "prot": toy_mdata["adt"]})
    assert find_modalities(other, None) == {"adt": "prot", "atac": "ATAC"}


def test_modalities_are_those_named(toy_mdata):
    assert find_modalities(toy_mdata, {"adt_layer": "adt"}) == {"adt": "adt"}
    given = {"rna_layer": "atac", "labels_key": "rna", "atac_layer": None}
    assert find_modalities(toy_mdata, given) == {"rna": "atac"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"protein_layer": "adt"},
            ValueError,
            "Unknown key of modalities 'protein_layer'.*'adt_layer'",
        ),
        ({"adt_layer": "prot"}, KeyError, "No modality 'prot' for adt_layer.*'rna', 'adt', 'atac'"),
        ({"labels_key": "x", "rna_layer": "rna"}, KeyError, "No modality 'x' for labels_key"),
        ({"labels_key": "rna"}, ValueError, "Expected a modality with counts of RNA, ADT or ATAC"),
        ({"rna_layer": "rna", "adt_layer": "rna"}, ValueError, "found 'rna' named for several"),
    ],
)
def test_bad_names_are_told(toy_mdata, given, error, message):
    with pytest.raises(error, match=message):
        find_modalities(toy_mdata, given)


def test_names_must_say_what_is_what(toy_mdata):
    with pytest.raises(ValueError, match="found 'spliced'.*modalities="):
        find_modalities(MuData({"spliced": toy_mdata["rna"]}), None)
    with pytest.raises(ValueError, match="one modality of ADT counts, found adt, prot"):
        find_modalities(MuData({"adt": toy_mdata["adt"], "prot": toy_mdata["atac"]}), None)
