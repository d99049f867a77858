"""A Dask worker that grades: what it declares when it starts, and the task that it runs.

In: `dask worker ADDRESS --preload grader.run.dask_worker`, then tasks of `grader.run.dask_client`. Out: a submission's
result, as text. The worker's own process never opens a submission: a pool server does (`grader.run.pool_server`), a
process beside it that holds what submissions are measured with and forks one process for each, as a batch does.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from grader.kernels.sandbox import best_level
from grader.run.keys import grader_key

GRADER, SANDBOX, MEMORY = "lab3-grader-", "sandbox", "MEMORY"  # resources; the first goes on with the code's key
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

_pool_servers, _lock = {}, threading.Lock()


def dask_setup(worker):
    """What Dask calls as the worker starts, before the scheduler knows it: declare what tasks can ask for.

    The version of the grader and the sandbox count as resources too, so that no task reaches a worker that lacks them.
    Memory, in bytes, is what the worker was started with (`--memory-limit`).
    """
    amounts = {GRADER + grader_key(None): worker.state.nthreads,
               MEMORY: worker.memory_manager.memory_limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}
    if best_level() == "bubblewrap":
        amounts[SANDBOX] = worker.state.nthreads
    for name, amount in amounts.items():
        worker.state.total_resources.setdefault(name, amount)  # what --resources says goes first
        worker.state.available_resources.setdefault(name, amount)


def dask_teardown(worker):
    """What Dask calls as the worker ends."""
    for server in _pool_servers.values():
        server.close()


def fingerprint(path):
    """What two machines can compare of a submission at once: a file's size, a folder's names, None for nothing."""
    path = Path(path)
    with suppress(OSError):
        return sorted(os.listdir(path)) if path.is_dir() else path.lstat().st_size


def grade_submission(order, call):
    """The task: grade one submission.

    Args:
        order: JSON, what all submissions of the batch have in common: `seed`, `columns`, `hidden`, `marking`.
        call: JSON, `name`, `paths`, their `fingerprint`, and `done`, an earlier result's dict or None.

    Returns:
        JSON, `result`, a result's dict, and `error`, the grader's traceback where it broke down; or `unseen`, the name
        of this machine, where the path is another one or none.
    """
    told = json.loads(call)
    if list(map(fingerprint, told["paths"])) != told["fingerprint"]:
        return json.dumps({"unseen": socket.gethostname()})
    answer = _pool_server(order).ask(call)
    if not answer.endswith("\n"):
        # Without its pool server this worker is useless. Dask tries the submission elsewhere and starts a new worker.
        print("lab3: the pool server ended, so this worker ends too; its last words are above", file=sys.stderr)
        os._exit(1)
    return answer


def _pool_server(order):
    """The pool server for a batch; those of earlier batches that have nothing to do go."""
    with _lock:
        if order not in _pool_servers:
            for other in [one for one, server in _pool_servers.items() if not server.calls]:
                _pool_servers.pop(other).close()
            _pool_servers[order] = PoolServer(order)
        _pool_servers[order].calls += 1
        return _pool_servers[order]


class PoolServer:
    """A process that grades for one batch. It ends when this process does."""

    def __init__(self, order):
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.calls = 0
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).parent / "pool_server.py"), str(theirs.fileno()), order],
            pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=os.environ | THREADS, start_new_session=True)
        theirs.close()

    def ask(self, call):
        """The answer to a call, a line; less than a line where the pool server is gone."""
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
