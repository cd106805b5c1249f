import pytest
import torch

from scmetaq.module import CrossModalImputation
from scmetaq.nn import ModalityShape
from scmetaq.nn._linear_path import AffineMap

SHAPES = {
    "rna": ModalityShape(20, n_components=3, n_scores=2),
    "adt": ModalityShape(8, n_components=2, n_scores=1),
    "atac": ModalityShape(30, n_components=4, n_scores=3),
}


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    present = {"rna": [1, 1, 0, 0], "adt": [1, 0, 0, 1], "atac": [1, 1, 1, 0]}
    return {
        name: {
            "present": torch.tensor(present[name], dtype=torch.float32)[:, None],
            "scores": torch.randn(4, 2 * shape.n_scores),
            "profile": torch.randn(4, shape.n_components),
        }
        for name, shape in SHAPES.items()
    }


def test_what_is_there_stays_and_before_fitting_a_gap_is_the_average_cell(inputs):
    filled = CrossModalImputation(SHAPES)(inputs)
    for name, part in inputs.items():
        here = part["present"][:, 0] > 0
        for key in ("scores", "profile"):
            assert torch.equal(filled[name][key][here], part[key][here])
            assert (filled[name][key][~here] == 0).all()


def test_estimates_of_several_modalities_are_averaged(inputs):
    imputation = CrossModalImputation(SHAPES)
    maps = {}
    for source in ("rna", "atac"):
        width = 2 * SHAPES[source].n_scores
        maps[source] = torch.randn(width, 4), torch.randn(4)
        axes, offset = maps[source]
        imputation.maps[f"{source}_to_adt"].set_state(AffineMap(range(width), axes, offset))
    filled = imputation(inputs)["adt"]
    found = torch.cat([filled["scores"], filled["profile"]], 1)
    estimate = {k: inputs[k]["scores"] @ axes - offset for k, (axes, offset) in maps.items()}
    torch.testing.assert_close(found[1], (estimate["rna"][1] + estimate["atac"][1]) / 2)
    torch.testing.assert_close(found[2], estimate["atac"][2])


def test_one_modality_and_published_ones_have_nothing_to_fill(inputs):
    one = {"rna": inputs["rna"]}
    assert CrossModalImputation({"rna": SHAPES["rna"]})(one) is one
    published = {name: ModalityShape(9, n_components=0) for name in ("rna", "adt")}
    assert not CrossModalImputation(published).maps
