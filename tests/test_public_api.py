import inspect
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import scmetaq

EXPORTS = {
    "scmetaq": "COEM MetaQModel SCPoli data metrics pl tl",
    "scmetaq.data": "demo demo_batches demo_citeseq demo_multiome find_modalities split_modalities",
    "scmetaq.metrics": """accuracy agreement balanced_accuracy classifier_test compactness density
        diffusion_compactness diffusion_map diffusion_separation dubious entropy
        euclidean_compactness euclidean_separation evaluate inner_fold inner_stdev integration_score
        inv lisi mixing modality_correlation module_preservation purity rna_atac_correlation
        separation silhouette""",
    "scmetaq.pl": """composition conditions confusion embedding granularity metrics purity size
        training""",
    "scmetaq.tl": """aggregate choose_n_metacells classify_conditions covariate_association
        feature_association peak_gene_links recover_embedding spectral_metacells""",
}
"""Names of the public contract that are there now; more may be."""

COLUMNS = """batch_key=None, categorical_covariate_keys=None, labels_key=None,
    unlabeled_category="Unknown\""""
SIGNATURES = f"""
MetaQModel.setup_anndata(adata, *, modality="rna", layer=None, {COLUMNS})
MetaQModel.setup_mudata(mdata, *, rna_layer=None, adt_layer=None, atac_layer=None, {COLUMNS},
    modalities=None)
MetaQModel.get_assignments(adata, *, n_metacells=None, within=None, min_cells=5)
MetaQModel.get_metacells(adata, *, n_metacells=None, within=None, min_cells=5)
MetaQModel.get_latent_representation(adata)
MetaQModel.get_quantization_report(adata)
MetaQModel.get_codebook()
MetaQModel.load_query_data(query, reference, *, min_shared=0.2)
MetaQModel.add_metacells(*, quantile=0.9, min_cells=10)
MetaQModel.get_condition_embeddings()
MetaQModel.predict_labels(adata, *, unknown_above=0.99)
MetaQModel.get_prototypes(landmarks_of, *, resolution=1.0, seed=0)
MetaQModel.add_labels(adata, labels_key)
COEM.setup_mudata(mdata, *, rna_layer=None, atac_layer=None, {COLUMNS}, modalities=None)
COEM.get_assignments(adata, *, n_neighbors=15, seed=0)
COEM.get_metacells(adata, *, n_neighbors=15, seed=0)
COEM.get_latent_representation(adata)
SCPoli.setup_anndata(adata, *, modality="rna", layer=None, {COLUMNS})
SCPoli.get_latent_representation(adata)
SCPoli.get_condition_embeddings()
SCPoli.predict_labels(adata)
SCPoli.add_labels(adata, labels_key)
tl.aggregate(adata_or_mdata, by, *, layer=None)
tl.choose_n_metacells(model, grid)
tl.classify_conditions(samples, label, *, n_neighbors=5, use_rep=None)
tl.covariate_association(samples, covariates, *, use_rep="X_pca")
tl.feature_association(adata, samples, by, *, use_rep="X_pca", layer=None)
tl.peak_gene_links(rna_metacells, atac_metacells, *, window=100_000, n_background=100, seed=0)
tl.recover_embedding(adata, metacells, use_rep, *, basis=None, by="metacell", layer=None, seed=0)
tl.spectral_metacells(z, n_metacells, *, n_neighbors=15, seed=0)
metrics.agreement(a, b)
metrics.balanced_accuracy(assignment, labels)
metrics.compactness(X, assignment)
metrics.diffusion_compactness(X, assignment)
metrics.diffusion_map(X, *, n_components=10, n_neighbors=30)
metrics.diffusion_separation(X, assignment)
metrics.dubious(X, assignment, *, level=0.01, n_permutations=50, min_detected=0.1, max_cells=500,
    seed=0)
metrics.entropy(assignment, labels)
metrics.evaluate(adata, assignment, labels, *, conditions=None, use_rep=None, find_dubious=False,
    layer=None, modalities=None)
metrics.inv(X, assignment)
metrics.mixing(assignment, conditions, labels)
metrics.purity(assignment, labels)
metrics.rna_atac_correlation(rna_metacells, atac_metacells, links)
metrics.separation(X, assignment)
pl.composition(counts, groups, *, colors=None, ax=None)
pl.conditions(samples, color, *, basis="X_pca", ax=None)
pl.confusion(cells, truth, predicted, *, ax=None)
pl.embedding(adata, *, metacell="metacell", basis="X_umap", color=None, ax=None)
pl.granularity(curve, *, ax=None)
pl.metrics(frame, which, *, axes=None)
pl.purity(metacells, label, *, ax=None)
pl.size(sizes, *, ax=None)
pl.training(history, *, axes=None)
data.demo()
data.demo_batches()
data.demo_citeseq()
data.demo_multiome()
data.find_modalities(mdata, modalities)
"""
"""Positional names and keyword-only defaults that callers may rely on."""
PROMISED = dict(re.findall(r"^([\w.]+)(\([^)]*\))", SIGNATURES, re.MULTILINE))

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
    assert set(loaded.__all__) >= set(EXPORTS[module].split())
    assert all(hasattr(loaded, name) for name in loaded.__all__)
    assert len(set(loaded.__all__)) == len(loaded.__all__)


def test_further_verbs_of_the_model_and_the_version_are_there():
    for name in ("train", "save", "load", "get_granularity_report"):
        assert callable(getattr(scmetaq.MetaQModel, name))
    assert positional(scmetaq.MetaQModel)[:2] == ["adata", "n_metacells"]
    assert positional(scmetaq.MetaQModel.load)[:2] == ["dir_path", "adata"]
    assert scmetaq.__version__ == version("scmetaq")


@pytest.mark.parametrize("model", ["COEM", "MetaQModel", "SCPoli"])
def test_training_takes_the_words_of_scvi_tools(model):
    words = ["max_epochs", "accelerator", "devices", "batch_size", "early_stopping", "plan_kwargs"]
    parameters = inspect.signature(getattr(scmetaq, model).train).parameters
    assert set(words) <= set(parameters)
    assert all(parameters[word].default is not inspect.Parameter.empty for word in words)


@pytest.mark.parametrize("name", PROMISED)
def test_signatures_of_the_contract(name):
    scope: dict = {}
    exec(f"def promised{PROMISED[name]}: ...", scope)
    function, promised = find(name), scope["promised"]
    assert positional(function) == positional(promised)
    found, expected = (inspect.signature(of).parameters for of in (function, promised))
    for key, parameter in expected.items():
        if parameter.kind == inspect.Parameter.KEYWORD_ONLY:
            assert (found[key].kind, found[key].default) == (parameter.kind, parameter.default)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented_and_have_at_most_three_positional_arguments(name):
    assert inspect.getdoc(FUNCTIONS[name])
    assert len(positional(FUNCTIONS[name])) <= 3


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_documented_and_have_at_most_fourteen_arguments(name):
    assert inspect.getdoc(CLASSES[name])
    parameters = inspect.signature(CLASSES[name].__init__).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert len(named) - 1 <= 14


IMPORT = """
import json, logging, os, random, sys, warnings
import anndata, geosketch, jax, lightning.pytorch, matplotlib, matplotlib.pyplot, mudata
import numpy, pandas, scanpy, scvi, sklearn, torch

def state():
    loggers = [logging.getLogger(name) for name in (None, "scmetaq", "scvi")]
    return {
        "logging": [(repr(of.handlers), of.level) for of in loggers],
        "warnings": repr(warnings.filters),
        "random": [repr(random.getstate()), repr(numpy.random.get_state())],
        "torch random": torch.get_rng_state().tolist(),
        "torch": [torch.get_num_threads(), repr(torch.get_default_dtype())],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "scvi": [scvi.settings.seed, scvi.settings.verbosity],
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
