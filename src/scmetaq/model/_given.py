"""Cells as callers of scvi-tools' models give them: some of them, or a loader; and what is not."""

from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS

from scmetaq._errors import InputKeyError, InputTypeError, InputValueError, check_int, listed
from scmetaq.data._cells import Cells
from scmetaq.data._containers import names_of

ON_DISK = "Cells on disk are read as they are: adata = anndata.experimental.read_lazy(path)."


class Chosen(NamedTuple):
    """Cells that a caller asks for."""

    cells: Cells
    """Each once, in the order of the data."""
    rows: Any
    """Their rows of the data."""
    place: Any
    """Cell of each row of the result."""
    data: Any
    """The AnnData or MuData."""

    def of_all(self, values: pd.Series) -> pd.Series:
        """Values of all cells of the data, missing but for those chosen."""
        return values if isinstance(self.rows, slice) else values.reindex(names_of(self.data))


def choose(
    model: Any, adata: Any, indices: Any = None, batch_size: Any = None, dataloader: Any = None
) -> Chosen:
    """The cells of ``adata`` with these indices, in their order, or those that a loader yields."""
    check_int("batch_size", batch_size, optional=True)
    if dataloader is not None:
        if adata is not None or indices is not None:
            problem = "Expected a dataloader, or adata and indices, found both."
            raise InputValueError(problem, argument="dataloader")
        adata = _loaded(model, dataloader)
    cells = model._cells(model._registered(adata))
    if indices is None:
        return Chosen(cells, slice(None), slice(None), cells.data)
    rows, place = np.unique(_positions(indices, cells.n_cells), return_inverse=True)
    return Chosen(cells.only(rows), rows, place, cells.data)


def get_latent_representation(
    self: Any,
    adata: AnnData | MuData | None = None,
    *,
    indices: Any = None,
    batch_size: int | None = None,
    dataloader: Any = None,
) -> np.ndarray:
    """Latents of cells, ``(n_cells, n_latent)``: the means of their posteriors.

    Those of MetaQModel are what cells and codes are compared by: of each modality the learnt state
    and, by default, up to 200 principal components of the profile; then labels with a weight.

    Parameters
    ----------
    adata
        Cells with the features of the model, of conditions that it knows; by default its own.
    indices, batch_size, dataloader
        As in scvi-tools: rows of ``adata``, in any order; cells per pass, which change no result;
        or minibatches in place of ``adata``, held in memory.
    """
    chosen = choose(self, adata, indices, batch_size, dataloader)
    return self._latents(chosen.cells)[chosen.place]


def _positions(indices: Any, n_cells: int) -> np.ndarray:
    """Rows that are meant, by their numbers or by a mask."""
    found = np.asarray(indices)
    if found.dtype == bool and found.shape == (n_cells,):
        found = np.flatnonzero(found)
    is_number = found.ndim == 1 and found.dtype.kind in "iu" and len(found)
    if not is_number or found.min() < -n_cells or found.max() >= n_cells:
        problem = f"Expected indices of some of the {n_cells:,} cells, or a mask of all, found"
        raise InputValueError(f"{problem} {indices!r}.", argument="indices")
    return np.where(found < 0, found + n_cells, found)


def _loaded(model: Any, dataloader: Iterable[dict[str, Any]]) -> AnnData | MuData:
    """Cells of minibatches as scvi-tools' loaders yield them, in memory."""
    keys = {kind: kind if model._reads_mudata else REGISTRY_KEYS.X_KEY for kind in model._sources}
    counts: dict[str, list[Any]] = {kind: [] for kind in keys}
    codes, sizes = list[np.ndarray](), list[np.ndarray]()
    fields = model.registry["field_registries"]
    every = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.CAT_COVS_KEY)
    of_conditions = [key for key in every if key in fields]
    for tensors in dataloader:
        for kind, key in keys.items():
            if tensors.get(key) is None:
                problem = f"Expected minibatches with counts as {key!r}, found {listed(tensors)}."
                raise InputKeyError(problem, argument="dataloader")
            dense = tensors[key].to_dense()
            counts[kind].append(sp.csr_matrix(dense.cpu().numpy()))
        there = [tensors[key].cpu().numpy() for key in of_conditions]
        codes.append(np.hstack([np.empty((len(dense), 0)), *there]))
        if model._size_factor_key is not None:
            sizes.append(tensors[REGISTRY_KEYS.SIZE_FACTOR_KEY].cpu().numpy().ravel())
    if not codes:
        raise InputValueError("Expected minibatches of cells, found none.", argument="dataloader")
    of_cells = np.vstack(codes).astype(int)
    obs = pd.DataFrame(index=[str(i) for i in range(len(of_cells))])
    for column, (key, categories, _) in zip(of_cells.T, model._conditions, strict=True):
        obs[key] = np.array(categories, dtype=object)[column]
    if sizes:
        obs[model._size_factor_key] = np.concatenate(sizes)
    parts = {}
    for kind, (name, layer) in model._sources.items():
        matrix: Any = sp.vstack(counts[kind], format="csr")
        var = pd.DataFrame(index=model._features[kind])
        layers = {} if layer is None else {layer: matrix}
        parts[name] = AnnData(matrix if layer is None else None, obs.copy(), var, layers=layers)
    if not model._reads_mudata:
        return parts[None]
    found: Any = MuData(parts)
    found.obs = obs
    return found


def check_can_be_made(model: str, adata: Any, registry: Any) -> None:
    """Refuse to make a model of nothing, or of the registry of another."""
    if adata is None and registry is None:
        problem = f"Expected cells, or the registry of a {model}, found neither."
        fix = f"Register cells, {model}.setup_anndata(adata), and pass them."
        raise InputValueError(problem, fix, "adata")
    if adata is None:
        name, method = registry.get("model_name"), registry.get("setup_method_name")
        if name != model or method not in ("setup_anndata", "setup_mudata"):
            problem = f"Expected the registry of a {model}, found that of {name} by {method}."
            raise InputValueError(problem, ON_DISK, "registry")


def refuse_datamodule() -> NoReturn:
    """Say how cells on disk are read."""
    raise InputTypeError("Expected no datamodule: none is needed.", ON_DISK, "datamodule")


_REFUSED = {
    "continuous_covariate_keys": "effects of numbers, such as a share of mitochondrial counts, are "
    "not modelled: leave it out, or pass bins of it as categorical_covariate_keys.",
    "size_factor_key": "size factors are those of one kind of counts: leave it out, or register "
    "that kind alone with setup_anndata.",
}


def checked_setup_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Refuse arguments of other models of scvi-tools by name, unless they are None."""
    known = {"source_registry", "extend_categories", "allow_missing_labels"}
    given = {k: value for k, value in given.items() if k not in _REFUSED or value is not None}
    for name in given:
        if name in _REFUSED:
            raise InputTypeError(f"Expected no {name}: {_REFUSED[name]}", argument=name)
        if name not in known:
            raise InputTypeError(f"Unknown argument {name!r} of the set-up.", argument=name)
    return given


_TRUE_OF_MAPPING = {
    **dict.fromkeys(("freeze_expression", "freeze_decoder_first_layer", "freeze_classifier"), True),
    **dict.fromkeys(("freeze_dropout", "freeze_batchnorm_encoder"), True),
    **{"freeze_batchnorm_decoder": True, "transfer_batch": True, "unfrozen": False},
    **{"inplace_subset_query_vars": False, "registry": None, "datamodule": None},
}
"""scvi-tools' arguments of the mapping of a query, and what is true of ours."""


def check_mapping_arguments(given: dict[str, Any]) -> None:
    """Accept scvi-tools' arguments that say what is done anyway; refuse others by name."""
    for name, value in given.items():
        if name not in _TRUE_OF_MAPPING:
            raise InputTypeError(f"Unknown argument {name!r} of load_query_data.", argument=name)
        if value != _TRUE_OF_MAPPING[name]:
            raise InputValueError(
                f"Expected {name}={_TRUE_OF_MAPPING[name]}, found {value!r}: everything but the "
                "effects of new conditions is frozen, and the query is not changed.",
                "Leave it out.",
                name,
            )
