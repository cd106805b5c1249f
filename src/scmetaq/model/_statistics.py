import scipy.sparse as sp
import torch

from scmetaq.data._reference import fit_reference, select_features
from scmetaq.nn import Scaling

from ._reading import ReadingMixin


class StatisticsMixin(ReadingMixin):
    """What is learnt of features before training, from a reference sample of the cells."""

    def _fit_statistics(self, kind: str, counts: sp.csr_matrix, seed: int) -> float:
        """Choose features of a modality, fit scaling and principal axes; their reliability."""
        part = self.module.parts[kind]
        scaling, path = part.feature_scaling, part.linear_path
        features = select_features(counts, len(scaling.features), by_variance=kind != "atac")
        n_components = path.profile.axes.shape[1] if path else 1
        reference = fit_reference(counts, features, n_components=n_components, seed=seed)
        known = reference.scaling
        tensors = map(torch.as_tensor, (features, known.mean, known.scale))
        scaling.set_state(Scaling(*tensors))
        part.coverage.set_rate(torch.as_tensor(known.rate))
        if path is not None:  # as published, the bias of the decoder starts at random
            part.decoder.start_at(torch.as_tensor(known.rate[features]))
            path.kept.copy_(torch.as_tensor(reference.kept))
            for name in ("profile", "log", "sqrt", "log_factors", "sqrt_factors"):
                getattr(path, name).set_state(getattr(reference, name))
        return reference.reliability
