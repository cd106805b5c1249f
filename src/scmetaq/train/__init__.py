from ._codebook_fit import CodebookFit
from ._data_splitter import TrainingSetSplitter
from ._plan import MetaQTrainingPlan
from ._say_trained import say_trained
from ._stop_rule import StopRule

__all__ = ["CodebookFit", "MetaQTrainingPlan", "StopRule", "TrainingSetSplitter", "say_trained"]
