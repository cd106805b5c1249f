import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from ._assignment import AssignmentMixin
from ._reading import Block


class OutlierMixin(AssignmentMixin):
    """Telling cells that are unlike the others of their metacell."""

    def get_outlier_scores(self, adata: AnnData | MuData | None = None) -> pd.Series:
        r"""How far each cell is from its code, against the other cells of the metacell.

        .. math:: o_i = \frac{\|z_i - q(z_i)\|}{s_{k(i)}}

        with the distance :math:`s_k` at which the cells of code :math:`k` typically are: their
        median in training, to which ten cells at the median distance of all cells are added,
        since few cells say little of it. Doublets and damaged cells have high scores, if they are
        few; many alike make a metacell of their own and have lower ones, and so has a cell that is
        alone in its metacell. Cells of the model drew their codes to themselves, so that cells that
        it has never seen score a little higher.

        Parameters
        ----------
        adata
            Cells, with the features of the model; by default those of the model.

        Returns
        -------
        Indexed by barcode, ``outlier_score``: about one for a typical cell, higher for one that is
        unlike its metacell. Scores are no probabilities: compare cells of one data set.

        Raises
        ------
        TypeError, KeyError, ValueError
            As :meth:`get_assignments`; or the model was saved by a version without such scores.
        """
        manager = self._registered(adata)
        codebook = self.module.codebook
        if not bool((codebook.spread > 0).any()):
            raise ValueError(
                "Expected distances of cells to their codes, found none: the model was saved by an "
                "earlier version, or all of its cells are alone in their metacells. Train again."
            )

        def score(block: Block) -> dict[str, torch.Tensor]:
            z = self.module.inference(block.inputs, block.conditions)["z"]
            assignment = codebook(z).assignment
            typical = codebook.spread[assignment].clamp_min(1e-12)
            return {"score": codebook.distances(z, assignment) / typical}

        found = self._in_blocks(score, self._cells(manager))["score"]
        return pd.Series(found, manager.adata.obs_names, name="outlier_score")
