"""What messages advise works: lines of code are run on the very object, and the call again."""

import re

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse
from anndata import AnnData, concat
from mudata import MuData
from scipy import sparse

import scmetaq
from scmetaq import MetaQModel

LINE = re.compile(r"((?:known|adata|mdata|query|sc)\b[\w.\[\]'\"]*(?: = |\.pp\.).*?)\.?$")
"""The line of code at the end of a message."""


def assert_mended(call, scope, match):
    """Run the line that the error of a call offers; the call works then."""
    with pytest.raises((ValueError, KeyError, TypeError), match=match) as error:
        call()
    text = str(error.value).replace(", or pass a lower min_shared", "")
    text = text.removesuffix(" Bring the names to the same kind.").removesuffix(
        " Pass cells counted with the same features under the same names, or use load_query_data "
        "where the model has it."
    )
    line = LINE.search(text.split("It is a condition")[-1])
    assert line is not None, text
    exec(line[1], {"np": np, "sc": sc, "re": re, "scmetaq": scmetaq, **scope}, scope)
    call()


def normalised(adata):
    """Cells with counts in a layer that one has, and normalised values in ``X``."""
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return adata


def with_counts_in(place, toy):
    counts = toy.copy()
    if place == "raw":
        toy.raw = counts
    elif place == "layers":
        toy.layers["log"], toy.layers["counts"] = counts.X * 0.1, counts.X
    return toy


@pytest.mark.parametrize("spoil", [normalised, sc.pp.scale], ids=["normalised", "scaled"])
def test_counts_in_raw_are_found_and_used(toy, spoil):
    scope = {"adata": with_counts_in("raw", toy)}
    if spoil is sc.pp.scale:
        toy.X = toy.X.toarray()
    spoil(toy)
    match = "They look scaled, to a mean" if spoil is sc.pp.scale else "look log-normalised"
    assert_mended(lambda: MetaQModel.setup_anndata(scope["adata"]), scope, match)


def test_the_layer_that_holds_counts_is_the_advice_and_others_are_listed(toy):
    normalised(with_counts_in("layers", toy))
    with pytest.raises(ValueError, match="look log-normalised") as error:
        MetaQModel.setup_anndata(toy)
    assert str(error.value).endswith(
        "adata.layers['counts'] holds whole numbers: layer=\"counts\"."
    )
    assert (error.value.argument, error.value.value) == ("layer", "counts")
    MetaQModel.setup_anndata(toy, layer=error.value.value)
    with pytest.raises(ValueError, match=r"layers\['log'\], found .*: layer=\"counts\""):
        MetaQModel.setup_anndata(toy, layer="log")
    del toy.layers["counts"]
    with pytest.raises(ValueError, match="layers there, 'log', hold none either"):
        MetaQModel.setup_anndata(toy)
    toy.X = np.ceil(toy.X.toarray())
    with pytest.raises(ValueError, match=r"adata.X holds whole numbers: leave layer out"):
        MetaQModel.setup_anndata(toy, layer="log")


def test_panels_of_an_outer_join_keep_what_all_have(toy):
    first, second = toy[:80, :40].copy(), toy[80:, 20:].copy()
    for part in (first, second):
        part.X = part.X.toarray() + 1
    scope = {"adata": concat([first, second], join="outer")}
    call = lambda: MetaQModel.setup_anndata(scope["adata"], modality="adt")  # noqa: E731
    assert_mended(call, scope, "20 of 60 features have none, take these")
    assert scope["adata"].n_vars == 20


@pytest.mark.parametrize("layer", [None, "counts"])
def test_cells_without_counts_are_left_out(toy, layer):
    X = toy.X.toarray()
    X[[3, 5]] = 0
    toy.X = sparse.csr_matrix(X)
    if layer:
        toy.layers["counts"], toy.X = toy.X, toy.X + sparse.csr_matrix(np.ones(toy.shape))
    scope = {"adata": toy}
    call = lambda: MetaQModel.setup_anndata(scope["adata"], layer=layer)  # noqa: E731
    assert_mended(call, scope, "2 of 150 cells have no counts")
    assert scope["adata"].n_obs == 148


def test_cells_without_counts_in_a_modality_are_left_out_of_it(toy_mdata):
    for layer in (None, "counts"):
        X = toy_mdata["adt"].X
        X = X.toarray() if layer is None else X.copy()
        X[3] = 0
        part = toy_mdata["adt"]
        part.X, part.layers["counts"] = X + (layer is not None), X
        scope = {"mdata": toy_mdata}
        call = lambda: MetaQModel.setup_mudata(scope["mdata"], adt_layer=layer)  # noqa: B023, E731
        assert_mended(call, scope, r"1 of 1\d\d cells have no counts in mdata\['adt'\]")


@pytest.fixture(scope="module")
def reference(paired, fit):
    return fit(paired["rna"].copy())


def query_of(paired):
    return paired["rna"][:60].copy()


def test_counts_of_new_cells_in_another_place_are_found(paired, reference, fit):
    model = reference
    for call in (MetaQModel.load_query_data, lambda query, model: model.get_assignments(query)):
        query = query_of(paired)
        name = "query" if call == MetaQModel.load_query_data else "adata"
        scope = {name: normalised(with_counts_in("layers", query))}
        match = f"{name}.layers..counts.. holds whole"
        assert_mended(lambda: call(scope[name], model), scope, match)  # noqa: B023
    query = normalised(with_counts_in("layers", query_of(paired)))
    mapped = MetaQModel.load_query_data(query, model, layer="counts")
    assert mapped.get_assignments().equals(model.get_assignments(query_of(paired)))
    assert "counts" not in mapped.adata.layers
    layered = paired["rna"].copy()
    layered.layers["counts"] = layered.X
    of_layer = fit(layered, setup={"layer": "counts"})
    scope = {"query": query_of(paired)}
    assert_mended(
        lambda: MetaQModel.load_query_data(scope["query"], of_layer), scope, "No layer 'counts'"
    )
    mapped = MetaQModel.load_query_data(query_of(paired), of_layer, layer="X")
    assert mapped.get_assignments().equals(of_layer.get_assignments(scope["query"]))
    with pytest.raises(KeyError, match="No layer 'umi' in query.layers"):
        MetaQModel.load_query_data(query_of(paired), of_layer, layer="umi")


def test_the_layer_of_a_query_is_that_of_each_modality_that_has_it(paired, fit):
    model, query = fit(paired.copy()), paired[:60].copy()
    query["adt"].layers["raw"], query["adt"].X = query["adt"].X, query["adt"].X * 0.5
    expected = model.get_assignments(paired[:60].copy())
    mapped = MetaQModel.load_query_data(query, model, layer="raw")
    assert mapped.get_assignments().equals(expected)
    with pytest.raises(ValueError, match=r"query\['adt'\].layers\['raw'\] holds whole numbers"):
        MetaQModel.load_query_data(query, model)


def with_foreign_cell(part):
    """New cells of which the first has counts only in features that nobody knows."""
    counts, more = part.X.toarray(), np.zeros((part.n_obs, 5), np.float32)
    counts[0], more[0] = 0, 3
    found = AnnData(sparse.csr_matrix(np.hstack([counts, more])), part.obs.copy())
    found.var_names = [*part.var_names, *(f"new{i}" for i in range(5))]
    return found


def test_cells_that_are_empty_in_the_features_of_the_model_are_left_out(paired, reference, fit):
    scope = {"query": with_foreign_cell(query_of(paired)), "model": reference}
    match = "1 of 60 cells have no counts in the features of the model"
    assert_mended(lambda: MetaQModel.load_query_data(scope["query"], reference), scope, match)
    assert scope["query"].n_obs == 59
    scope = {"adata": with_foreign_cell(query_of(paired)), "model": reference}
    assert_mended(lambda: reference.get_assignments(scope["adata"]), scope, match)
    joint = fit(paired.copy())
    parts = {name: part.copy() for name, part in paired[:60].mod.items()}
    query = MuData(parts | {"rna": with_foreign_cell(parts["rna"])})
    scope = {"query": query, "model": joint}
    assert_mended(lambda: MetaQModel.load_query_data(scope["query"], joint), scope, match)


RENAMED = {
    "another column": lambda names: [f"ENSG{i:05}" for i in range(len(names))],
    "versions": lambda names: [f"{name}.{i % 9}" for i, name in enumerate(names)],
    "capitals": lambda names: names.str.upper(),
    "prefixes": lambda names: "GRCh38_" + names,
    "other prefixes": lambda names: "hg19-" + names,
    "spaces": lambda names: names + " ",
    "other names behind": lambda names: names + "_ENSG" + names,
}


@pytest.mark.parametrize("kind", RENAMED)
@pytest.mark.parametrize("where", ["adata", "mdata"])
def test_names_of_both_sides_are_shown_and_the_line_that_makes_them_match(
    paired, reference, fit, kind, where
):
    query = query_of(paired)
    query.var["symbol"] = pd.Categorical(query.var_names)
    if kind != "another column":
        del query.var["symbol"]
    query.var_names = list(RENAMED[kind](query.var_names))
    model = reference if where == "adata" else fit(paired.copy())
    if where == "mdata":
        query = MuData({"rna": query, "adt": paired["adt"][:60].copy()})
    scope = {"query": query, "model": model}
    match = "(?s)The model knows 'gene0', 'gene1', 'gene2', ...; query.*var_names are .*60 match by"
    assert_mended(lambda: MetaQModel.load_query_data(scope["query"], model), scope, match)
    if where == "adata":
        other = query_of(paired)
        other.var_names = list(RENAMED["capitals"](other.var_names))
        scope = {"adata": other, "model": model}
        assert_mended(lambda: model.get_assignments(other), scope, "The model knows 'gene0'")


def test_signs_in_names_of_peaks_do_not_matter_and_names_of_some_features_give_a_warning(
    paired, fit
):
    model, peaks = fit(paired["atac"].copy(), setup={"modality": "atac"}), paired["atac"].var_names
    for names in (peaks.str.replace(":", "-"), peaks.str.replace("[:-]", "_", regex=True)):
        for own in (names, names.str.removeprefix("chr")):
            query = paired["atac"][:60].copy()
            query.var_names = own
            scope = {"query": query, "model": model}
            match = "80 match by"
            assert_mended(lambda: MetaQModel.load_query_data(scope["query"], model), scope, match)  # noqa: B023
            assert list(query.var_names) == list(peaks)
    query.var_names = [*peaks[:50], *peaks[50:].str.upper()]
    with pytest.warns(UserWarning, match="30 of 80 atac features are missing. .*80 match by"):
        assert len(MetaQModel.load_query_data(query, model).missing_features["atac"]) == 30


def test_counts_that_a_tool_corrected_are_rounded(toy):
    toy.X = toy.X.astype(np.float64) * 30
    toy.X.data += np.random.default_rng(0).uniform(-0.4, 0.4, len(toy.X.data))
    expected = np.rint(toy.X.toarray())
    scope = {"adata": toy, "scipy": scipy}
    assert_mended(lambda: MetaQModel.setup_anndata(scope["adata"]), scope, "a tool corrected|SoupX")
    np.testing.assert_array_equal(toy.X.toarray(), expected)


def test_spliced_counts_are_the_advice_before_others(toy):
    for name in ("ambiguous", "spliced", "unspliced"):
        toy.layers[name] = toy.X.copy()
    toy.X = toy.X / 3
    with pytest.raises(ValueError, match='whole numbers: layer="spliced"'):
        MetaQModel.setup_anndata(toy)


def test_columns_of_a_modality_are_named_as_in_other_functions_or_copied(toy_mdata, fit):
    part = toy_mdata["rna"]
    part.obs["batch"], part.obs["kind"] = np.resize(["a", "b"], 150), part.obs["state"]
    del toy_mdata.obs["state"]
    for key in ("batch", "kind"):
        argument = "batch_key" if key == "batch" else "labels_key"
        scope = {"mdata": toy_mdata.copy()}
        call = lambda: MetaQModel.setup_mudata(scope["mdata"], **{argument: key})  # noqa: B023, E731
        assert_mended(call, scope, rf"mdata\['rna'\].obs has it: pass {argument}=\"rna:{key}\"")
    scope = {"mdata": toy_mdata.copy()}
    call = lambda: MetaQModel.setup_mudata(scope["mdata"], batch_key="adt:batch")  # noqa: E731
    with pytest.raises(KeyError, match=r"mdata\['rna'\].obs has it: pass batch_key=\"rna:batch\""):
        call()
    scope["mdata"]["rna"].obsm["X_mine"] = np.random.default_rng(0).normal(size=(150, 3))
    for key in ("rna:X_mine", "X_mine"):
        call = lambda: MetaQModel.setup_mudata(scope["mdata"], use_rep="X_mine")  # noqa: E731
        with pytest.raises(KeyError, match="Copy that of the modality, and name 'X_mine'"):
            MetaQModel.setup_mudata(scope["mdata"], use_rep=key)
    assert_mended(call, scope, "No embedding 'X_mine'")
    models = [
        fit(toy_mdata.copy(), setup=setup)
        for setup in (
            {"batch_key": "rna:batch", "labels_key": ["rna:kind", "rna:state"]},
            {
                "batch_key": "batch",
                "labels_key": ["kind", "state"],
                "modalities": {"batch_key": "rna", "labels_key": "rna"},
            },
        )
    ]
    assert models[0].get_assignments().equals(models[1].get_assignments())
    assert list(models[0].get_condition_embeddings()) == ["batch"]
    assert {"kind", "state_unknown"} <= set(models[0].predict_labels())
    metacells = models[0].get_metacells()
    assert {"batch", "kind", "state"} <= set(metacells["rna"].obs)
    with pytest.raises(ValueError, match="all columns of labels_key in one obs") as error:
        MetaQModel.setup_mudata(toy_mdata, labels_key=["rna:kind", "other"])
    exec(str(error.value).split("into one: ")[1].rstrip("."), {"mdata": toy_mdata})
    assert "kind" in toy_mdata.obs
    with pytest.raises(KeyError, match=r"pass categorical_covariate_keys=\[\"rna:batch\"\]"):
        MetaQModel.setup_mudata(toy_mdata, categorical_covariate_keys=["batch"])


def test_a_condition_that_only_a_modality_of_the_query_has_is_copied(toy_mdata, fit):
    toy_mdata.obs["batch"] = np.resize(["a", "b"], 150)
    model, query = fit(toy_mdata, setup={"batch_key": "batch"}), toy_mdata[:60].copy()
    query["rna"].obs["batch"] = query.obs["batch"].to_numpy()
    del query.obs["batch"]
    with pytest.raises(KeyError, match=r"No column 'batch' in query.obs. .*query\['rna'\].obs has"):
        MetaQModel.load_query_data(query, model)
    query.obs["batch"] = query["rna"].obs["batch"]
    MetaQModel.load_query_data(query, model)


def test_gaps_and_mixed_types_of_conditions_are_made_text(toy):
    toy.obs["gaps"] = toy.obs["state"].where(np.arange(150) > 3)
    toy.obs["mixed"] = pd.Series(np.resize(np.array([1, "a"], object), 150), toy.obs_names)
    for key, match in (("gaps", "4 missing values"), ("mixed", "found text and others")):
        scope = {"adata": toy}
        assert_mended(lambda: MetaQModel.setup_anndata(toy, batch_key=key), scope, match)  # noqa: B023


def test_a_query_of_the_wrong_class_is_told_how_to_become_the_right_one(paired, reference, fit):
    scope = {"query": paired[:60].copy()}
    with pytest.raises(TypeError, match="Expected an AnnData, found MuData") as error:
        MetaQModel.load_query_data(scope["query"], reference)
    exec(str(error.value).split("Pass one modality, ")[1].rstrip("."), scope)
    MetaQModel.load_query_data(scope["query"], reference)
    joint, scope = fit(paired.copy()), {"query": query_of(paired), "mudata": __import__("mudata")}
    with pytest.raises(TypeError, match="Expected a MuData with modalities .*'rna'") as error:
        MetaQModel.load_query_data(scope["query"], joint)
    exec(str(error.value).split("which it is, e.g. ")[1].rstrip("."), scope)
    MetaQModel.load_query_data(scope["query"], joint)
