"""Walk through a file of HDF5, as a script in a process of its own: see ``check_file``."""

import signal
import sys
from collections.abc import Collection
from typing import Any

import h5py

FEW = 1 << 30  # bytes that an array may declare whatever is stored
_MOST = 1 << 24  # bytes of an array that is read whole
_MOST_PACKED = 10_000  # bytes per byte stored: no compression of counts comes near


def check_size(name: str, declared: int, stored: int) -> None:
    """Refuse an array that is much larger than what is stored of it."""
    if declared > max(FEW, _MOST_PACKED * stored):
        raise ValueError(f"{name} declares {declared:,} bytes and holds {stored:,}")


def check_sparse(group: Any) -> None:
    """Refuse a sparse matrix of another size than its pointers."""
    axis = {"csr_matrix": 0, "csc_matrix": 1}.get(group.attrs.get("encoding-type", ""))
    if axis is not None and group["indptr"].shape[0] != group.attrs["shape"][axis] + 1:
        declared, n = group.attrs["shape"], group["indptr"].shape[0] - 1
        raise ValueError(f"{group.name} declares {' x '.join(map(str, declared))}, has {n:,}")


def walk(node: Any, above: Collection[int] = ()) -> None:
    """Read all names, attributes and small arrays, and some of large ones."""
    address = h5py.h5o.get_info(node.id).addr
    if address in above:
        raise ValueError(f"{node.name} holds itself")
    for key in node.attrs:
        node.attrs[key]
    if isinstance(node, h5py.Group):
        check_sparse(node)
        for key in node:
            link: Any = node.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(f"{node.name}/{key} is a link to another file")
            walk(node[key], (*above, address))
    elif node.shape is not None:
        declared = node.size * node.dtype.itemsize
        check_size(node.name, declared, node.id.get_storage_size())
        if node.chunks and node.dtype.kind != "O":
            node.id.get_num_chunks()  # counts are read, and errors said, by rows
        elif declared <= _MOST or not node.ndim:
            node[()]
        else:
            node[:1], node[-1:]


if __name__ == "__main__":
    if hasattr(signal, "alarm"):
        signal.alarm(60)  # a walk without an end whose caller was killed
    try:
        with h5py.File(sys.argv[1], "r") as file:
            walk(file)
    except Exception as error:  # noqa: BLE001 - said by the caller
        sys.exit(str(error) or type(error).__name__)
