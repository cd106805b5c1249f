"""Size factors that cells bring take the place of their library sizes."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scvi import REGISTRY_KEYS

from scmetaq import MetaQModel, SCPoli

SETUP = {"batch_key": "lane", "size_factor_key": "size"}


@pytest.fixture(scope="module")
def cells(_toy):
    adata = _toy.copy()
    adata.obs["lane"] = pd.Categorical(np.array(["x", "y"])[np.arange(150) % 2])
    return adata


def with_sizes(cells, sizes):
    adata = cells.copy()
    adata.obs["size"] = sizes
    return adata


def library(cells):
    return np.asarray(cells.X.sum(axis=1)).ravel()


def uneven(cells):
    """Library sizes that are three times as large in every third cell."""
    return library(cells) * np.where(np.arange(cells.n_obs) % 3, 1.0, 3.0)


@pytest.fixture(scope="module", params=["default", "published"])
def recipe(request):
    return request.param


def fit(fit_as, cells, setup, **options):
    return fit_as(MetaQModel, cells, 6, setup=setup, **options)


def test_library_sizes_as_size_factors_change_nothing(cells, fit_as, recipe):
    without = fit(fit_as, cells.copy(), {"batch_key": "lane"}, recipe=recipe)
    for factor in (1, 0.25):  # only ratios matter
        given = fit(fit_as, with_sizes(cells, factor * library(cells)), SETUP, recipe=recipe)
        assert given.size_scale_ == 1 / factor
        np.testing.assert_array_equal(
            given.get_latent_representation(), without.get_latent_representation()
        )
        pd.testing.assert_frame_equal(given.get_assignments(), without.get_assignments())


def test_counts_are_divided_by_size_factors_and_expected_in_proportion(cells, fit_as, recipe):
    adata = with_sizes(cells, uneven(cells))
    model = fit(fit_as, adata, SETUP, recipe=recipe)
    without = fit(fit_as, cells.copy(), {"batch_key": "lane"}, recipe=recipe)
    assert not np.allclose(
        model.get_latent_representation(), without.get_latent_representation(), atol=1e-2
    )
    thrice = with_sizes(cells, 3 * adata.obs["size"].to_numpy())
    thrice.X = thrice.X * 3  # deeper cells of the same state
    same = model.get_latent_representation(thrice), model.get_latent_representation()
    np.testing.assert_allclose(*same, rtol=1e-3, atol=1e-4)
    once, deeper = (
        model.get_normalized_expression(of, library_size="latent") for of in (adata, thrice)
    )
    np.testing.assert_allclose(deeper, 3 * once, rtol=1e-2, atol=1e-3)


def test_expected_counts_of_scpoli_are_shares_of_the_size_factor(cells, fit_as):
    adata = with_sizes(cells, uneven(cells))
    model = fit_as(SCPoli, adata, setup=SETUP, n_latent=4)
    expected = model.get_normalized_expression(library_size="latent").sum(axis=1)
    ratio = expected / adata.obs["size"]
    np.testing.assert_allclose(ratio, ratio.iloc[0], rtol=1e-4)
    np.testing.assert_allclose(expected.mean(), library(cells).mean(), rtol=1e-4)


@pytest.mark.parametrize("cls", [MetaQModel, SCPoli])
def test_size_factors_are_registered_saved_and_asked_of_new_cells(cells, fit_as, cls, tmp_path):
    adata = with_sizes(cells, uneven(cells))
    words = {"n_latent": 4} if cls is SCPoli else {"n_metacells": 6}
    model = fit_as(cls, adata, setup=SETUP, **words)
    registered = model.adata_manager.get_from_registry(REGISTRY_KEYS.SIZE_FACTOR_KEY)
    np.testing.assert_array_equal(registered.ravel(), adata.obs["size"])
    z = model.get_latent_representation()
    loader = model._make_data_loader(adata=model.adata, batch_size=50)
    found = model.get_latent_representation(dataloader=loader)
    np.testing.assert_allclose(found, z, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model")
    loaded = cls.load(tmp_path / "model", with_sizes(cells, uneven(cells)))
    np.testing.assert_array_equal(loaded.get_latent_representation(), z)
    query = with_sizes(cells, uneven(cells))[:40].copy()
    query.obs["lane"] = "z"
    mapped = cls.load_query_data(query, tmp_path / "model")
    mapped.train(max_epochs=1)
    assert len(mapped.get_latent_representation()) == 40
    assert mapped.size_scale_ == model.size_scale_
    del query.obs["size"]
    for call in (
        lambda: cls.load_query_data(query, model),
        lambda: model.get_latent_representation(cells[:40].copy()),
    ):
        with pytest.raises(KeyError, match="No column 'size' in .*on one scale"):
            call()


def test_cells_on_disk_and_lazy_cells_have_size_factors(cells, fit_as, tmp_path):
    adata = with_sizes(cells, uneven(cells))
    expected = fit(fit_as, adata, SETUP).get_assignments()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lazy = anndata.experimental.read_lazy(tmp_path / "cells.h5ad")
    for found in (backed, lazy):
        pd.testing.assert_frame_equal(fit(fit_as, found, SETUP).get_assignments(), expected)


@pytest.mark.parametrize("wrong", [0, -1, np.nan, np.inf, "text", True])
def test_size_factors_that_are_no_positive_numbers_are_refused(cells, wrong):
    sizes = pd.Series([1.0] * 150, index=cells.obs_names, dtype=object)
    sizes.iloc[3] = wrong
    is_number = not isinstance(wrong, str | bool)
    adata = with_sizes(cells, sizes.astype(float) if is_number else sizes.astype(str))
    with pytest.raises(ValueError, match=r"positive number for every cell in adata.obs\['size'\]"):
        MetaQModel.setup_anndata(adata, size_factor_key="size")
    assert "_scvi_uuid" not in adata.uns
    with pytest.raises(KeyError, match="No column 'none' in adata.obs"):
        MetaQModel.setup_anndata(adata, size_factor_key="none")


def test_size_factors_of_several_kinds_of_counts_are_refused(paired):
    with pytest.raises(TypeError, match="size_factor_key.*one kind of counts"):
        MetaQModel.setup_mudata(paired.copy(), size_factor_key="size")
