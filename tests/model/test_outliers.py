import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

import scmetaq


def test_scores_are_distances_over_those_typical_of_the_metacell(model, assignments, blood):
    scores = model.get_outlier_scores()
    pd.testing.assert_index_equal(scores.index, blood.obs_names)
    assert scores.name == "outlier_score"
    codes = model.get_codebook().drop(columns="usage").loc[assignments["metacell"]].to_numpy()
    distance = np.linalg.norm(model.get_latent_representation() - codes, axis=1)
    of = pd.Series(distance, assignments.index).groupby(assignments["metacell"])
    size, own = of.transform("size"), of.transform(lambda d: np.sort(d)[(len(d) - 1) // 2])
    overall = np.sort(distance)[(len(distance) - 1) // 2]
    expected = distance / ((size * own + 10 * overall) / (size + 10))
    np.testing.assert_allclose(scores, expected, rtol=1e-3)
    assert 0.9 < scores.median() < 1.1


def test_cells_are_scored_alike_alone_and_among_others(model, again):
    scores = model.get_outlier_scores()
    some = again(index=slice(40, 60))
    pd.testing.assert_series_equal(model.get_outlier_scores(some), scores.loc[some.obs_names])
    one = again(index=slice(7, 8))
    assert model.get_outlier_scores(one).item() == scores.iloc[7]


def test_a_saved_model_gives_the_same_scores(model, blood, tmp_path):
    scores = model.get_outlier_scores()
    model.save(tmp_path / "model", save_anndata=False)
    loaded = scmetaq.MetaQModel.load(tmp_path / "model", adata=blood.copy())
    pd.testing.assert_series_equal(loaded.get_outlier_scores(), scores)


def test_damaged_cells_score_higher_than_others_of_the_same_depth(model, blood):
    """A third of the counts of cells that the model has not seen is dealt out to any gene."""
    demo = scmetaq.data.demo()
    unseen = demo[~demo.obs_names.isin(blood.obs_names), blood.var_names][:200].copy()
    rng, damaged = np.random.default_rng(0), unseen.copy()
    kept = rng.binomial(unseen.X.toarray().astype(int), 2 / 3)
    lost = (unseen.X.toarray() - kept).sum(1).astype(int)
    genes = np.full(blood.n_vars, 1 / blood.n_vars)
    damaged.X = sp.csr_matrix((kept + rng.multinomial(lost, genes)).astype(np.float32))
    np.testing.assert_allclose(damaged.X.sum(1), unseen.X.sum(1))
    scores = np.concatenate([model.get_outlier_scores(of) for of in (unseen, damaged)])
    margins = np.concatenate([model.get_assignments(of)["margin"] for of in (unseen, damaged)])
    is_damaged = np.repeat([False, True], 200)
    assert roc_auc_score(is_damaged, scores) > 0.8
    assert roc_auc_score(is_damaged, scores) > roc_auc_score(is_damaged, -margins) + 0.2


def test_a_model_without_spreads_says_so(model, blood, tmp_path):
    model.save(tmp_path / "model", save_anndata=False)
    old = scmetaq.MetaQModel.load(tmp_path / "model", adata=blood.copy())
    old.module.codebook.spread.zero_()
    with pytest.raises(ValueError, match="saved by an earlier version"):
        old.get_outlier_scores()
