"""Numbers of metacells stacked into one table."""

from typing import Any, Literal

import numpy as np
import pandas as pd

BETTER: dict[str, Literal["higher", "lower", ""]] = {
    "compactness": "higher",
    "separation": "higher",
    "purity": "higher",
    "entropy": "lower",
    "inv": "lower",
    "diffusion_compactness": "lower",
    "diffusion_separation": "higher",
    "divergence": "lower",
    "dubious": "lower",
    "balanced_accuracy": "higher",
    "mixing": "higher",
    "one_condition": "lower",
    "unassigned": "lower",
}


def tidy(per_metacell: list[pd.Series], whole: dict[str, float]) -> pd.DataFrame:
    """Stack the numbers, one per row."""
    rows: list[tuple[Any, str | None, float]] = [
        (numbers.name, str(metacell), value)
        for numbers in per_metacell
        for metacell, value in numbers.items()
    ]
    rows += [(metric, None, value) for metric, value in whole.items()]
    frame = pd.DataFrame(rows, columns=["metric", "metacell", "value"])
    frame["metacell"] = frame["metacell"].astype(pd.StringDtype(na_value=np.nan))
    frame["value"] = frame["value"].astype(float)
    frame["better"] = [BETTER.get(metric, "") for metric in frame["metric"]]
    return frame


def stacked(frames: dict[str | None, pd.DataFrame]) -> pd.DataFrame:
    """One table of several, with the modality that each row is about."""
    for name, frame in frames.items():
        modality = pd.Series([name] * len(frame), dtype=pd.StringDtype(na_value=np.nan))
        frame.insert(1, "modality", modality)
    return pd.concat(frames.values(), ignore_index=True)
