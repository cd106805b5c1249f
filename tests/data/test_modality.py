import dataclasses

import pytest
from mudata import MuData

from scmetaq.data._modality import (
    check_layers_have_modalities,
    find_modalities,
    get_modality,
    warn_of_others,
)


def test_presets_are_those_of_the_paper_and_cannot_be_changed():
    likelihoods = [get_modality(name).likelihood for name in ("rna", "adt", "atac")]
    assert likelihoods == ["nb", "nb", "poisson"]
    assert [get_modality(name).n_top_features for name in ("rna", "atac")] == [3_000, 30_000]
    assert get_modality("rna").decoder_hidden == (128, 512)
    assert get_modality("atac").decoder_hidden == ()

    with pytest.raises(dataclasses.FrozenInstanceError):
        get_modality("rna").likelihood = "poisson"
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
def test_bad_names_are_refused(toy_mdata, given, error, message):
    with pytest.raises(error, match=message):
        find_modalities(toy_mdata, given)


def test_names_must_be_usual_and_unambiguous(toy_mdata):
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


def test_modalities_left_out_give_a_warning(toy_mdata, recwarn):
    warn_of_others(toy_mdata, find_modalities(toy_mdata, None))
    assert not recwarn
    pair = MuData({"rna": toy_mdata["rna"], "chromatin": toy_mdata["atac"]})
    with pytest.warns(UserWarning, match='\'chromatin\' left out.*modalities=."rna_layer": "rna"'):
        warn_of_others(pair, {"rna": "rna"})
