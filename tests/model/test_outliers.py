import numpy as np
import pandas as pd
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


def test_damaged_cells_score_high_and_low_margins_do_not_show_them(model, assignments, again):
    """Cells with half as many counts again, of any gene."""
    damaged = again(index=slice(0, 100))
    rng, n_genes = np.random.default_rng(0), damaged.n_vars
    depth = np.asarray(damaged.X.sum(1)).ravel().astype(int)
    noise = [rng.multinomial(n // 2, np.full(n_genes, 1 / n_genes)) for n in depth]
    damaged.X = sp.csr_matrix(damaged.X + np.array(noise, dtype=np.float32))
    damaged.obs_names = "damaged-" + damaged.obs_names
    is_damaged = np.repeat([False, True], [len(assignments), 100])
    scores = pd.concat([model.get_outlier_scores(), model.get_outlier_scores(damaged)])
    margin = pd.concat([assignments, model.get_assignments(damaged)])["margin"]
    found, by_margin = roc_auc_score(is_damaged, scores), roc_auc_score(is_damaged, -margin)
    assert found > 0.85
    assert found > by_margin + 0.2
