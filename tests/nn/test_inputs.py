from scmetaq.nn._inputs import flat, nested


def test_there_and_back_and_others_are_left_out():
    inputs = {"rna": {"size_factor": 1, "scores": 2}, "adt": {"size_factor": 3}}
    tensors = flat(inputs)
    assert tensors == {"rna_size_factor": 1, "rna_scores": 2, "adt_size_factor": 3}
    assert nested(tensors, inputs) == inputs
    assert nested({"rna_scores": 1, "labels": 2}, ["rna", "adt"]) == {
        "rna": {"scores": 1},
        "adt": {},
    }
