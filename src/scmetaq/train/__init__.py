from ._annealed_plan import AnnealedTrainingPlan
from ._codebook_fit import CodebookFit
from ._coem_plan import CoemTrainingPlan
from ._data_splitter import TrainingSetSplitter
from ._epoch_plan import EpochTrainingPlan
from ._fine_tuning import FineTuning
from ._mixture_fit import MixtureFit
from ._plan import MetaQTrainingPlan
from ._query_plan import QueryTrainingPlan
from ._say import say
from ._say_trained import say_trained
from ._scpoli_plan import SCPoliTrainingPlan
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
