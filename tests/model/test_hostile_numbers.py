"""Counts that are hard on a model: finite losses and metacells of one state, or advice first."""

import numpy as np
import pytest
import scanpy as sc
from mudata import MuData
from scipy import sparse

import scmetaq
from scmetaq import metrics

N_METACELLS = 40


@pytest.fixture(scope="module")
def clean():
    """1,200 cells of the demo data with few of their genes, for speed."""
    adata = scmetaq.data.demo()
    cells = np.sort(np.random.default_rng(0).choice(adata.n_obs, 1200, replace=False))
    return adata[cells].copy()


def altered(clean, change):
    adata = clean.copy()
    adata.X = sparse.csr_matrix(change(clean.X.toarray(), np.random.default_rng(0)), dtype="f4")
    return adata


def purity(model, adata):
    assert all(np.isfinite(of.to_numpy(float)).all() for of in model.history.values())
    assert np.isfinite(list(dict(model.get_quantization_report()).values())).all()
    assert np.isfinite(model.get_latent_representation()).all()
    assignment = model.get_assignments()["metacell"]
    assert assignment.nunique() == N_METACELLS
    return metrics.purity(assignment, adata.obs["cell_type"]).mean()


@pytest.fixture(scope="module")
def purity_of_clean(clean, fit):
    return purity(fit(clean.copy(), N_METACELLS, None), clean)


def over_five_orders(X, rng):
    return rng.poisson(X * 10 ** rng.uniform(0, 5, (len(X), 1)))


def one_gene_has_most(X, rng):
    X[:, 5] = rng.poisson(9 * X.sum(1))
    return X


def one_gene_has_most_in_some_cells(X, rng):
    X[:, 5] = rng.poisson(9 * X.sum(1).mean() * rng.lognormal(0, 1, len(X)))
    return X


CHANGES = [over_five_orders, one_gene_has_most, one_gene_has_most_in_some_cells]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_depth_over_five_orders_and_a_gene_with_most_counts_cost_little_purity(
    clean, purity_of_clean, fit, change
):
    adata = altered(clean, change)
    depth = np.asarray(adata.X.sum(1)).ravel()
    if change is over_five_orders:
        assert depth.max() / depth.min() > 1e5
    else:
        assert adata.X[:, 5].sum() / adata.X.sum() > 0.89
    assert purity(fit(adata, N_METACELLS, None), adata) > purity_of_clean - 0.1


def test_dropout_of_nearly_all_counts_is_warned_of_before_work(clean, toy, fit):
    adata = altered(clean, lambda X, rng: X * (rng.random(X.shape) > 0.95))
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    with pytest.warns(
        UserWarning, match=r"at most \d\d of the 8,981 features in adata\.X: metacel"
    ):
        scmetaq.MetaQModel.setup_anndata(adata)
    model = fit(adata, N_METACELLS, None)
    purity(model, adata)
    for good in (clean.copy(), toy):  # of which one has few features
        with np.testing.suppress_warnings() as caught:
            found = caught.record(UserWarning, "Half of the cells")
            scmetaq.MetaQModel.setup_anndata(good)
        assert not found


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_changes_no_metacell(clean, fit, precision):
    adata = clean[:, :2000].copy()
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    exact = fit(adata.copy(), N_METACELLS)
    model = fit(adata, N_METACELLS, train={"precision": precision})
    purity(model, adata)
    assert model.get_assignments().equals(exact.get_assignments())


def test_a_protein_panel_without_counts_in_one_batch_is_refused_and_the_remedy_works(fit):
    mdata = scmetaq.data.demo_citeseq()
    second = (mdata.obs["batch"] == mdata.obs["batch"].iloc[-1]).to_numpy()
    adt = mdata["adt"].copy()
    adt.X[np.flatnonzero(second)] = 0
    adt.X.eliminate_zeros()
    altered = MuData({"rna": mdata["rna"].copy(), "adt": adt})
    altered.obs["batch"] = mdata.obs["batch"]
    with pytest.raises(
        ValueError, match=r"200 of 400 cells have no counts in mdata\['adt'\]"
    ) as told:
        fit(altered.copy(), 10)
    remedy = str(told.value).split("Fix: ")[1].removesuffix(".")
    mixed = altered.copy()
    exec(remedy, {"sc": sc, "mdata": mixed})
    assert mixed["adt"].n_obs == 200
    model = fit(mixed, 10, None)
    assignment = model.get_assignments()["metacell"]
    assert assignment.nunique() == 10
    assert all(np.isfinite(of.to_numpy(float)).all() for of in model.history.values())
    both = fit(mdata, 10, None).get_assignments()["metacell"]
    assert metrics.agreement(assignment, both).ami > 0.4
