from ._callbacks import FineTuning, MixtureFit, say, say_trained
from ._codebook_fit import CodebookFit
from ._plans import (
    AnnealedTrainingPlan,
    CoemTrainingPlan,
    EpochTrainingPlan,
    MetaQTrainingPlan,
    QueryTrainingPlan,
    SCPoliTrainingPlan,
    TrainingSetSplitter,
)
from ._size_bounds import SizeBounds, bound_sizes
from ._stop_rule import StopRule

__all__ = [
    "AnnealedTrainingPlan",
    "FineTuning",
    "SCPoliTrainingPlan",
    "CodebookFit",
    "CoemTrainingPlan",
    "EpochTrainingPlan",
    "MetaQTrainingPlan",
    "MixtureFit",
    "QueryTrainingPlan",
    "SizeBounds",
    "StopRule",
    "TrainingSetSplitter",
    "bound_sizes",
    "say",
    "say_trained",
]
