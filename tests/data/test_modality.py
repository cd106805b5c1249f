import dataclasses

import pytest

from scmetaq.data._modality import MODALITIES, get_modality


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
