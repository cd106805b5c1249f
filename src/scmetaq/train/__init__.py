from ._callbacks import FineTuning, MixtureFit, encode, say, say_trained
from ._codebook_fit import CodebookStart, check_distinct, fit_codes, latents
from ._plans import (
    AnnealedTrainingPlan,
    CoemTrainingPlan,
    EpochTrainingPlan,
    MetaQTrainingPlan,
    QueryTrainingPlan,
    SCPoliTrainingPlan,
    TrainingSetSplitter,
)
from ._published import StopRule
from ._size_bounds import SizeBounds, bound_sizes, size_bounds

__all__ = [
    "AnnealedTrainingPlan",
    "FineTuning",
    "SCPoliTrainingPlan",
    "CodebookStart",
    "CoemTrainingPlan",
    "EpochTrainingPlan",
    "MetaQTrainingPlan",
    "MixtureFit",
    "QueryTrainingPlan",
    "SizeBounds",
    "StopRule",
    "TrainingSetSplitter",
    "bound_sizes",
    "check_distinct",
    "encode",
    "fit_codes",
    "latents",
    "size_bounds",
    "say",
    "say_trained",
]
