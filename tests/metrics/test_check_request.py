import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics._check_request import (
    check_have_metacells,
    check_layer,
    check_names,
    check_numbers,
    check_rep,
    has_rep,
)


def test_numbers_that_nothing_can_be_computed_with_are_refused():
    check_numbers(n_top_genes=1, max_cells=None, seed=0)
    with pytest.raises(ValueError, match="`n_top_genes` as a whole number of at least 1, found 0"):
        check_numbers(n_top_genes=0, max_cells=None, seed=0)
    with pytest.raises(TypeError, match="`max_cells` as a whole number of at least 1, found '10'"):
        check_numbers(n_top_genes=1, max_cells="10", seed=0)
    with pytest.raises(ValueError, match="`seed` as a whole number of at least 0, found -1"):
        check_numbers(n_top_genes=1, max_cells=None, seed=-1)


def test_modalities_without_metacells_are_named(adata):
    parts = {"rna": adata, "adt": adata[:30]}
    check_have_metacells(parts, adata.obs["metacell"])
    absent = pd.Series(np.repeat([-1, 1], [30, 90]), adata.obs_names)
    with pytest.raises(ValueError, match="the modality 'adt', found none among its 30"):
        check_have_metacells(parts, absent)


def test_unknown_names_are_refused(adata):
    adata.layers["raw"], adata.obsm["X_any"] = adata.X, np.zeros((120, 2))
    check_names({"rna": adata}, layer="raw", use_rep="X_any")
    with pytest.raises(KeyError, match=r"no 'counts'. Layers: \{'rna': \['raw'\]\}"):
        check_names({"rna": adata}, layer="counts", use_rep=None)
    with pytest.raises(KeyError, match=r"found 'X_umap'. Embeddings of modalities: \{'rna'"):
        check_names({"rna": adata}, layer=None, use_rep="X_umap")
    with pytest.raises(KeyError, match=r"found 'X_umap'. Embeddings there: \['X_any'\]"):
        check_rep(adata, "X_umap")
    assert [has_rep(adata, name) for name in ("pca", "X_any", None)] == [True, True, False]


def test_a_layer_that_is_not_there_is_refused(adata):
    adata.layers["raw"] = adata.X
    check_layer(adata, None)
    check_layer(adata, "raw")
    with pytest.raises(KeyError, match=r"found no 'counts'. Layers: \['raw'\]"):
        check_layer(adata, "counts")
