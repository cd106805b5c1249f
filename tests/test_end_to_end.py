"""From counts to metacells and on to scanpy, as a user goes."""

import anndata
import mudata
import numpy as np
import pytest
import scanpy as sc

import scmetaq

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cells():
    adata = scmetaq.data.demo()
    adata.layers["counts"] = adata.X.copy()
    return adata


@pytest.fixture(scope="module")
def trained(cells, fit):
    return fit(cells, 32, 6, setup={"labels_key": "cell_type"}, n_top_features=1_000)


@pytest.fixture(scope="module")
def metacells(trained):
    return trained.get_metacells()


def test_metacells_are_better_than_chance(trained, cells):
    """Against groups of the same sizes with the cells dealt out at random."""
    marked = cells.copy()
    marked.obs["metacell"] = trained.get_assignments()["metacell"]
    marked.obs["dealt"] = np.random.default_rng(0).permutation(marked.obs["metacell"])
    ours, chance = (
        scmetaq.metrics.evaluate(marked, name, "cell_type").groupby("metric")["value"].mean()
        for name in ("metacell", "dealt")
    )
    for metric in ("compactness", "separation", "purity", "balanced_accuracy"):
        least = 0 if metric == "separation" else 0.05  # Eq. 24 hardly tells metacells from chance
        assert ours[metric] > chance[metric] + least, metric
    assert ours["purity"] > 0.75


def test_results_are_drawn_and_scanpy_takes_it_from_here(trained, metacells):
    panels = scmetaq.pl.training(trained.history)
    assert {"reconstruction loss", "codebook loss"} <= {ax.get_title() for ax in panels}
    for draw in (scmetaq.pl.size, scmetaq.pl.purity):
        assert draw(metacells).has_data()
    mc = metacells.copy()
    sc.pp.normalize_total(mc, target_sum=1e4)
    sc.pp.log1p(mc)
    sc.pp.highly_variable_genes(mc, n_top_genes=500)
    sc.pp.pca(mc, n_comps=10)
    sc.pp.neighbors(mc, n_neighbors=5)
    sc.tl.rank_genes_groups(mc, "cell_type", groups=["B"], method="t-test_overestim_var")
    markers = sc.get.rank_genes_groups_df(mc, "B")["names"][:30]
    assert "CD79A" in set(markers)
    assert mc.obsp["connectivities"].shape == (32, 32)


def sample(adata, n_cells):
    chosen = np.random.default_rng(0).permutation(adata.n_obs)[:n_cells]
    adata = adata[np.sort(chosen)].copy()
    sc.pp.filter_cells(adata, min_counts=1)
    sc.pp.filter_genes(adata, min_counts=1)
    return adata


@pytest.mark.parametrize(
    ("file", "least_purity"), [("pbmc_facs_sorted.h5ad", 0.65), ("human_pdac_A_indrop.h5ad", 0.65)]
)
def test_labelled_cells(real_data, fit, file, least_purity):
    adata = sample(anndata.read_h5ad(real_data / file), 800)
    model = fit(adata, 16, 10, n_top_features=1_000)
    assignment = model.get_assignments()["metacell"]
    assert assignment.nunique() == 16
    assert scmetaq.metrics.purity(assignment, adata.obs["cell_type"]).mean() > least_purity
    assert model.get_metacells().layers["counts"].sum() == adata.X.sum()


@pytest.mark.parametrize("recipe", ["default", "published"])
@pytest.mark.parametrize(
    ("file", "modality", "n_cells"),
    [
        ("pbmc_protein_2batch_400.h5mu", "adt", 400),
        ("eccite_pbmc_500.h5mu", "adt", 500),
        ("snareseq_mouse_cortex.h5mu", "atac", 400),
    ],
)
def test_proteins_and_peaks(real_data, fit, file, modality, n_cells, recipe):
    adata = sample(mudata.read_h5mu(real_data / file)[modality], n_cells)
    model = fit(adata, 8, 4, setup={"modality": modality}, n_top_features=1_000, recipe=recipe)
    metacells = model.get_metacells()
    assert metacells.n_obs == 8
    assert metacells.layers["counts"].sum() == adata.X.sum()
    assert model.get_quantization_report()["n_empty"] == 0


def test_cells_of_another_experiment_are_assigned(real_data, fit):
    """Trained on one part, asked about the rest: labels agree across the split."""
    adata = sample(anndata.read_h5ad(real_data / "pbmc_facs_sorted.h5ad"), 1_200)
    part = np.arange(adata.n_obs) % 3  # the file is sorted by gate
    seen, unseen = adata[part < 2].copy(), adata[part == 2].copy()
    model = fit(seen, 16, 10, n_top_features=1_000)
    label = model.get_metacells().obs["cell_type"].astype(str)
    for part in (seen, unseen):
        told = model.get_assignments(part)["metacell"].map(label)
        assert (told == part.obs["cell_type"].astype(str)).mean() > 0.6
