"""Run the command line in forks of this process, which has imported everything, and kill them.

As a script it reads one call per line as JSON and answers with its exit status, negative for a
signal and none where it took too long, the number of changes that it made to files in the folder
to watch, and the seconds that it took.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import scmetaq.cli
from scmetaq.cli._commands import Infer, Map
from scmetaq.cli._judging import Evaluate

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "open"}


def watch(folder, kill_before, told, kind=signal.SIGKILL):
    """Count changes to files in a folder, and kill or stop this process before one of them."""
    count = 0

    def hook(event, args):
        nonlocal count
        if event not in CHANGES or (event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        # the removal of folders names what is in them alone
        if str(args[0]).startswith(folder) or (event != "open" and "/" not in str(args[0])):
            count += 1
            if kill_before in (count, os.path.basename(str(args[0]))):
                os.kill(os.getpid(), kind)
            os.pwrite(told, b"%6d" % count, 0)

    sys.addaudithook(hook)


def run(words, *, watched, log, kill_before=0, largest_file=0, on_disk=False, **call):
    """Call the command line, on request with counts left on disk, and leave with its status."""
    told = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(log + ".err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(2, 1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if on_disk:
        scmetaq.data._files.MOST_IN_MEMORY = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run behind
    watch(watched, kill_before, told, call.get("signal", signal.SIGKILL))
    status = 70
    try:
        scmetaq.cli.main(words)
    except SystemExit as leaving:
        status = leaving.code
    finally:
        sys.stderr.flush()
        os._exit(status)


def warm_up(folder):
    """Train once, so that all is imported, and replace reports, whose JAX starts threads."""
    Infer._page = lambda job: {}
    Infer._report = lambda job, path, started: path.write_text("report")
    Infer._rows = lambda job: ()
    Map._page = Evaluate._page = lambda job: None
    words = ("--n-metacells", "4", "--max-epochs", "1", "--accelerator", "cpu", "--out", folder)
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
        scmetaq.cli.main(["infer", "demo", *words])


def ended(child, seconds):
    """Wait for a process, and return its status; none, and it is killed, if it takes too long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def serve():
    """Answer calls until there are no more."""
    for line in sys.stdin:
        call = json.loads(line)
        started, child = time.perf_counter(), os.fork()
        if child == 0:
            run(**call)
        if "kill_after" in call:
            time.sleep(call["kill_after"])
            os.kill(child, call.get("signal", signal.SIGKILL))
        status = ended(child, call.get("at_most", 600))
        with open(call["log"]) as told:
            seconds = time.perf_counter() - started
            print(json.dumps([status, int(told.read() or 0), seconds]), flush=True)


class Forks:
    """Calls of the command line in processes of their own, which share their imports."""

    def __init__(self, folder):
        self.folder, self.log = folder / "work", folder / "log"
        self.folder.mkdir()
        words = [sys.executable, "-W", "ignore", __file__, folder / "warm"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.server = subprocess.Popen(words, text=True, **pipes)

    def __call__(self, *words, **options):
        call = {"words": list(map(str, words)), "watched": str(self.folder), "log": str(self.log)}
        self.server.stdin.write(json.dumps(call | options) + "\n")
        self.server.stdin.flush()
        status, n_changes, seconds = json.loads(self.server.stdout.readline())
        said = Path(f"{self.log}.err").read_text()
        return status, n_changes, seconds, said

    def close(self):
        """End the process that answers."""
        self.server.communicate()


if __name__ == "__main__":
    warm_up(sys.argv[1])
    serve()
