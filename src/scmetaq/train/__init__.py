from ._codebook_fit import CodebookFit
from ._plan import MetaQTrainingPlan
from ._stop_rule import StopRule

__all__ = ["CodebookFit", "MetaQTrainingPlan", "StopRule"]
