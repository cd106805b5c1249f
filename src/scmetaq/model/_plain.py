"""Attributes of models as plain values, which are read without executing anything."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import torch

from scmetaq._errors import InputTypeError

_ARRAY, _TABLE, _OBJECT = "scmetaq:array", "scmetaq:table", "scmetaq:object"
_PLAIN = (bool, int, float, str, type(None))
_OBJECTS: dict[str, tuple[Callable[..., Any], type, Callable[[Any], tuple]]] = {
    "date": (date.fromisoformat, date, lambda of: (of.isoformat(),)),
    "interval": (pd.Interval, pd.Interval, lambda of: (of.left, of.right, of.closed)),
    "period": (pd.Period, pd.Period, lambda of: (str(of), of.freqstr)),
    "timedelta": (pd.Timedelta, pd.Timedelta, lambda of: (str(of),)),
    "timestamp": (pd.Timestamp, pd.Timestamp, lambda of: (of.isoformat(),)),
}
"""How categories of other types are made, which they are, and from what they are made."""


def plain(value: Any) -> Any:
    """Value as tensors, dicts, lists, tuples, text and numbers, from which ``restored`` makes it.

    Arrays of text are JSON, which is read faster.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in _PLAIN or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        return {plain(key): plain(of_key) for key, of_key in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, pd.DataFrame):
        columns = {name: plain(column.to_numpy()) for name, column in value.items()}
        return {_TABLE: columns, "index": plain(value.index.to_numpy()), "name": value.index.name}
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    for name, (_, kind, parts) in _OBJECTS.items():
        if type(value) is kind:
            return {_OBJECT: name, "parts": plain(parts(value))}
    problem = f"Expected text, numbers, dates or intervals to save, found {value!r}, a"
    raise InputTypeError(f"{problem} {type(value).__name__}.", "Make it text before the set-up.")


def restored(value: Any) -> Any:
    """Value that ``plain`` was given."""
    if isinstance(value, list | tuple):
        return type(value)(map(restored, value))
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return _restored_array(value)
    if _TABLE in value:
        index = pd.Index(restored(value["index"]), name=value["name"])
        return pd.DataFrame({k: restored(of) for k, of in value[_TABLE].items()}, index)
    if _OBJECT in value:
        return _OBJECTS[value[_OBJECT]][0](*restored(value["parts"]))
    return {key: restored(of_key) for key, of_key in value.items()}


def _plain_array(array: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {_ARRAY: array.dtype.str, "shape": array.shape}
    if array.dtype.kind in "biufmM":
        raw = np.frombuffer(array.tobytes(), np.uint8)
        return found | {"bytes": torch.from_numpy(raw.copy())}
    values = array.ravel().tolist()
    if all(type(of) in _PLAIN for of in values):
        return found | {"json": json.dumps(values)}
    return found | {"list": [plain(of) for of in values]}


def _restored_array(value: dict[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(value[_ARRAY]), value["shape"]
    if "bytes" in value:
        return np.frombuffer(value["bytes"].numpy().tobytes(), dtype).reshape(shape).copy()
    values = json.loads(value["json"]) if "json" in value else restored(value["list"])
    array = np.empty(len(values), dtype)
    array[:] = values
    return array.reshape(shape)
