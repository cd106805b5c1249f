"""Save one model over another in a fork that is killed before each change to a file, and load."""

import json
import os
import signal
import sys
from pathlib import Path

import scmetaq

CHANGES = {"os.rename", "os.mkdir", "os.remove", "open"}


def kill_before(change, folder):
    """Kill this process before a change to a file in a folder."""
    count = 0

    def hook(event, args):
        nonlocal count
        is_change = event in CHANGES and str(args[0]).startswith(folder)
        if is_change and (event != "open" or args[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


folders, with_cells = sys.argv[1:4], json.loads(sys.argv[4])
earlier, later = (scmetaq.MetaQModel.load(folder, accelerator="cpu") for folder in folders[:2])
status, change = -9, 0
while status == -9:
    change += 1
    earlier.save(folders[2], overwrite=True, save_anndata=with_cells)
    child = os.fork()
    if child == 0:
        kill_before(change, folders[2])
        later.save(folders[2], overwrite=True, save_anndata=with_cells)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    cells = None if with_cells else later.adata.copy()
    found = scmetaq.MetaQModel.load(folders[2], cells, accelerator="cpu")
    files = sorted(path.name for path in Path(folders[2]).iterdir())
    told = [status, found.n_metacells, len(found.get_assignments()), files]
    print(json.dumps(told), flush=True)
