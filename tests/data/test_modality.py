import dataclasses

import pytest
from mudata import MuData

from scmetaq.data._modality import (
    MODALITIES,
    check_layers_have_modalities,
    find_modalities,
    get_modality,
    warn_of_others,
)


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


def test_a_layer_of_no_modality_is_refused(toy_mdata):
    pair = MuData({"rna": toy_mdata["rna"], "chromatin": toy_mdata["atac"]})
    names = find_modalities(pair, None)
    given = {"rna": "counts", "adt": None, "atac": "counts"}
    with pytest.raises(ValueError, match="ATAC counts for atac_layer='counts'.*'chromatin'"):
        check_layers_have_modalities(pair, names, given)
    check_layers_have_modalities(pair, names, {**given, "atac": None})


def test_modalities_left_out_are_told(toy_mdata, recwarn):
    warn_of_others(toy_mdata, find_modalities(toy_mdata, None))
    assert not recwarn
    pair = MuData({"rna": toy_mdata["rna"], "chromatin": toy_mdata["atac"]})
    with pytest.warns(UserWarning, match='\'chromatin\' left out.*modalities=."rna_layer": "rna"'):
        warn_of_others(pair, {"rna": "rna"})
