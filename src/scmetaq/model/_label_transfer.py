from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import check_choice, check_share
from scmetaq.tl._spectral import neighbor_affinity

from ._prototype_fit import PrototypeFitMixin

_NEIGHBORS = 15
"""Neighbours of each cell in the graph whose clusters are landmarks."""


class LabelTransferMixin(PrototypeFitMixin):
    """Labels of cells by the nearest prototype in the latent, for any model with latents.

    A model calls :meth:`_add_prototypes` when it makes its module, so that prototypes are part of
    its state, and :meth:`_fit_prototypes` when it is trained.
    """

    def predict_labels(
        self, adata: AnnData | MuData | None = None, *, unknown_above: float = 0.99
    ) -> pd.DataFrame:
        """Labels of cells: that of the nearest prototype, how sure it is, whether it is unknown.

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

        Returns
        -------
        Indexed by barcode, for each key of labels

        - ``<key>``: label of the nearest prototype, also of cells of an unknown type;
        - ``<key>_uncertainty``: share of labelled reference cells that lie nearer to their
          prototype than this cell to its own, distances being measured by what is typical of the
          label. The reference cells were compared with prototypes of other cells, and how much
          nearer new cells lie is accounted for. It is the same scale for every key and in every
          call;
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
        manager = self._registered(adata)
        found: dict[str, list[np.ndarray]] = {}
        for chunk in self._latents_in_chunks(self._cells(manager)):
            for key, prototypes in self._prototypes.items():
                label, uncertainty = prototypes.nearest(chunk.z, chunk.is_new)
                names = np.array(prototypes.labels, dtype=object)
                found.setdefault(key, []).append(names[label.numpy()])
                found.setdefault(_uncertainty(key), []).append(uncertainty.numpy())
        frame = pd.DataFrame(
            {name: np.concatenate(values) for name, values in found.items()},
            index=manager.adata.obs_names,
        )
        columns: dict[str, pd.Series] = {}
        for key in self._prototypes:
            columns |= {name: frame[name] for name in (key, _uncertainty(key))}
            columns[f"{key}{_keys.UNKNOWN_SUFFIX}"] = frame[_uncertainty(key)] > unknown_above
        return pd.DataFrame(columns)

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
        X, obs = (list(found) for found in zip(*parts, strict=True))
        names = [f"z{i}" for i in range(X[0].shape[1])]
        return AnnData(np.vstack(X), obs=pd.concat(obs), var=pd.DataFrame(index=names))

    def add_labels(self, adata: AnnData | MuData, labels_key: str) -> None:
        """Make prototypes of new types from labelled cells; nothing is retrained.

        Prototypes that are there, the metric and the scale stay as they are, so cells are
        labelled as before unless they are nearer to a new type. :meth:`save` keeps the new ones.

        Parameters
        ----------
        adata
            Cells with the features of the model and labels in ``obs[labels_key]``. Cells without a
            label, or of a type that the model knows, are passed over.
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
        manager = self._registered(adata)
        names, codes = self._labels_of(manager, labels_key)
        if not names:
            raise KeyError(
                f"Expected labels in obs[{labels_key!r}] of the cells, found no such column or no "
                "value in it. Put the names of the new types there."
            )
        known = prototypes.labels
        new = [i for i, name in enumerate(names) if name not in known]
        if not new:
            raise ValueError(
                f"Expected new types in obs[{labels_key!r}], found only labels that the model "
                f"knows: {', '.join(map(repr, names[:5]))}. They keep their prototypes."
            )
        chosen = np.flatnonzero(np.isin(codes, new))
        sums = np.zeros((len(names), prototypes.means.shape[1]))
        for chunk in self._latents_in_chunks(self._cells(manager), chosen):
            np.add.at(sums, codes[chunk.cells], chunk.z.numpy())
        n_cells = np.bincount(codes[chosen], minlength=len(names))[new]
        means = torch.from_numpy(sums[new] / n_cells[:, None])
        prototypes.add([names[i] for i in new], means, torch.from_numpy(n_cells))

    def _landmarks(
        self, adata: AnnData | MuData, resolution: float, seed: int
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """Means of clusters of latents."""
        z = self._latents(self._cells(self._registered(adata)))
        if len(z) <= _NEIGHBORS:
            raise ValueError(
                f"Expected more than {_NEIGHBORS} cells to find landmarks in, found {len(z)}."
            )
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
            raise ValueError(
                "The model knows no labels: name their columns at set-up with labels_key, and "
                "train it."
            )
        for key, prototypes in self._prototypes.items():
            if not prototypes.labels:
                raise ValueError(
                    f"The model has no prototypes of {key!r}: no two cells that it was trained on "
                    "had a label in common. Train it with labelled cells."
                )


def _rows(
    means: np.ndarray, n_cells: np.ndarray, labels: list[str] | None, key: str
) -> tuple[np.ndarray, pd.DataFrame]:
    """Positions and the table of prototypes, or of landmarks, which have no labels."""
    shown = [str(i) for i in range(len(means))] if labels is None else labels
    obs = pd.DataFrame(
        {
            "label": [""] * len(means) if labels is None else labels,
            "labels_key": key,
            _keys.N_CELLS: n_cells,
            "kind": "landmark" if labels is None else "label",
        },
        index=[f"{'landmark' if labels is None else key}:{name}" for name in shown],
    )
    return means, obs


def _uncertainty(key: str) -> str:
    return f"{key}{_keys.UNCERTAINTY_SUFFIX}"
