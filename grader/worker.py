"""A Dask worker that grades: what it declares when it starts, and the task that it runs.

In: `dask worker ADDRESS --preload grader.worker`, then tasks of `grader.farm`. Out: a submission's result, as text. The
worker's own process never opens a submission: a foreman does (`grader.foreman`), a process beside it that holds all
that submissions are measured with and forks one process for each, as a batch on one machine does.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from grader.grade import grader_key
from grader.sandbox import best_level

GRADER, SANDBOX, MEMORY = "lab3-grader-", "sandbox", "MEMORY"  # resources; the first goes on with the code's key
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

_foremen, _lock = {}, threading.Lock()


def dask_setup(worker):
    """What Dask calls as the worker starts, before the scheduler knows it: declare what tasks can ask for.

    The version of the grader and the sandbox count as resources too, so that no task reaches a worker that lacks them.
    Memory, in bytes, is what the worker was started with (`--memory-limit`).
    """
    amounts = {GRADER + grader_key(None): worker.state.nthreads,
               MEMORY: worker.memory_manager.memory_limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}
    if best_level() != "limits":
        amounts[SANDBOX] = worker.state.nthreads
    for name, amount in amounts.items():
        worker.state.total_resources.setdefault(name, amount)  # what --resources says goes first
        worker.state.available_resources.setdefault(name, amount)


def dask_teardown(worker):
    """What Dask calls as the worker ends."""
    for foreman in _foremen.values():
        foreman.close()


def sight(path):
    """What two machines can compare of a submission at once: a file's size, a folder's names, None for nothing."""
    path = Path(path)
    with suppress(OSError):
        return sorted(os.listdir(path)) if path.is_dir() else path.lstat().st_size


def grade_submission(order, call):
    """The task: grade one submission.

    Args:
        order: JSON, what all submissions of the batch have in common: `seed`, `columns`, `hidden`.
        call: JSON, `name`, `path`, `sight`, and `done`, an earlier result's dict or None.

    Returns:
        JSON, `result`, a result's dict, and `error`, the grader's traceback where it broke down; or `unseen`, the name
        of this machine, where the path is another one or none.
    """
    told = json.loads(call)
    if sight(told["path"]) != told["sight"]:
        return json.dumps({"unseen": socket.gethostname()})
    answer = _foreman(order).ask(call)
    if not answer.endswith("\n"):
        # Without its foreman this worker is of no use. Dask tries the submission elsewhere, and starts a new worker.
        print("lab3: the foreman ended, so this worker ends too; what the foreman said stands above", file=sys.stderr)
        os._exit(1)
    return answer


def _foreman(order):
    """The foreman for a batch; those of earlier batches that have nothing to do go."""
    with _lock:
        if order not in _foremen:
            for other in [one for one, foreman in _foremen.items() if not foreman.calls]:
                _foremen.pop(other).close()
            _foremen[order] = Foreman(order)
        _foremen[order].calls += 1
        return _foremen[order]


class Foreman:
    """A process that grades for one batch. It ends when this process does."""

    def __init__(self, order):
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.calls = 0
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).parent / "foreman.py"), str(theirs.fileno()), order],
            pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=os.environ | THREADS, start_new_session=True)
        theirs.close()

    def ask(self, call):
        """The answer to a call, a line; less than a line where the foreman is gone."""
        ours, theirs = socket.socketpair()
        with ours, suppress(OSError):
            with theirs:
                socket.send_fds(self.requests, [b"call"], [theirs.fileno()])
            ours.sendall(f"{call}\n".encode())
            answer = ours.makefile(encoding="utf-8").readline()
            with _lock:
                self.calls -= 1
            return answer
        return ""

    def close(self):
        """Let it end, with all that it does."""
        self.requests.close()
