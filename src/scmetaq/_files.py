"""Files and folders that appear as a whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object], mark: str = "") -> None:
    """Write a file or folder under another name, and rename it when it is whole.

    A file takes the place of an earlier one, which stays as it is until then. ``mark`` makes the
    other name that of one process, where several write the same file.
    """
    partial = path.with_name(f"partial-{mark}{path.name}")
    remove(partial)
    try:
        write(partial)
        partial.replace(path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a directory, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
