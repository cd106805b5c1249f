from collections.abc import Mapping
from numbers import Real
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi import settings

from scmetaq import _keys
from scmetaq._errors import InputValueError, check_int, listed
from scmetaq.data._checks import check_n_metacells, check_paired
from scmetaq.data._modality import LAYER_ARGUMENTS, of_modalities
from scmetaq.data._reference import MAX_REFERENCE_CELLS
from scmetaq.module import CoemModule
from scmetaq.nn import ChannelName, Likelihood
from scmetaq.nn._inputs import COUNTS, flat
from scmetaq.tl._spectral import spectral_metacells
from scmetaq.train import CoemTrainingPlan, MixtureFit

from ._base import CountModel
from ._given import get_latent_representation
from ._metacells import aggregated, metacell_names
from ._reference_fit import fit_statistics, shared_dimensions
from ._seed import seeded
from ._training import Preparation, default_batch_size

KINDS: Final = ("rna", "atac")
"""Kinds of counts that are embedded together."""
_CHANNELS: Final[dict[str, ChannelName]] = {"rna": "gated", "atac": "attention"}
_LIKELIHOODS: Final[dict[str, Likelihood]] = {"rna": "nb", "atac": "zip"}
_PROFILE_COMPONENTS = 50
_BATCH_SIZE = 256
_DECODED_SHARE = 0.25
"""Share of each batch that is decoded in training."""
_MAX_STEPS = 600
"""Steps after which default training ends."""
_PLAN: Final = {"one_cycle": True, "lr": 2e-3, "max_kl_weight": 0.1}
_MIXTURE_WARMUP = 0.3
"""Share of the steps before the prior is fitted."""


class COEM(CountModel):
    """Cross-modal embedding of RNA and ATAC, and spectral metacells of it :cite:p:`Mao22`.

    A variational autoencoder with a channel for each modality gives a cell one latent by both. The
    prior of latents is a mixture of normal distributions. Metacells are found afterwards by
    spectral clustering of the latents, as many as the getter is asked for.

    Parameters
    ----------
    adata
        MuData registered with :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of ``adata``; for internal use.
    n_latent
        Dimension of the latent.
    n_hidden
        Hidden units of each channel, a multiple of 32.
    n_components
        Components of the prior.
    n_top_features
        Most features that are read and reconstructed; by default 3,000 (RNA) and 30,000 (ATAC).
        One number, or a dict of them by modality: ``"rna"``, ``"atac"``.
    likelihood
        Count distribution, or a dict of them by modality; by default negative binomial (RNA) and
        zero-inflated Poisson (ATAC).
    consistency_weight
        Weight of the divergences of the joint posterior from those by one modality.

    Examples
    --------
    >>> mdata = scmetaq.data.demo_multiome()
    >>> scmetaq.COEM.setup_mudata(mdata)
    >>> model = scmetaq.COEM(mdata)
    >>> model.train()
    >>> metacells = model.get_metacells(n_metacells=30)
    """

    _paired_kinds = KINDS
    _module_cls = CoemModule
    _training_plan_cls = CoemTrainingPlan

    @classmethod
    def _paired_modalities(
        cls, given: Mapping[str, Any], mdata: MuData, names: Mapping[str, str]
    ) -> dict[str, str]:
        """Modalities of the kinds that every cell must have; refuse other kinds and conditions."""
        for argument, kind in LAYER_ARGUMENTS.items():
            is_given = given[argument] is not None or argument in (given["modalities"] or {})
            if kind not in KINDS and is_given:
                problem = "COEM embeds RNA and ATAC counts, found"
                fix = f"Leave {argument} out, or use MetaQModel, which takes all three."
                raise InputValueError(f"{problem} a layer of {kind.upper()} counts.", fix, argument)
        batch_key, keys = given["batch_key"], given["categorical_covariate_keys"]
        if batch_key is not None or keys:
            raise InputValueError(
                f"COEM knows no conditions, found batch_key={batch_key!r} and "
                f"categorical_covariate_keys={keys!r}.",
                "Leave them out, or use MetaQModel, whose metacells group cells of one state "
                "across batches.",
                "batch_key",
            )
        missing = [kind for kind in KINDS if kind not in names]
        if missing:
            problem = f"COEM needs counts of RNA and ATAC, found no {missing[0].upper()}"
            fix = 'Say which they are: modalities={"rna_layer": "rna", "atac_layer": "atac"}.'
            raise InputValueError(
                f"{problem} among the modalities {listed(mdata.mod)}.", fix, "modalities"
            )
        paired = {kind: names[kind] for kind in KINDS}
        check_paired(mdata, list(paired.values()))
        return paired

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict | None = None,
        *,
        n_latent: int = 20,
        n_hidden: int = 128,
        n_components: int = 20,
        n_top_features: int | dict[str, int] | None = None,
        likelihood: Likelihood | dict[str, Likelihood] | None = None,
        consistency_weight: float = 0.1,
    ):
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())
        check_int("n_latent", n_latent, most=10_000)
        check_int("n_components", n_components)
        check_int("n_hidden", n_hidden, most=100_000)
        if n_hidden < 32 or n_hidden % 32:
            problem = f"Expected n_hidden to be a multiple of 32, found {n_hidden}."
            raise InputValueError(problem, argument="n_hidden")
        if not isinstance(consistency_weight, Real) or not 0 <= consistency_weight < np.inf:
            problem = "Expected consistency_weight to be a number of at least 0, found"
            raise InputValueError(
                f"{problem} {consistency_weight!r}.", argument="consistency_weight"
            )
        likelihoods = of_modalities("likelihood", likelihood, KINDS)
        for kind, usual in _LIKELIHOODS.items():
            likelihoods[kind] = likelihoods[kind] or usual
        with seeded(self):
            self.module = self._module_cls(
                self._shapes(
                    n_top_features, likelihoods, n_components=_PROFILE_COMPONENTS, is_shallow=True
                ),
                _CHANNELS,
                n_latent=n_latent,
                n_hidden=n_hidden,
                n_components=n_components,
                consistency_weight=consistency_weight,
                decoded_share=_DECODED_SHARE,
            )

    def _prepare(self) -> Preparation:
        """Fit the statistics unless they are there; the prior is fitted on the way, then learns."""
        seed = settings.seed or 0
        order = np.random.default_rng(seed).permutation(self.adata.n_obs)
        cells = np.sort(order[:MAX_REFERENCE_CELLS])
        reference = self._cells(self.adata).sample(cells)
        is_new = not self.module.prior.is_fitted
        if is_new:
            if (n_components := len(self.module.prior.logits)) > len(cells):
                raise InputValueError(
                    "Expected at most as many components of the prior as cells, found "
                    f"{n_components} and {len(cells)}.",
                    f"Make the model with n_components={max(1, len(cells) // 50)}.",
                    "n_components",
                )
            for kind, of_kind in reference.counts.items():
                part, counts = self.module.parts[kind], of_kind.everything
                fit_statistics(part, kind, counts, allowed=self._allowed(kind), seed=seed)
        inputs = self._read_all(reference)
        if is_new:
            self.module.set_weights(
                {kind: shared_dimensions(inputs[kind]["scores"], seed) for kind in inputs}
            )
        for kind, of_kind in reference.counts.items():
            inputs[kind][COUNTS] = of_kind.everything[:, self._selected(kind)]
        prepared = flat(inputs)
        mixture_fit = MixtureFit(self.module, prepared, warmup_fraction=_MIXTURE_WARMUP, seed=seed)
        return Preparation(
            cells,
            prepared,
            batch_size=default_batch_size(_BATCH_SIZE, len(cells)),
            n_steps=_MAX_STEPS,
            most_epochs=200,
            plan=_PLAN,
            callbacks=[mixture_fit],
        )

    def _finish(self, prepared: Preparation) -> str:
        return "an embedding of"

    get_latent_representation = get_latent_representation

    def get_assignments(
        self, adata: MuData | None = None, *, n_metacells: int, n_neighbors: int = 15, seed: int = 0
    ) -> pd.DataFrame:
        """Metacell of each cell, by spectral clustering of the latents.

        The cells are grouped among themselves. Other cells get metacells of their own, and
        names do not carry over from one call to another.

        Parameters
        ----------
        adata
            Cells to group; by default those of the model.
        n_metacells
            Number of metacells, at least 2 and below the number of cells. One per 50 cells is a
            good start.
        n_neighbors
            Neighbours of each cell in the graph.
        seed
            Seed of the clustering.

        Returns
        -------
        Indexed by barcode: ``metacell``, its name. There is no margin: a cell's metacell follows
        from the graph of all cells, not from how near it is to this or that metacell.
        """
        data = self._registered(adata)
        check_n_metacells(n_metacells, data.n_obs)
        check_int("n_neighbors", n_neighbors)
        cells = self._cells(data)
        z = self._latents(cells)
        found = spectral_metacells(z, n_metacells, n_neighbors=n_neighbors, seed=seed)
        names = np.array(metacell_names(n_metacells), dtype=object)
        return pd.DataFrame({_keys.METACELL: names[found]}, index=cells.names)

    def get_metacells(
        self, adata: MuData | None = None, *, n_metacells: int, n_neighbors: int = 15, seed: int = 0
    ) -> AnnData | MuData:
        r"""Metacells: mean and summed raw counts of the cells of each group.

        Parameters
        ----------
        adata
            Cells to group and aggregate; by default those of the model.
        n_metacells, n_neighbors, seed
            As of :meth:`get_assignments`.

        Returns
        -------
        MuData with one observation per metacell, in the form of
        :meth:`MetaQModel.get_metacells`.
        """
        adata = self._registered(adata)
        settings_ = {"n_metacells": n_metacells, "n_neighbors": n_neighbors, "seed": seed}
        assignment = self.get_assignments(adata, **settings_)[_keys.METACELL]
        return aggregated(self, adata, assignment, metacell_names(n_metacells), **settings_)
