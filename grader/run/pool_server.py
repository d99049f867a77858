"""A process beside a Dask worker that grades submissions for one batch, each in a process forked from it.

In: calls of the worker over a socket, each with a socket for the answer. Out: answers, a line of JSON each. It opens
the context once, and ends when the worker does.
"""

import json
import select
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from grader.kernels.sandbox import Limits, require
from grader.results.files import read_result, write_result
from grader.results.result import from_dict, to_dict
from grader.rubric import Rubric
from grader.run.context import run_context
from grader.run.pool import ERROR, Pool


def serve(requests, seed, columns, hidden, marking):
    """Grade what is asked for until the other end of `requests` is closed.

    Args:
        requests: a socket of packets, each with the descriptor of a socket that asks for one submission.
        seed, columns, hidden: as `run_context` takes them.
        marking: points, thresholds and limits, as `Rubric.marking` gives them.
    """
    points, thresholds, limits = marking
    rubric = Rubric(points, thresholds, Limits(**limits))
    with run_context(seed, columns, require(True), hidden, rubric) as context:  # the client chose the worker
        pool, callers = Pool(context), {}
        try:
            while True:
                for job in pool.ended([requests]):
                    answer(callers.pop(job), job)
                if select.select([requests], [], [], 0)[0]:
                    word, descriptors, _, _ = socket.recv_fds(requests, 16, 1)
                    if not word:
                        return
                    caller = socket.socket(fileno=descriptors[0])
                    call = json.loads(caller.makefile(encoding="utf-8").readline())
                    out = Path(tempfile.mkdtemp(dir=context.scratch))
                    if call["done"] is not None:
                        write_result(from_dict(call["done"]), out / call["name"])
                    job = call["name"], tuple(map(Path, call["paths"])), out
                    callers[job] = caller
                    pool.start(*job)
        finally:
            pool.close()


def answer(caller, job):
    """Send what stands in the folder of a job, and clear it away."""
    name, _, out = job
    error = out / name / ERROR
    found = {"result": to_dict(read_result(out / name)),
             "error": error.read_text(encoding="utf-8") if error.exists() else None}
    shutil.rmtree(out)
    with caller:
        caller.sendall(f"{json.dumps(found)}\n".encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), **json.loads(sys.argv[2]))
