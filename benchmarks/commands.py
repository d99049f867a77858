"""Times commands, with all that they start.

In: commands and cores. Out: seconds by the clock and on processors, and what was printed.
"""

import contextlib
import ctypes
import os
import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

PR_SET_CHILD_SUBREAPER = 36


def timed(commands, *, cores=None, jobs=1, **options):
    """Run commands, `jobs` at a time, on some cores or, with None, on all; (seconds, processor seconds, outputs).

    Processor seconds are those of all that the commands started. What outlives its parent comes to this process, which
    waits for it, and for any other child that it may have: it should have none.

    Raises:
        RuntimeError: one of them failed.
    """
    def run(command):
        done = subprocess.run(command, capture_output=True, text=True, **options)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout

    cores = os.sched_getaffinity(0) if cores is None else cores
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with ThreadPoolExecutor(jobs, initializer=os.sched_setaffinity, initargs=(0, cores)) as pool:  # children inherit it
        outputs = list(pool.map(run, commands))
    seconds = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):
        while os.wait():
            pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, outputs
