import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import scmetaq

EXPORTS = {
    "scmetaq": {"COEM", "MetaQModel", "SCPoli", "data", "metrics", "pl", "tl"},
    "scmetaq.data": {"demo", "demo_batches", "demo_citeseq", "demo_multiome", "find_modalities"},
    "scmetaq.metrics": {
        "accuracy",
        "agreement",
        "balanced_accuracy",
        "compactness",
        "diffusion_compactness",
        "diffusion_map",
        "diffusion_separation",
        "dubious",
        "entropy",
        "evaluate",
        "inv",
        "mixing",
        "purity",
        "rna_atac_correlation",
        "separation",
    },
    "scmetaq.pl": {
        "composition",
        "conditions",
        "confusion",
        "embedding",
        "granularity",
        "metrics",
        "purity",
        "size",
        "training",
    },
    "scmetaq.tl": {
        "aggregate",
        "choose_n_metacells",
        "classify_conditions",
        "covariate_association",
        "feature_association",
        "peak_gene_links",
        "recover_embedding",
        "spectral_metacells",
    },
}
"""Names of the public contract that are there now; more may be."""

METHODS = [
    "setup_anndata",
    "train",
    "get_assignments",
    "get_metacells",
    "get_latent_representation",
    "get_codebook",
    "get_quantization_report",
    "get_granularity_report",
    "get_condition_embeddings",
    "predict_labels",
    "get_prototypes",
    "add_labels",
    "setup_mudata",
    "save",
    "load",
    "load_query_data",
    "add_metacells",
]

SIGNATURES = {
    "MetaQModel.setup_anndata": (
        ["adata"],
        {
            "modality": "rna",
            "layer": None,
            "batch_key": None,
            "categorical_covariate_keys": None,
            "labels_key": None,
            "unlabeled_category": "Unknown",
        },
    ),
    "MetaQModel.get_assignments": (
        ["adata"],
        {"n_metacells": None, "within": None, "min_cells": 5},
    ),
    "MetaQModel.get_metacells": (
        ["adata"],
        {"n_metacells": None, "within": None, "min_cells": 5},
    ),
    "MetaQModel.get_latent_representation": (["adata"], {}),
    "MetaQModel.get_quantization_report": (["adata"], {}),
    "MetaQModel.get_codebook": ([], {}),
    "MetaQModel.load_query_data": (["query", "reference"], {"min_shared": 0.2}),
    "MetaQModel.add_metacells": ([], {"quantile": 0.9, "min_cells": 10}),
    "MetaQModel.get_condition_embeddings": ([], {}),
    "MetaQModel.predict_labels": (["adata"], {"unknown_above": 0.99}),
    "MetaQModel.get_prototypes": (["landmarks_of"], {"resolution": 1.0, "seed": 0}),
    "MetaQModel.add_labels": (["adata", "labels_key"], {}),
    "MetaQModel.setup_mudata": (
        ["mdata"],
        {
            "rna_layer": None,
            "adt_layer": None,
            "atac_layer": None,
            "batch_key": None,
            "categorical_covariate_keys": None,
            "labels_key": None,
            "unlabeled_category": "Unknown",
            "modalities": None,
        },
    ),
    "COEM.setup_mudata": (
        ["mdata"],
        {
            "rna_layer": None,
            "atac_layer": None,
            "batch_key": None,
            "categorical_covariate_keys": None,
            "labels_key": None,
            "unlabeled_category": "Unknown",
            "modalities": None,
        },
    ),
    "SCPoli.setup_anndata": (
        ["adata"],
        {
            "modality": "rna",
            "layer": None,
            "batch_key": None,
            "categorical_covariate_keys": None,
            "labels_key": None,
            "unlabeled_category": "Unknown",
        },
    ),
    "SCPoli.get_latent_representation": (["adata"], {}),
    "SCPoli.get_condition_embeddings": ([], {}),
    "SCPoli.predict_labels": (["adata"], {}),
    "SCPoli.add_labels": (["adata", "labels_key"], {}),
    "COEM.get_assignments": (["adata"], {"n_neighbors": 15, "seed": 0}),
    "COEM.get_metacells": (["adata"], {"n_neighbors": 15, "seed": 0}),
    "COEM.get_latent_representation": (["adata"], {}),
    "tl.aggregate": (["adata_or_mdata", "by"], {"layer": None}),
    "tl.classify_conditions": (["samples", "label"], {"n_neighbors": 5, "use_rep": None}),
    "tl.covariate_association": (["samples", "covariates"], {"use_rep": "X_pca"}),
    "tl.feature_association": (["adata", "samples", "by"], {"use_rep": "X_pca", "layer": None}),
    "pl.conditions": (["samples", "color"], {"basis": "X_pca", "ax": None}),
    "tl.choose_n_metacells": (["model", "grid"], {}),
    "pl.granularity": (["curve"], {"ax": None}),
    "tl.spectral_metacells": (["z", "n_metacells"], {"n_neighbors": 15, "seed": 0}),
    "tl.recover_embedding": (
        ["adata", "metacells", "use_rep"],
        {"basis": None, "by": "metacell", "layer": None, "seed": 0},
    ),
    "tl.peak_gene_links": (
        ["rna_metacells", "atac_metacells"],
        {"window": 100_000, "n_background": 100, "seed": 0},
    ),
    "metrics.purity": (["assignment", "labels"], {}),
    "metrics.balanced_accuracy": (["assignment", "labels"], {}),
    "metrics.compactness": (["X", "assignment"], {}),
    "metrics.separation": (["X", "assignment"], {}),
    "metrics.agreement": (["a", "b"], {}),
    "metrics.evaluate": (
        ["adata", "assignment", "labels"],
        {
            "conditions": None,
            "use_rep": None,
            "find_dubious": False,
            "layer": None,
            "modalities": None,
        },
    ),
    "metrics.diffusion_map": (["X"], {"n_components": 10, "n_neighbors": 30}),
    "metrics.diffusion_compactness": (["X", "assignment"], {}),
    "metrics.diffusion_separation": (["X", "assignment"], {}),
    "metrics.dubious": (
        ["X", "assignment"],
        {
            "level": 0.01,
            "n_permutations": 50,
            "min_detected": 0.1,
            "max_cells": 500,
            "seed": 0,
        },
    ),
    "metrics.entropy": (["assignment", "labels"], {}),
    "metrics.inv": (["X", "assignment"], {}),
    "metrics.rna_atac_correlation": (["rna_metacells", "atac_metacells", "links"], {}),
    "pl.embedding": (
        ["adata"],
        {"metacell": "metacell", "basis": "X_umap", "color": None, "ax": None},
    ),
    "pl.size": (["sizes"], {"ax": None}),
    "pl.purity": (["metacells", "label"], {"ax": None}),
    "pl.composition": (["counts", "groups"], {"colors": None, "ax": None}),
    "pl.confusion": (["cells", "truth", "predicted"], {"ax": None}),
    "pl.metrics": (["frame", "which"], {"axes": None}),
    "pl.training": (["history"], {"axes": None}),
    "metrics.mixing": (["assignment", "conditions", "labels"], {}),
    "data.demo": ([], {}),
    "data.demo_multiome": ([], {}),
    "data.demo_batches": ([], {}),
    "data.demo_citeseq": ([], {}),
    "data.find_modalities": (["mdata", "modalities"], {}),
}
"""Positional names and keyword-only defaults that callers may rely on."""

PARTS = ["data", "metrics", "model", "module", "nn", "pl", "tl", "train"]


def find(name):
    found = scmetaq
    for part in name.split("."):
        found = getattr(found, part)
    return found


def positional(function):
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.name not in ("self", "cls")]


def exported(part):
    module = import_module(f"scmetaq.{part}")
    return {f"{part}.{name}": getattr(module, name) for name in module.__all__}


def is_hook(cls, method):
    """Whether a framework calls it, and so says which arguments it takes."""
    bases = (base for base in cls.__mro__ if not base.__module__.startswith("scmetaq"))
    return any(method in vars(base) for base in bases)


EVERYTHING = {name: thing for part in PARTS for name, thing in exported(part).items()}
FUNCTIONS = {name: thing for name, thing in EVERYTHING.items() if inspect.isfunction(thing)} | {
    f"{name}.{method}": function
    for name, thing in EVERYTHING.items()
    if inspect.isclass(thing)
    for method, function in inspect.getmembers(thing, inspect.isroutine)
    if not method.startswith("_")
    and getattr(function, "__module__", "").startswith("scmetaq")
    and not is_hook(thing, method)
}
CLASSES = {
    name: thing
    for name, thing in EVERYTHING.items()
    if inspect.isclass(thing) and not issubclass(thing, tuple)
}


@pytest.mark.parametrize("module", EXPORTS)
def test_names_of_the_contract_are_there(module):
    loaded = import_module(module)
    assert set(loaded.__all__) >= EXPORTS[module]
    assert all(hasattr(loaded, name) for name in loaded.__all__)
    assert len(set(loaded.__all__)) == len(loaded.__all__)


def test_the_models_verbs_are_there():
    assert all(callable(getattr(scmetaq.MetaQModel, name)) for name in METHODS)
    assert positional(scmetaq.MetaQModel)[:2] == ["adata", "n_metacells"]
    assert positional(scmetaq.MetaQModel.load)[:2] == ["dir_path", "adata"]


@pytest.mark.parametrize("model", ["COEM", "MetaQModel", "SCPoli"])
def test_training_takes_the_words_of_scvi_tools(model):
    words = ["max_epochs", "accelerator", "devices", "batch_size", "early_stopping", "plan_kwargs"]
    parameters = inspect.signature(getattr(scmetaq, model).train).parameters
    assert set(words) <= set(parameters)
    assert all(parameters[word].default is not inspect.Parameter.empty for word in words)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_of_the_contract(name):
    names, keywords = SIGNATURES[name]
    function = find(name)
    assert positional(function) == names
    parameters = inspect.signature(function).parameters
    assert {key: parameters[key].default for key in keywords} == keywords
    assert all(parameters[key].kind == inspect.Parameter.KEYWORD_ONLY for key in keywords)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_most_three_positional_arguments(name):
    assert len(positional(FUNCTIONS[name])) <= 3


@pytest.mark.parametrize("name", CLASSES)
def test_at_most_twelve_constructor_arguments(name):
    parameters = inspect.signature(CLASSES[name].__init__).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert len(named) - 1 <= 12


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_everything_is_documented(name):
    thing = {**FUNCTIONS, **CLASSES}[name]
    assert inspect.getdoc(thing)


def test_version_is_that_of_the_distribution():
    assert scmetaq.__version__ == version("scmetaq")


IMPORT = """
import json, logging, os, random, sys, warnings
import anndata, geosketch, jax, lightning.pytorch, matplotlib, matplotlib.pyplot, mudata
import numpy, pandas, scanpy, scvi, sklearn, torch

def state():
    return {
        "handlers": [repr(h) for h in logging.getLogger().handlers],
        "level": logging.getLogger().level,
        "own handlers": [repr(h) for h in logging.getLogger("scmetaq").handlers],
        "scvi handlers": [repr(h) for h in logging.getLogger("scvi").handlers],
        "warnings": [repr(f) for f in warnings.filters],
        "random": repr(random.getstate()),
        "numpy": repr(numpy.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": repr(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "seed": scvi.settings.seed,
        "verbosity": scvi.settings.verbosity,
        "backend": matplotlib.get_backend(auto_select=False),
        "style": dict.__repr__(matplotlib.rcParams),
        "x64": jax.config.jax_enable_x64,
        "environment": dict(os.environ),
        "files": sorted(os.listdir(".")),
    }

before = state()
import scmetaq
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, changed
assert "scmetaq.cli" not in sys.modules
assert "scmetaq.report" not in sys.modules
"""


@pytest.mark.slow
def test_importing_does_nothing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_nothing_heavy_is_loaded_before_it_is_used():
    code = (
        "import sys, scmetaq, scmetaq.cli\n"
        "assert set(scmetaq.__all__) <= set(dir(scmetaq))\n"
        "assert not {'torch', 'scvi', 'jax', 'scanpy', 'pandas'} & set(sys.modules)\n"
        "scmetaq.MetaQModel, scmetaq.tl.aggregate\n"
        "assert 'torch' in sys.modules\n"
        "assert not hasattr(scmetaq, 'nonsense')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
