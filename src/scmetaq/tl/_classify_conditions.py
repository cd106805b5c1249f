"""Labels of samples by their nearest neighbours."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial.distance import cdist

from scmetaq.tl._samples import column_of, coordinates


def classify_conditions(
    samples: AnnData, label: str, *, n_neighbors: int = 5, use_rep: str | None = None
) -> pd.DataFrame:
    """Predict a label of each sample from the samples nearest to it, never from itself.

    Parameters
    ----------
    samples
        A row per sample, as of :meth:`~scmetaq.MetaQModel.get_condition_embeddings`.
    label
        Column of ``obs`` with the label; samples without one are predicted, too.
    n_neighbors
        How many of the nearest labelled samples vote. Of labels with equally many votes, that of
        the nearest sample wins.
    use_rep
        Entry of ``obsm`` to measure Euclidean distances in. None: ``X``.

    Returns
    -------
    Indexed by sample: ``label``, ``predicted`` and ``fraction``, the share of the neighbours that
    have the predicted label. ``(frame["label"] == frame["predicted"]).mean()`` among labelled
    samples is the leave-one-out accuracy; compare it with the share of the most frequent label.

    Raises
    ------
    TypeError, KeyError, ValueError
        ``n_neighbors`` is no whole number, there is no such column or embedding, or there are not
        enough labelled samples.

    References
    ----------
    De Donno et al., scPoli, Nature Methods 2023.
    """
    values = coordinates(samples, use_rep)
    labels = column_of(samples, label, "label")
    known = np.flatnonzero(labels.notna().to_numpy())
    names = labels.iloc[known].astype(str).to_numpy()
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, int | np.integer):
        raise TypeError(f"Expected n_neighbors to be an int, found {n_neighbors!r}.")
    if n_neighbors < 1 or n_neighbors > len(known) - 1 or len(set(names)) < 2:
        raise ValueError(
            f"Expected at least two labels and more labelled samples than the {n_neighbors} "
            f"neighbours that vote, found {len(set(names))} labels of {len(known)} samples in "
            f"{label!r}. Lower n_neighbors (at least 1), or name another column."
        )
    distance = cdist(values, values[known])
    distance[known, np.arange(len(known))] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :n_neighbors]
    votes = [_most_votes(names[row]) for row in nearest]
    predicted, fraction = zip(*votes, strict=True)
    as_given = dict(zip(names, labels.iloc[known], strict=True))  # which may be no text
    return pd.DataFrame(
        {"label": labels, "predicted": [as_given[of] for of in predicted], "fraction": fraction},
        index=samples.obs_names,
    )


def _most_votes(names: np.ndarray) -> tuple[str, float]:
    """The most frequent of names in the order of distance, and its share."""
    counts = pd.Series(names).value_counts()
    tied = set(counts.index[counts == counts.max()])
    winner = next(name for name in names if name in tied)
    return str(winner), counts.max() / len(names)
