from ._annealed_plan import AnnealedTrainingPlan


class CoemTrainingPlan(AnnealedTrainingPlan):
    """Training of a :class:`~scmetaq.module.CoemModule`: see :class:`AnnealedTrainingPlan`."""
