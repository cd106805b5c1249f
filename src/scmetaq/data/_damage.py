"""Damaged and hostile files, which end as an error before libraries hang or crash."""

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr

from scmetaq._errors import InputError, InputValueError, reason

from . import _probe

_SECONDS = 30  # in which a walk through a file, which reads little of it, is over


def check_file(path: Path) -> None:
    """Refuse a file or store whose reading would hang, crash or take all memory.

    HDF5 loops or crashes on some damaged files: another process walks through the file first.
    """
    if path.is_dir():
        return _check_store(path)
    words = [sys.executable, "-I", _probe.__file__, str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"HDF5 found no end within {_SECONDS} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ValueError(lines[-1] if lines and done.returncode > 0 else "HDF5 crashes on it")
    return None


def _check_store(path: Path) -> None:
    for name, node in zarr.open_group(path, mode="r").members(max_depth=None):
        if isinstance(node, zarr.Group):
            _probe.check_sparse(node)
        else:
            sides = map(max, node.shape or (1,), node.chunks or (1,))
            declared = math.prod(sides) * node.dtype.itemsize
            if declared > _probe.FEW:
                _probe.check_size(name, declared, node.nbytes_stored())


def by_rows(matrix: Any) -> Any:
    """Return a sparse matrix as CSR; rows of one that is CSR are still to be ``checked``."""
    _check_pointers(matrix)
    return (matrix if matrix.format == "csr" else checked(matrix)).tocsr()


def checked(block: Any) -> Any:
    """Return rows that were read, but refuse places outside of them, where scipy would write."""
    _check_pointers(block)
    if _is_compressed(block) and len(block.indices):
        first, last = block.indices.min(), block.indices.max()
        n = block.shape[1 if block.format == "csr" else 0]
        if first < 0 or last >= n:
            _refuse(f"indices of a sparse matrix from 0 to {n - 1:,}, found {first:,} to {last:,}")
    return block


def _check_pointers(matrix: Any) -> None:
    if _is_compressed(matrix):
        ends, n = matrix.indptr, min(len(matrix.indices), len(matrix.data))
        if ends[0] != 0 or (np.diff(ends) < 0).any() or ends[-1] > n:
            _refuse(f"pointers of a sparse matrix that rise from 0 to {n:,}, found others")


def check_ends(dataset: Any) -> None:
    """Refuse a sparse dataset whose pointers leave out values that it stores."""
    group = getattr(dataset, "group", None)
    if group is not None:
        ends, n = group["indptr"], group["indices"].shape[0]
        if ends[0] != 0 or ends[-1] != n:
            _refuse(f"pointers of a sparse matrix that rise from 0 to {n:,}, found others")


def _is_compressed(matrix: Any) -> bool:
    return sp.issparse(matrix) and matrix.format in ("csr", "csc")


def _refuse(problem: str) -> None:
    raise InputValueError(
        f"Expected {problem}: counts are damaged.", "Copy or download them again."
    )


@contextmanager
def refusing_damage(matrix: Any, start: int, stop: int) -> Iterator[None]:
    """Say which rows of which file cannot be read."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        group = getattr(matrix, "group", matrix)
        root = getattr(getattr(group, "store", None), "root", None)
        file = root or getattr(getattr(group, "file", None), "filename", "the file")
        raise InputValueError(
            f"Counts of the rows {start:,} to {stop:,} of {file} cannot be read "
            f"({reason(error)}): it is truncated or damaged.",
            "Copy or download it again.",
        ) from error
