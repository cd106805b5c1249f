from ._codebook_fit import CodebookFit
from ._coem_plan import CoemTrainingPlan
from ._data_splitter import TrainingSetSplitter
from ._epoch_plan import EpochTrainingPlan
from ._mixture_fit import MixtureFit
from ._plan import MetaQTrainingPlan
from ._query_plan import QueryTrainingPlan
from ._say_trained import say_trained
from ._size_bounds import SizeBounds, bound_sizes
from ._stop_rule import StopRule

__all__ = [
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
    "say_trained",
]
