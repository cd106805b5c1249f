from ._epoch_plan import EpochTrainingPlan


class QueryTrainingPlan(EpochTrainingPlan):
    """Training of what new conditions add, all else being frozen.

    The module stays in evaluation mode: running statistics do not move, and every cell is decoded.
    """

    def on_train_start(self) -> None:
        """Stay in evaluation mode."""
        super().on_train_start()
        self.module.eval()
