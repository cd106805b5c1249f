"""Stages of training, which a caller may keep as arrays to resume it; and what stops it."""

import signal
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scvi.train import TrainRunner

from scmetaq.train import say

from ._training import device_of

_CSR = ("data", "indices", "indptr", "shape")
_HISTORY, _MODULE, _RANDOM = "history:", "module:", "random:"
_INDICES = ("train_indices", "validation_indices", "test_indices")


class Runner(TrainRunner):
    """scvi-tools' training, whose errors are raised as they are, without a line of their own."""

    def _run_training_core(self) -> None:
        fit, errors = self.trainer.fit, list[BaseException]()

        def held(*args: Any, **kwargs: Any) -> None:
            try:
                fit(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        self.trainer.fit = held
        super()._run_training_core()
        self.trainer.fit = fit
        if errors:
            raise errors[0]


def whole_or_as_before(train: Callable[..., None]) -> Callable[..., None]:
    """Leave a model as it was where its training fails or is interrupted, and say how far it came.

    Lightning answers Ctrl-C by leaving the interpreter, and by ignoring it from then on.
    """

    @wraps(train)
    def run(model: Any, *args: Any, **kwargs: Any) -> None:
        before = vars(model) | {"module": deepcopy(model.module)}
        before["history_"] = model.history_ and dict(model.history_)
        is_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT) if is_main else None
        try:
            train(model, *args, **kwargs)
        except BaseException as error:
            n_epochs = _n_epochs(model.history_) - _n_epochs(before["history_"])
            vars(model).clear()
            vars(model).update(before)
            if handler is not None:
                signal.signal(signal.SIGINT, handler)
            is_left = isinstance(error.__context__, KeyboardInterrupt)
            if is_left or isinstance(error, KeyboardInterrupt):
                say(f"Stopped after {n_epochs} epochs: the model is as it was before train().")
            if is_left and isinstance(error, SystemExit):
                raise KeyboardInterrupt from error
            raise

    return run


def _n_epochs(history: Any) -> int:
    return max(map(len, (history or {}).values()), default=0)


def stage(model: Any, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Arrays that a stage of training finds; the module becomes what it is after the stage.

    Where a caller keeps stages, those that it has are restored to the last bit.
    """
    if model._stored is None:
        return compute()
    if name not in model._stored:
        model._stored[name] = _packed(compute(), model.module)
    return _restored(model._stored[name], model.module)


def fit_network(model: Any, fit: Callable[[], None], cells: np.ndarray) -> dict[str, Any]:
    """Train the network on ``cells`` and return what :func:`become_trained` takes."""
    fit()
    found: dict[str, Any] = {}
    if model._stored is not None:
        for name, curve in model.history.items():
            found[_HISTORY + name] = np.stack([curve.index, curve[name]]).astype(float)
    for name in _INDICES:
        if (chosen := getattr(model, name)) is not None:
            found[name] = cells[np.asarray(chosen, dtype=int)]
            setattr(model, name, found[name])
    return found


def become_trained(model: Any, trained: Mapping[str, Any], accelerator: str, devices: Any) -> None:
    """Give a model what it has after the training of its network, which was restored."""
    model.history_ = {}
    for key, values in trained.items():
        if key in _INDICES:
            setattr(model, key, values)
        else:
            name, (epochs, of_epoch) = key.removeprefix(_HISTORY), values
            index = pd.Index(epochs.astype(int), name="epoch")
            curve = pd.DataFrame({name: of_epoch.tolist()}, index, dtype=object)
            model.history_[name] = curve
    model.is_trained_ = True
    model.module.eval()
    model.to_device(device_of(accelerator, devices))


def _packed(found: Mapping[str, Any], module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Arrays, dense or CSR, that a stage found, and the module and random states after it."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in found.items():
        if sp.issparse(values):
            arrays |= {f"{name}:{part}": np.asarray(getattr(values, part)) for part in _CSR}
        else:
            arrays[name] = values
    arrays |= {_MODULE + name: of.cpu().numpy() for name, of in module.state_dict().items()}
    _, keys, *rest = np.random.get_state()  # noqa: NPY002 - the state that libraries share
    arrays |= {f"{_RANDOM}keys": np.asarray(keys), f"{_RANDOM}rest": np.array(rest, float)}
    return arrays | {f"{_RANDOM}torch": torch.get_rng_state().numpy()}


def _restored(arrays: Mapping[str, np.ndarray], module: torch.nn.Module) -> dict[str, Any]:
    """What a stage found; the module and the random states become those after it."""
    state = {k: torch.from_numpy(v) for k, v in arrays.items() if k.startswith(_MODULE)}
    module.load_state_dict({k.removeprefix(_MODULE): v for k, v in state.items()})
    torch.set_rng_state(torch.from_numpy(arrays[f"{_RANDOM}torch"]))
    position, has_normal, normal = arrays[f"{_RANDOM}rest"].tolist()
    of_numpy = ("MT19937", arrays[f"{_RANDOM}keys"], int(position), int(has_normal), normal)
    np.random.set_state(of_numpy)  # noqa: NPY002
    found: dict[str, Any] = {}
    for name, values in arrays.items():
        if name.endswith(":data"):
            key = name.removesuffix(":data")
            *of_rows, shape = (arrays[f"{key}:{part}"] for part in _CSR)
            found[key] = sp.csr_matrix(tuple(of_rows), shape=tuple(shape.tolist()))
        elif ":" not in name or name.startswith(_HISTORY):
            found[name] = values
    return found
