"""The code of the guide on analyses of metacells, and what the guide says of it."""

import gzip
import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.stats
import statsmodels.api as sm
from anndata import AnnData
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import kneighbors_graph

import scmetaq

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "downstream.md"
SECTIONS = dict(re.findall(r"\n## (.+?)\n(.*?)(?=\n## |\Z)", PAGE.read_text(), re.DOTALL))


def run(section, names=None, n_blocks=None):
    """Names after the code of a section."""
    names = names or {}
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    assert blocks
    for code in blocks[:n_blocks]:
        exec(code, names)
    return names


def test_gene_scores_and_open_peaks():
    names = run("Gene scores and open peaks")
    links, opened, accessibility = (names[of] for of in ("links", "opened", "accessibility"))
    assert accessibility.shape == (30, names["scores"].n_vars)
    assert set(accessibility) == set(names["scores"].var_names)
    gene = names["scores"].var["n_peaks"].idxmax()
    peaks = links["peak"][(links["gene"] == gene) & (links["r"] > 0.1) & (links["pvalue"] < 0.1)]
    expected = opened[:, peaks].X.toarray().mean(1)
    np.testing.assert_allclose(accessibility[gene], expected)
    depth = np.asarray(names["metacells"]["atac"].layers["counts"].sum(1)).ravel()
    assert scipy.stats.spearmanr(opened.obs["n_open"], depth).statistic > 0.8


def test_fragments_by_metacell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s1").mkdir()
    lines = [f"chr1\t{i}\t{i + 9}\tc{i % 7}\t1\n" for i in range(70)]
    for path in ("fragments.tsv.gz", "s1/fragments.tsv.gz"):
        Path(path).write_bytes(gzip.compress("".join(lines).encode()))
    obs = pd.DataFrame({"metacell": list("aabb"), "sample": "s1"}, [f"c{i}" for i in range(4)])
    names = run("Fragments by metacell", {"adata": AnnData(obs=obs), "scmetaq": scmetaq}, 1)
    assert names["table"]["n_fragments"].tolist() == [20, 20]
    assert names["table"].attrs == {"unknown_barcodes": 3, "unknown_fragments": 30}
    # a second sample has the same barcodes, which have the name of the sample in front in obs
    both = pd.concat([obs.rename("s1_{}".format), obs.assign(sample="s2").rename("s2_{}".format)])
    (tmp_path / "by_metacell").rename(tmp_path / "earlier")
    code = re.findall(r"```python\n(.*?)```", SECTIONS["Fragments by metacell"], re.DOTALL)[1]
    exec(code, {"adata": AnnData(obs=both), "scmetaq": scmetaq})
    for name in "ab":
        file = f"{name}.fragments.tsv.gz"
        assert (tmp_path / "s1" / "by_metacell" / file).read_bytes() == (
            tmp_path / "earlier" / file
        ).read_bytes()


@pytest.fixture(scope="module")
def by_size():
    return run("Metacells that count as their cells")


def test_components_and_clusters_are_of_cells_in_the_place_of_their_metacells(by_size):
    metacells, variable = by_size["metacells"], by_size["variable"]
    n_cells = metacells.obs["n_cells"].to_numpy()
    repeated = PCA(20, svd_solver="full").fit(np.repeat(variable.X.toarray(), n_cells, axis=0))
    alike = np.abs((repeated.components_ * by_size["axes"]).sum(1))
    np.testing.assert_allclose(alike, 1, atol=1e-6)
    scores, clusters = metacells.obsm["X_pca"], by_size["clusters"]
    for k, centre in enumerate(by_size["kmeans"].cluster_centers_):
        of = clusters == k
        expected = np.average(scores[of], axis=0, weights=n_cells[of])
        np.testing.assert_allclose(centre, expected, atol=1e-5)


def test_a_test_with_weights_is_that_of_welch_for_the_effective_number(by_size):
    weighted, metacells, is_b = (by_size[of] for of in ("weighted", "metacells", "is_b"))
    found, parts = by_size["markers"], [metacells[is_b], metacells[~is_b]]
    assert {"CD79A", "CD74"} <= set(found.index[:30])
    means, variances, numbers = [], [], []
    for part in parts:
        n = part.obs["n_cells"].to_numpy(float)
        x, number = part.X.toarray().astype(float), n.sum() ** 2 / (n**2).sum()
        mean = np.average(x, axis=0, weights=n)
        variance = np.average((x - mean) ** 2, axis=0, weights=n) * number / (number - 1)
        means, variances, numbers = [*means, mean], [*variances, variance], [*numbers, number]
        assert weighted(part).nobs == pytest.approx(number)
        assert 1 < number < part.n_obs
    expected = scipy.stats.ttest_ind_from_stats(
        *(means[0], np.sqrt(variances[0]), numbers[0]),
        *(means[1], np.sqrt(variances[1]), numbers[1]),
        equal_var=False,
    )
    by_gene = pd.DataFrame({"t": expected.statistic, "p": expected.pvalue}, metacells.var_names)
    by_gene = by_gene.loc[found.index]
    np.testing.assert_allclose(found["t"], by_gene["t"], rtol=1e-4)
    np.testing.assert_allclose(found["p"], by_gene["p"], rtol=1e-3, atol=1e-12)


@pytest.fixture(scope="module")
def by_batch():
    return run("Differences between conditions", n_blocks=1)


def test_the_test_of_sums_finds_the_amplified_genes_of_a_line(by_batch):
    table, sums, cells = (by_batch[of] for of in ("table", "sums", "cells"))
    assert sums.n_obs == 10
    assert set(sums.obs["cell_type"]) == {"H1975", "HCC827"}
    assert table.index[0] == "EGFR"
    assert set(table.index[1:7]) == {"SEC61G", "VOPP1", "CDK4", "OS9", "TBK1", "PIP4K2C"}
    assert (table["log2FoldChange"][:7] > 2).all()
    # the sums are those of the cells
    first = sums.obs_names[0]
    kind, batch = first.split(":")
    of = (cells.obs["cell_type"] == kind) & (cells.obs["batch"] == batch)
    expected = np.asarray(cells[of.to_numpy()].X.sum(0)).ravel()
    np.testing.assert_array_equal(sums[first].layers["counts"].toarray()[0], expected)


def test_the_test_of_sums_finds_next_to_nothing_between_random_halves_of_a_line(by_batch, rng):
    cells = by_batch["cells"][by_batch["cells"].obs["cell_type"] == "H1975"].copy()
    cells.obs["half"] = rng.permutation(np.resize(["a", "b"], cells.n_obs))
    sums = scmetaq.tl.aggregate(cells, ["half", "batch"])
    table = by_batch["tested"](sums, "~ batch + half", ["half", "b", "a"])
    assert len(table) > 500
    assert (table["padj"] < 0.05).sum() <= 5


@pytest.mark.slow
def test_genes_induced_by_interferon_come_first_in_each_state(by_batch, real_data):
    adata = anndata.read_h5ad(real_data / "kang_pbmc_labelled_1267genes.h5ad")
    adata.obs["sample"] = adata.obs["batch"]
    adata.obs["donor"] = adata.obs["batch"].astype(str).str[-3:]
    code = re.findall(
        r"```python\n(.*?)```", SECTIONS["Differences between conditions"], re.DOTALL
    )[1]
    names = {"adata": adata, "scmetaq": scmetaq, "tested": by_batch["tested"]}
    exec(code, names)
    assert len(names["found"]) >= 5
    for table in names["found"].values():
        first = table[:10]
        assert (first["log2FoldChange"] > 0).sum() >= 8
        assert {"ISG15", "ISG20"} & set(first.index[:4])
        assert first.index.str.match("ISG|IFI|MX1|LY6E|CXCL1|OAS|RSAD2").sum() >= 4
    kinds = names["sums"].obs.groupby("metacell")["cell_type"].agg(lambda of: of.mode()[0])
    assert kinds[list(names["found"])].nunique() >= 4


def test_metacells_as_replicates_find_differences_between_conditions_where_there_are_none(rng):
    """Eight donors, four per condition, each with 30 metacells of 20 cells of one state."""
    n_genes, n_donors = 400, 8
    donor = np.repeat(np.arange(n_donors), 600)
    rate = rng.gamma(2, 1, n_genes) * rng.lognormal(0, 0.4, (n_donors, n_genes))
    obs = pd.DataFrame({"donor": donor.astype(str), "metacell": np.arange(len(donor)) // 20})
    obs["condition"] = np.where(donor < 4, "a", "b")
    cells = AnnData(sparse.csr_matrix(rng.poisson(rate[donor]).astype(np.float32)), obs)
    found = {}
    for name in ("metacell", "donor"):
        sums = scmetaq.tl.aggregate(cells, name)
        log = sc.pp.log1p(sc.pp.normalize_total(sums, copy=True), copy=True).X.toarray()
        is_a = (sums.obs["condition"] == "a").to_numpy().astype(float)
        pvalues = [sm.OLS(y, sm.add_constant(is_a)).fit().pvalues[1] for y in log.T]
        found[name] = np.mean(np.array(pvalues) < 0.05)
    assert found["metacell"] > 0.5
    assert 0.02 < found["donor"] < 0.09


def test_correlations_of_markers_are_higher_across_metacells_than_across_cells(by_size):
    names = run("Co-expression", dict(by_size))
    r, of_cells = names["r"], by_size["log"][:, names["genes"]].to_df().corr()
    for module in (["CD79A", "CD79B", "MS4A1"], ["NKG7", "GNLY", "PRF1"]):
        pairs = np.triu_indices(3, 1)
        ours, cells = (of.loc[module, module].to_numpy()[pairs] for of in (r, of_cells))
        assert (ours > cells).all()
        assert ours.min() > 0.6
    assert r.loc["CD79A", "NKG7"] < 0


def slopes(unspliced, spliced, weights):
    """Unspliced per spliced count of each gene, by least squares through the origin."""
    w = np.asarray(weights)[:, None]
    return (w * unspliced * spliced).sum(0) / (w * spliced**2).sum(0)


@pytest.mark.slow
def test_moments_of_spliced_and_unspliced_counts_agree_with_those_of_cells(real_data):
    adata = anndata.read_h5ad(real_data / "mouse_endocrinogenesis_2000genes.h5ad")
    log = adata.copy()
    sc.pp.normalize_total(log)
    sc.pp.log1p(log)
    sc.pp.pca(log, n_comps=30)
    z = log.obsm["X_pca"]
    groups = KMeans(120, n_init=1, random_state=0).fit_predict(z)
    adata.obs["metacell"] = groups.astype(str)
    metacells = run("RNA velocity", {"adata": adata, "scmetaq": scmetaq})["metacells"]
    n_cells = metacells.obs["n_cells"].to_numpy(float)
    layers = {"unspliced": adata.layers["unspliced"], "spliced": adata.X}
    means, averages, by_cell = {}, {}, {}
    nearest = kneighbors_graph(z, 30, include_self=True) / 30
    for name, X in layers.items():
        sums = metacells.layers[name].toarray()
        np.testing.assert_allclose(sums.sum(0), np.asarray(X.sum(0)).ravel())
        means[name] = sums / n_cells[:, None]
        averages[name] = (nearest @ X).toarray()
        by_cell[name] = X.toarray()
    enough = (means["unspliced"].mean(0) > 0.05) & (means["spliced"].mean(0) > 0.05)
    assert enough.sum() > 300
    of_metacells = slopes(means["unspliced"], means["spliced"], n_cells)[enough]
    of_averages = slopes(averages["unspliced"], averages["spliced"], np.ones(adata.n_obs))[enough]
    r = scipy.stats.spearmanr(of_metacells, of_averages).statistic
    assert r > 0.99
    assert np.median(np.abs(np.log(of_metacells / of_averages))) < 0.05
    # noise of single cells flattens the slopes
    of_cells = slopes(by_cell["unspliced"], by_cell["spliced"], np.ones(adata.n_obs))[enough]
    assert np.median(of_cells / of_averages) < 1 / 1.5
