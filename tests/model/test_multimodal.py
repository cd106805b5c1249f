"""Several modalities: training, reading and saving, paired and mosaic."""

import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq import MetaQModel, metrics

PAIR = {"modalities": {"rna_layer": "rna", "adt_layer": "adt"}}


@pytest.fixture(scope="module")
def joint(paired, fit):
    """Six metacells of 150 cells with three modalities, read only."""
    return fit(paired.copy(), 6, 10)


@pytest.fixture(scope="module")
def of_mosaic(paired, fit):
    cells = {"rna": slice(None), "adt": slice(30, None), "atac": slice(None, None, 2)}
    mdata = MuData({kind: paired[kind][rows].copy() for kind, rows in cells.items()})
    return fit(mdata, 6, 10)


def names(model, *args):
    return model.get_assignments(*args)["metacell"]


def test_every_cell_has_one_of_k_metacells_and_the_latent_a_block_per_modality(joint, paired):
    found = joint.get_assignments()
    pd.testing.assert_index_equal(found.index, paired.obs_names)
    assert found["metacell"].nunique() == 6
    assert metrics.purity(found["metacell"], paired.obs["state"]).mean() > 0.95
    blocks = {kind: part.columns for kind, part in joint.module.parts.items()}
    z = joint.get_latent_representation()
    assert list(blocks) == ["rna", "adt", "atac"]
    assert blocks["atac"].stop == z.shape[1] == joint.get_codebook().shape[1] - 1
    assert joint.module.parts["adt"].decoder.likelihood == "nb"
    assert joint.module.parts["atac"].decoder.likelihood == "poisson"


def test_weights_come_from_the_user_or_the_data_where_noise_counts_less(joint, fit, toy_mdata, rng):
    assert sum(joint.modality_weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in joint.modality_weights.values())
    given = fit(toy_mdata, modality_weights={"rna": 1, "adt": 2, "atac": 0})
    expected = {"rna": 1 / 3, "adt": 2 / 3, "atac": 0}
    assert given.modality_weights == pytest.approx(expected)
    columns = given.module.parts["atac"].columns
    assert (given.get_latent_representation()[:, columns] == 0).all()
    mean = toy_mdata["adt"].X.toarray().mean(0)
    toy_mdata["adt"].X = rng.poisson(mean, size=(150, 8)).astype(np.float32) + 1
    weights = fit(toy_mdata, setup=PAIR).modality_weights
    assert weights["rna"] > 3 * weights["adt"]


def test_metacells_are_paired_and_go_to_disk(joint, paired, tmp_path):
    metacells = joint.get_metacells()
    of_cell = names(joint)
    sizes = of_cell.value_counts()
    for kind in ("rna", "adt", "atac"):
        part = metacells[kind]
        pd.testing.assert_index_equal(part.obs_names, metacells.obs_names)
        assert list(part.var_names) == list(paired[kind].var_names)
        cells = pd.DataFrame(paired[kind].X.toarray(), paired.obs_names)
        expected = cells.groupby(of_cell).sum().loc[part.obs_names].to_numpy()
        np.testing.assert_allclose(part.layers["counts"].toarray(), expected)
        means = expected / sizes.loc[part.obs_names].to_numpy()[:, None]
        np.testing.assert_allclose(part.X.toarray(), means, rtol=1e-6)
    assert {"n_cells", "state", "state_fraction"} <= set(metacells.obs)
    assert metacells.uns["metaq"]["modality"] == "rna + adt + atac"
    metacells.write_h5mu(tmp_path / "metacells.h5mu")
    assert list(mudata.read_h5mu(tmp_path / "metacells.h5mu").mod) == ["rna", "adt", "atac"]


def test_mosaic_cells_get_metacells_and_count_where_they_are(of_mosaic, paired):
    """A gap is filled with what the other modalities suggest, not with a place of its own."""
    found = names(of_mosaic)
    assert found.nunique() == 6
    assert metrics.purity(found, paired.obs["state"]).mean() > 0.9
    mdata, metacells = of_mosaic.adata, of_mosaic.get_metacells()
    for kind in ("rna", "adt", "atac"):
        n_cells = found.loc[mdata[kind].obs_names].value_counts()
        part = metacells[kind]
        assert (part.obs["n_cells"] == n_cells.loc[part.obs_names].to_numpy()).all()
        assert part.layers["counts"].sum() == mdata[kind].X.sum()
    share = pd.Series(np.arange(150) % 2 == 0).groupby(found.to_numpy()).mean()  # have peaks
    assert share.between(0.15, 0.85).all()


def test_imputation_predicts_scores_of_cells_that_were_hidden(of_mosaic, paired):
    """Predicted states of hidden modalities agree with what is measured there."""
    latents = of_mosaic.get_latent_representation()
    whole = of_mosaic.get_latent_representation(paired.copy())
    hidden = np.arange(150) % 2 == 1
    columns = of_mosaic.module.parts["atac"].columns
    state = slice(columns.start, columns.start + 2)
    for guess, truth in zip(latents[hidden, state].T, whole[hidden, state].T, strict=True):
        assert np.corrcoef(guess, truth)[0, 1] > 0.7


def test_new_cells_are_assigned_as_those_of_the_model_with_gaps_or_not(joint, mosaic, paired):
    for again in (paired[::-3].copy(), paired[[7]].copy()):
        expected = joint.get_assignments().loc[again.obs_names]
        pd.testing.assert_frame_equal(joint.get_assignments(again), expected)
    found = names(joint, mosaic)
    assert metrics.purity(found, paired.obs["state"].loc[found.index]).mean() > 0.85
    adt = mudata.MuData({"adt": paired["adt"].copy()})
    found = joint.get_assignments(adt)
    empty = {name: paired[name][:0].copy() for name in ("rna", "atac")}
    beside = mudata.MuData({"adt": paired["adt"].copy(), **empty})
    pd.testing.assert_frame_equal(found, joint.get_assignments(beside))
    assert metrics.purity(found["metacell"], paired.obs["state"]).mean() > 0.6


def test_cells_without_a_modality_are_compared_with_codes_in_the_others(joint, of_mosaic, paired):
    """Unless the training had such gaps: its codes are means of imputed cells, too."""
    cells = mudata.MuData({"rna": paired["rna"].copy(), "adt": paired["adt"].copy()})
    parts, codes = joint.module.parts, joint.module.codebook.codes.detach().numpy()
    there = np.r_[[parts[kind].columns for kind in ("rna", "adt")]].tolist()
    columns = np.r_[there[0], there[1]]
    z = joint.get_latent_representation(cells)
    squares = np.square(z[:, None, columns] - codes[None, :, columns]).sum(2)
    squares /= 1 - joint.modality_weights["atac"]
    nearest = np.sort(squares, 1)
    found = joint.get_assignments(cells)
    assert (found["metacell"] == np.array(joint.metacell_names)[squares.argmin(1)]).all()
    np.testing.assert_allclose(found["margin"], nearest[:, 1] - nearest[:, 0], atol=1e-4)
    weights = joint.get_soft_assignments(cells).toarray()
    assert (weights.argmax(1) == squares.argmin(1)).all()
    whole = np.square(z[:, None] - codes[None]).sum(2).argmin(1)
    assert (whole != squares.argmin(1)).any()
    typical = joint.module.codebook.typical_distance.numpy()[squares.argmin(1)]
    scores = joint.get_outlier_scores(cells)
    np.testing.assert_allclose(scores, np.sqrt(nearest[:, 0]) / typical, rtol=1e-3)

    hidden = paired[1::2].copy()
    hidden = mudata.MuData({kind: hidden[kind].copy() for kind in ("rna", "adt")})
    z, codes = of_mosaic.get_latent_representation(hidden), of_mosaic.module.codebook.codes
    squares = np.square(z[:, None] - codes.detach().numpy()[None]).sum(2)
    expected = np.array(of_mosaic.metacell_names)[squares.argmin(1)]
    assert (names(of_mosaic, hidden) == expected).all()


def test_the_report_and_the_history_know_each_modality(joint):
    report = joint.get_quantization_report()
    for name in ("reconstruction_loss", "quantized_loss"):
        parts = [report[f"{name}_{kind}"] for kind in ("rna", "adt", "atac")]
        assert report[name] == pytest.approx(sum(parts), rel=1e-6)
    assert 0 < report["reconstruction_ratio_adt"] < 1.2
    for kind in ("rna", "adt", "atac"):
        loss = joint.history[f"reconstruction_loss_{kind}_train"].to_numpy(dtype=float)
        assert np.isfinite(loss).all()


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_save_and_load(of_mosaic, fit, toy_mdata, tmp_path, recipe):
    model = of_mosaic if recipe == "default" else fit(toy_mdata, recipe=recipe)
    model.save(tmp_path / "model", save_anndata=False)
    loaded = MetaQModel.load(tmp_path / "model", model.adata.copy())
    pd.testing.assert_frame_equal(loaded.get_assignments(), model.get_assignments())
    assert loaded.modality_weights == model.modality_weights


def test_files_of_cells_and_model_give_the_same(joint, paired, tmp_path):
    joint.save(tmp_path / "model")
    paired.copy().write_h5mu(tmp_path / "cells.h5mu")
    loaded = MetaQModel.load(tmp_path / "model", mudata.read_h5mu(tmp_path / "cells.h5mu"))
    assert (names(loaded) == names(joint)).all()


def test_one_seed_gives_one_result_also_of_one_modality_alone(fit, toy_mdata):
    first, second = (fit(toy_mdata.copy(), setup=PAIR) for _ in range(2))
    pd.testing.assert_frame_equal(first.get_assignments(), second.get_assignments())
    alone = names(fit(toy_mdata["rna"].copy()))
    of_mudata = names(fit(toy_mdata, setup={"modalities": {"rna_layer": "rna"}}))
    pd.testing.assert_series_equal(alone, of_mudata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality_weights": {"rna": 1}}, "each of rna, adt"),
        ({"modality_weights": {"rna": -1, "adt": 1}}, "none negative"),
        ({"modality_weights": {"rna": 0, "adt": 0}}, "one above zero"),
        ({"likelihood": {"atac": "nb"}}, "Unknown modality in likelihood 'atac'"),
        ({"likelihood": {"adt": "normal"}}, "Unknown likelihood 'normal'"),
        ({"n_top_features": {"rna": 0}}, "n_top_features to be at least 1"),
        ({"n_metacells": 150}, "fewer than the 150 cells"),
    ],
)
def test_bad_arguments_are_refused(toy_mdata, arguments, message):
    MetaQModel.setup_mudata(toy_mdata, **PAIR)
    with pytest.raises(ValueError, match=message):
        MetaQModel(toy_mdata, **{"n_metacells": 6, **arguments})


def test_likelihoods_and_features_of_each_modality(fit, toy_mdata):
    model = fit(
        toy_mdata, setup=PAIR, likelihood={"adt": "poisson"}, n_top_features={"rna": 20, "adt": 5}
    )
    parts = model.module.parts
    assert parts["adt"].decoder.log_dispersion is None
    assert parts["rna"].decoder.log_dispersion is not None
    assert [len(p.feature_scaling.features) for p in parts.values()] == [20, 5]


def test_an_anndata_and_a_mudata_are_no_queries_of_each_other(joint, toy_model, toy, toy_mdata):
    with pytest.raises(TypeError, match="found an AnnData"):
        joint.get_assignments(toy)
    with pytest.raises(TypeError, match="Expected an AnnData, found MuData"):
        toy_model.get_assignments(toy_mdata)
