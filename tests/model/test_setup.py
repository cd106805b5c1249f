"""What is registered and refused, and that the data stay as they are."""

import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

from scmetaq import MetaQModel


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "raw"}, KeyError, "Layers there: none"),
        ({"labels_key": ["state", "type"]}, KeyError, "No column 'type'"),
        ({"modality": "protein"}, ValueError, "'rna', 'adt', 'atac'"),
        ({"batch_key": "donor"}, KeyError, "No column 'donor'"),
        ({"categorical_covariate_keys": ["depth"]}, ValueError, "choose a column with categories"),
    ],
)
def test_a_refused_setup_leaves_the_data_alone(toy, fingerprint, options, error, message):
    before = fingerprint(toy)
    with pytest.raises(error, match=f"(?s){message}"):
        MetaQModel.setup_anndata(toy, **options)
    assert fingerprint(toy) == before


def test_features_without_counts_do_no_harm_and_warn_at_the_callers_line(train, toy):
    X = toy.X.toarray()
    X[:, :20] = 0
    X[:, 20] += 1
    toy.X = sparse.csr_matrix(X)
    with pytest.warns(UserWarning, match="20 of 60 features have no counts") as caught:
        MetaQModel.setup_anndata(toy)
    assert [w.filename for w in caught if "no counts" in str(w.message)] == [__file__]
    model = train(MetaQModel(toy, 6))
    assert model.get_assignments()["metacell"].nunique() == 6
    assert np.isfinite(model.get_latent_representation()).all()


def test_setting_up_training_and_reading_leave_the_data_alone(fit, toy, fingerprint):
    toy.obs["type"], toy.uns["colors"] = toy.obs["state"], [1]
    before = fingerprint(toy)
    fit(toy, setup={"labels_key": "type"}).get_metacells()
    del toy.obs["_scvi_labels"]  # scvi-tools' own
    assert fingerprint(toy) == before


def test_a_modality_under_another_name_and_a_layer(fit, toy_mdata):
    counts = toy_mdata["adt"].copy()
    counts.layers["raw"] = counts.X.copy()
    counts.X = np.log1p(counts.X.toarray())
    mdata = MuData({"gex": toy_mdata["rna"].copy(), "prot": counts})
    model = fit(mdata, setup={"adt_layer": "raw"})
    assert model.registry["setup_args"]["modalities"] == {"rna_layer": "gex", "adt_layer": "prot"}
    assert model.get_metacells()["prot"].layers["counts"].sum() == toy_mdata["adt"].X.sum()


def test_layers_and_modalities_of_another_name_are_no_silence(toy_mdata, recwarn):
    MetaQModel.setup_mudata(toy_mdata)
    assert not [w for w in recwarn if "left out" in str(w.message)]
    pair = MuData({"rna": toy_mdata["rna"], "chromatin": toy_mdata["atac"]})
    with pytest.raises(ValueError, match="ATAC counts for atac_layer='raw'.*'chromatin'"):
        MetaQModel.setup_mudata(pair, atac_layer="raw")
    with pytest.warns(UserWarning, match='\'chromatin\' left out.*modalities=."rna_layer": "rna"'):
        MetaQModel.setup_mudata(pair)


def test_conditions_in_a_column_pulled_from_a_modality(toy_mdata, fit):
    toy_mdata.obs["rna:batch"] = pd.Categorical(["x", "y"] * 75)
    model = fit(toy_mdata, setup={"batch_key": "rna:batch"})
    assert "rna:batch" in model.get_metacells().obs
    query = MetaQModel.load_query_data(toy_mdata.copy(), model)
    pd.testing.assert_frame_equal(query.get_assignments(), model.get_assignments())


def test_the_cells_are_not_changed(fit, toy_mdata):
    before = toy_mdata.copy()
    fit(toy_mdata).get_metacells()
    for kind in before.mod:
        assert abs(before[kind].X - toy_mdata[kind].X).max() == 0
        pd.testing.assert_frame_equal(before[kind].obs, toy_mdata[kind].obs)
    pd.testing.assert_frame_equal(before.obs, toy_mdata.obs)
