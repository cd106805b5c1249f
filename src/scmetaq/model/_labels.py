from collections.abc import Iterator
from typing import Any, cast

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError, check_choice, check_share
from scmetaq._progress import with_progress
from scmetaq.data._cells import Cells
from scmetaq.data._columns import Labels, read_labels
from scmetaq.data._plain import with_plain_tables
from scmetaq.nn import LabelPrototypes, PrototypeFit, PrototypeState
from scmetaq.nn._inputs import Inputs
from scmetaq.nn._prototype_fit import N_FOLDS
from scmetaq.tl._spectral import neighbor_affinity

from ._base import Mixin

_CHUNK = 16_384
"""Cells whose latents are held at a time."""
_CELLS_FOR_SCALE = 20_000
"""Cells to which the scale of the uncertainty is fitted, where more have a label."""
_NEIGHBORS = 15
"""Neighbours of each cell in the graph whose clusters are landmarks."""


class LabelsMixin(Mixin):
    """Labels of cells by the nearest prototype in the latent, for any model with latents.

    A model calls :meth:`_add_prototypes` when it makes its module, so that prototypes are part of
    its state, and :meth:`_fit_prototypes` when it is trained.
    """

    def predict_labels(
        self,
        adata: AnnData | MuData | None = None,
        *,
        unknown_above: float = 0.99,
        indices: Any = None,
        batch_size: int | None = None,
        dataloader: Any = None,
    ) -> pd.DataFrame:
        r"""Labels of cells: that of the nearest prototype, how sure it is, whether it is unknown.

        Nothing is drawn at random, and a cell's result does not depend on other cells.

        Parameters
        ----------
        adata
            Cells to label, with the features of the model; by default those of the model. Labels
            that they may have are not looked at.
        unknown_above
            Uncertainty above which a cell counts as of an unknown type, between 0 and 1. About one
            in a hundred cells of known types lies above the default: see
            :doc:`/user_guide/label_transfer`.
        indices, batch_size, dataloader
            As of :meth:`get_latent_representation`.

        Returns
        -------
        Indexed by barcode, for each key of labels

        - ``<key>``: label of the nearest prototype, also of cells of an unknown type;
        - ``<key>_uncertainty``: share of labelled reference cells that lie nearer to their
          prototype than this cell to its own, distances being measured by what is typical of the
          label. The reference cells were compared with prototypes of other cells, and how much
          nearer new cells lie is accounted for. It is the same scale for every key and in every
          call;
        - ``<key>_distance``: the distance as measured, in standard deviations within labels along
          :math:`E` axes of the state: about :math:`\sqrt{E}` for a typical cell of a label;
        - ``<key>_unknown``: whether the uncertainty is above ``unknown_above``.

        Raises
        ------
        ValueError
            The model was set up or trained without labels.

        References
        ----------
        De Donno et al., scPoli, Nature Methods 2023.
        """
        check_share("unknown_above", unknown_above)
        self._check_has_prototypes()
        chosen = self._chosen(adata, indices, batch_size, dataloader)
        found: dict[str, list[np.ndarray]] = {}
        for _, z, number in self._latents_in_chunks(chosen.cells):
            for key, prototypes in self._prototypes.items():
                nearest = prototypes.nearest(z, prototypes.is_new(number))
                label, uncertainty, distance = (values.numpy() for values in nearest)
                columns = {
                    key: np.array(prototypes.labels, dtype=object)[label],
                    f"{key}{_keys.UNCERTAINTY_SUFFIX}": uncertainty,
                    f"{key}{_keys.DISTANCE_SUFFIX}": distance,
                    f"{key}{_keys.UNKNOWN_SUFFIX}": uncertainty > unknown_above,
                }
                for name, values in columns.items():
                    found.setdefault(name, []).append(values)
        joined = {name: np.concatenate(values) for name, values in found.items()}
        return pd.DataFrame(joined, index=chosen.cells.names).iloc[chosen.place]

    def get_prototypes(
        self,
        landmarks_of: AnnData | MuData | None = None,
        *,
        resolution: float = 1.0,
        seed: int = 0,
    ) -> AnnData:
        """Prototypes of labels in the latent, and on request landmarks of unlabelled cells.

        Parameters
        ----------
        landmarks_of
            Cells, with labels or without, whose latents are clustered (Leiden); the means of the
            clusters are landmarks, of which one that is far from all prototypes points to a new
            type. By default there are none. They are looked at, never trained on, and not kept.
        resolution
            Resolution of the clustering: more of it makes more landmarks.
        seed
            Seed of the clustering.

        Returns
        -------
        A row per prototype, named ``<key>:<label>``, and per landmark, named ``landmark:<number>``.
        ``X``: their position, ``(n_rows, n_latent)``; ``obs``: ``label`` and ``labels_key``, which
        are empty of landmarks, ``n_cells``, and ``kind``, ``"label"`` or ``"landmark"``.

        Raises
        ------
        ValueError
            The model has no labels, and no landmarks are asked for.
        """
        if landmarks_of is None:
            self._check_has_prototypes()
        parts = [
            _rows(p.means.cpu().numpy(), p.n_cells.cpu().numpy(), p.labels, key)
            for key, p in self._prototypes.items()
        ]
        if landmarks_of is not None:
            parts.append(self._landmarks(landmarks_of, resolution, seed))
        found = anndata.concat(parts)
        found.var_names = [f"z{i}" for i in range(found.n_vars)]
        return with_plain_tables(found)

    def add_labels(self, adata: AnnData | MuData, labels_key: str) -> None:
        """Make prototypes of new types from labelled cells; nothing is retrained.

        Prototypes that are there, the metric and the scale stay as they are, so cells are
        labelled as before unless they are nearer to a new type. :meth:`save` keeps the new ones.

        Parameters
        ----------
        adata
            Cells with the features of the model and labels in ``obs[labels_key]``. Cells without a
            label, or of a type that the model knows, are ignored.
        labels_key
            Key of labels that the model was set up with, to which the new types belong.

        Raises
        ------
        KeyError
            No such column.
        ValueError
            The model does not know the key, or there are no new types among the labels.
        """
        self._check_has_prototypes()
        check_choice("labels_key", labels_key, list(self._prototypes))
        prototypes = self._prototypes[labels_key]
        data = self._registered(adata)
        names, codes = self._labels_of(data, labels_key)
        if not names:
            problem = f"Expected labels in obs[{labels_key!r}] of the cells, found"
            fix = "Put the names of the new types there."
            raise InputKeyError(f"{problem} no such column or no value in it.", fix, "adata")
        known = prototypes.labels
        new = [i for i, name in enumerate(names) if name not in known]
        if not new:
            problem = f"Expected new types in obs[{labels_key!r}], found only labels that the model"
            fix = "They keep their prototypes."
            raise InputValueError(
                f"{problem} knows: {', '.join(map(repr, names[:5]))}.", fix, "adata"
            )
        chosen = np.flatnonzero(np.isin(codes, new))
        sums = np.zeros((len(names), prototypes.means.shape[1]))
        for cells, z, _ in self._latents_in_chunks(self._cells(data), chosen):
            np.add.at(sums, codes[cells], z.numpy())
        n_cells = np.bincount(codes[chosen], minlength=len(names))[new]
        means = torch.from_numpy(sums[new] / n_cells[:, None])
        prototypes.add([names[i] for i in new], means, torch.from_numpy(n_cells))

    def _landmarks(self, adata: AnnData | MuData, resolution: float, seed: int) -> AnnData:
        """Means of clusters of latents."""
        z = self._learnt(self._cells(self._registered(adata)))
        if len(z) <= _NEIGHBORS:
            problem = f"Expected more than {_NEIGHBORS} cells to find landmarks in, found {len(z)}."
            raise InputValueError(problem, argument="landmarks_of")
        graph = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(z))]))
        affinity = neighbor_affinity(z, _NEIGHBORS, seed=seed)
        options: dict[str, Any] = {"flavor": "igraph", "n_iterations": 2, "directed": False}
        sc.tl.leiden(graph, resolution, adjacency=affinity, random_state=seed, **options)
        cluster = graph.obs["leiden"].cat.codes.to_numpy()
        sizes = np.bincount(cluster)
        means = np.stack([z[cluster == i].mean(0) for i in range(len(sizes))])
        return _rows(means, sizes, None, "")

    def _check_has_prototypes(self) -> None:
        self._check_if_trained(warn=False)
        if not self._label_keys:
            fix = "Name their columns at set-up with labels_key, and train it."
            raise InputValueError("The model knows no labels.", fix)
        for key, prototypes in self._prototypes.items():
            if not prototypes.labels:
                problem = f"The model has no prototypes of {key!r}: no two cells that it was"
                fix = "Train it with labelled cells."
                raise InputValueError(f"{problem} trained on had a label in common.", fix)

    @property
    def _prototypes(self) -> dict[str, LabelPrototypes]:
        """Prototypes by key of labels."""
        return dict(zip(self._label_keys, cast(Any, self.module.prototypes), strict=True))

    def _add_prototypes(self, n_latent: int) -> None:
        """Make room for prototypes in the state of the module."""
        found = [LabelPrototypes(n_latent) for _ in self._label_keys]
        self.module.prototypes = torch.nn.ModuleList(found)

    def _labels_of(self, data: Any, key: str) -> Labels:
        args = self.registry["setup_args"]
        where = (args.get("modalities") or {}).get("labels_key")
        return read_labels(data, key, args["unlabeled_category"], where)

    @property
    def _grouping_names(self) -> list[str]:
        """Names of the labels that cells are grouped by; none if they are not."""
        if not self._label_weight:
            return []
        of_labels = self.registry["field_registries"][REGISTRY_KEYS.LABELS_KEY]["state_registry"]
        return [str(name) for name in of_labels["categorical_mapping"][:-1]]

    def _grouping_labels(self, data: Any) -> np.ndarray:
        """Which of these labels each cell has, -1 for none, ``(n_cells, 1)``."""
        return self._labels_of(data, self._label_keys[0]).among(self._grouping_names)[:, None]

    def _fit_grouping(self, fitted_to: np.ndarray | None) -> None:
        """Fit the prototypes that cells without labels are grouped by, and the scale of labels."""
        self._fit_prototypes(fitted_to)
        key, names = self._label_keys[0], self._grouping_names
        prototypes: LabelPrototypes = self.module.prototypes[0]
        if prototypes.labels[: len(names)] != names:
            problem = f"Expected the labels in obs[{key!r}] that the cells were set up with, found"
            fix = "Register the cells again, and make a new model."
            raise InputValueError(f"{problem} others.", fix, "label_weight")
        self.module.label_scale.fill_((self._label_weight * prototypes.within) ** 0.5)

    def _fit_prototypes(self, fitted_to: np.ndarray | None = None) -> None:
        """Fit prototypes to the labels of the model's cells; keys without any stay as they are.

        ``fitted_to`` are sorted indices of the cells that the latent was fitted to, if not to all.
        """
        cells = self._cells(self.adata)
        seen = torch.zeros(0, dtype=torch.int64)
        if fitted_to is not None and self._label_keys:
            seen = _numbers(cells.sample(fitted_to))
        for key, prototypes in self._prototypes.items():
            names, codes = self._labels_of(self.adata, key)
            if prototypes.is_fitted:  # axes are those of the first training
                seen = prototypes.state.fitted_to
            if np.bincount(codes[codes >= 0]).max(initial=0) > 1:
                prototypes.set_state(self._fitted(cells, names, codes, seen))

    def _fitted(
        self, cells: Cells, names: list[str], codes: np.ndarray, fitted_to: torch.Tensor
    ) -> PrototypeState:
        """Prototypes of labelled cells, read chunk by chunk."""
        labelled = np.flatnonzero(codes >= 0)
        n_cells = np.bincount(codes[labelled], minlength=len(names))
        fold = pd.Series(codes).groupby(codes).cumcount().to_numpy() % N_FOLDS
        n_sampled = min(len(labelled), _CELLS_FOR_SCALE)
        sample = labelled[np.linspace(0, len(labelled) - 1, n_sampled).astype(int)]
        n_latent = next(iter(self._prototypes.values())).means.shape[1]
        states = getattr(self.module, "state_dimensions", None)
        fit = PrototypeFit(names, torch.from_numpy(n_cells), n_latent, states)
        sampled = []
        for some, z, number in self._latents_in_chunks(cells, labelled):
            fit.add(z, *(torch.from_numpy(of_cell[some]) for of_cell in (codes, fold)))
            in_sample = np.isin(some, sample)
            as_new = z[in_sample]
            if len(fitted_to):
                found = self._learnt(cells.sample(some[in_sample]), _without_own_part)
                as_new = torch.from_numpy(found)
            sampled.append((z[in_sample], as_new, ~torch.isin(number[in_sample], fitted_to)))
        z, as_new, is_new = map(torch.cat, zip(*sampled, strict=True))
        of_sample = (torch.from_numpy(of_cell[sample]) for of_cell in (codes, fold))
        state = fit.finish(z, *of_sample, as_new=as_new, is_new=is_new)
        return state._replace(fitted_to=fitted_to)

    def _latents_in_chunks(
        self, cells: Cells, chosen: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """Indices of cells, their latents and what identifies them, a bounded number at a time."""
        chosen = np.arange(cells.n_cells) if chosen is None else chosen
        starts = range(0, len(chosen), _CHUNK)
        for start in with_progress(starts, "Reading cells", len(starts)):
            some = chosen[start : start + _CHUNK]
            sampled = cells.sample(some)
            yield some, torch.from_numpy(self._learnt(sampled)), _numbers(sampled)

    def _learnt(self, cells: Cells, *change: Any) -> np.ndarray:
        """Latents of cells without the dimensions that stand for labels, if there are any."""
        z = self._latents(cells, *change)
        return z[:, : z.shape[1] - len(self._grouping_names)]


def _without_own_part(module: Any, inputs: Inputs) -> Inputs:
    """Inputs that cells of the reference sample would have if axes were not fitted to them."""
    kept = {kind: part.linear_path.kept for kind, part in module.parts.items()}
    return {k: read | {"scores": read["scores"] * kept[k]} for k, read in inputs.items()}


def _rows(means: np.ndarray, n_cells: np.ndarray, labels: list[str] | None, key: str) -> AnnData:
    """Prototypes, or landmarks, which have no labels."""
    kind, shown = ("landmark", [""] * len(means)) if labels is None else ("label", labels)
    obs = {"label": shown, "labels_key": key, _keys.N_CELLS: n_cells, "kind": kind}
    named = range(len(means)) if labels is None else labels
    names = [f"{key or kind}:{name}" for name in named]
    return AnnData(means, obs=pd.DataFrame(obs, index=names))


def _numbers(cells: Cells) -> torch.Tensor:
    """A number per cell that identifies its counts, whatever its name, ``(n_cells,)`` int64.

    Counts times a random number of 64 bits per feature, added up modulo two to the power of 64:
    cells with different counts have the same number with a probability of 5e-20.
    """
    found = np.zeros(cells.n_cells, np.uint64)
    for seed, (_, counts) in enumerate(sorted(cells.counts.items())):
        of_feature = np.random.default_rng(seed).integers(
            2**64, size=counts.n_features, dtype=np.uint64
        )
        blocks = [rows.astype(np.uint64) @ of_feature for rows in counts.blocks()]
        found += np.concatenate(blocks)
    return torch.from_numpy(found.view(np.int64))
