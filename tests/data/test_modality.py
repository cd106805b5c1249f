import dataclasses

import pytest
from mudata import MuData

from scmetaq.data._modality import find_modalities, get_modality


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


def test_modalities_are_those_named_or_found_by_their_usual_names(toy_mdata):
    rna, adt, atac = (toy_mdata[kind] for kind in ("rna", "adt", "atac"))
    assert find_modalities(toy_mdata, None) == {"rna": "rna", "adt": "adt", "atac": "atac"}
    other = MuData({"ATAC": atac, "prot": adt})
    assert find_modalities(other, None) == {"adt": "prot", "atac": "ATAC"}
    assert find_modalities(toy_mdata, {"adt_layer": "adt"}) == {"adt": "adt"}
    assert find_modalities(toy_mdata, {"labels_key": "rna"}) == find_modalities(toy_mdata)
    given = {"rna_layer": "atac", "labels_key": "rna", "atac_layer": None}
    assert find_modalities(toy_mdata, given) == {"rna": "atac"}
    all3, same = toy_mdata, {"rna_layer": "rna", "adt_layer": "rna"}
    spliced, twice = MuData({"spliced": rna}), MuData({"adt": adt, "prot": atac})
    for mdata, given, error, message in (
        (all3, {"x_layer": "adt"}, ValueError, "Unknown key of modalities 'x_layer'.*'adt_layer'"),
        (all3, {"adt_layer": "x"}, KeyError, "No modality 'x' for adt_layer.*'rna', 'adt', 'atac'"),
        (all3, {"labels_key": "x", "rna_layer": "rna"}, KeyError, "No modality 'x' for labels_key"),
        (all3, same, ValueError, "found 'rna' named for several"),
        (spliced, None, ValueError, "found 'spliced'.*modalities={.rna_layer.: 'spliced'"),
        (twice, None, ValueError, "one modality of ADT counts, found adt, prot"),
    ):
        with pytest.raises(error, match=message):
            find_modalities(mdata, given)
