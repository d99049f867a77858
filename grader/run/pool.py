"""Processes forked from this one, each at work on one submission.

In: submissions by name. Out: a folder of results for each.
"""

import ctypes
import multiprocessing
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path

from grader.kernels.kernel import Forkserver
from grader.results.files import earlier_result, write_result
from grader.results.result import ExerciseResult, Result
from grader.run.grade import grade_one
from lab3.common.files import write_text
from lab3.common.machine import keep_memory

ERROR = "error.txt"
TRIES = 2  # for a submission whose grading breaks down
LONGEST = 1800  # seconds for one submission
MEMORY = 3 << 30  # bytes that one submission may take in the grader's own process


class Pool:
    """Processes forked from this one, each at work on one submission."""

    def __init__(self, context):
        self.context, self.running, self.tries = context, {}, Counter()

    def start(self, name, paths, out):
        """Begin to grade a submission. Its result goes to the folder `out`, below its name."""
        if not self.context.forkserver.alive():
            self.context.forkserver = Forkserver()
        process = multiprocessing.get_context("fork").Process(target=_work, args=(paths, name, self.context, out))
        process.start()
        self.running[process.sentinel] = process, (name, paths, out), time.monotonic()

    def ended(self, others=()):
        """Wait a second, or until a process or one of `others` has something to say.

        A process that broke down is tried again, one that takes too long is killed.

        Yields:
            What `start` got, of each submission whose result stands now.
        """
        ready = set(wait([*self.running, *others], timeout=1))
        for process, job, _ in [self.running[one] for one in self.running.keys() & ready]:
            del self.running[process.sentinel]
            process.join()
            self.tries[job] += 1
            if process.exitcode and self.tries[job] < TRIES:
                self.start(*job)
                continue
            if process.exitcode:
                context = self.context
                save(broken(job[0], context.rubric, context.columns, context.seed, context.level,
                            earlier_result(job[2] / job[0])), job[2])
            del self.tries[job]
            yield job
        for process, _, began in self.running.values():
            if time.monotonic() - began > LONGEST:
                process.kill()

    def close(self):
        """End all processes."""
        for process, *_ in self.running.values():
            process.kill()
            process.join()


def _work(paths, name, context, out):
    """In a process of its own: grade one submission and save the result."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the batch
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_memory()
    limit_memory(MEMORY)
    tempfile.tempdir = context.scratch  # it goes with the batch, also where this process is killed
    done = earlier_result(out / name)
    try:
        result = grade_one(paths, name, context, done)
    except Exception:
        write_text(out / name / ERROR, traceback.format_exc())
        sys.exit(1)
    (out / name / ERROR).unlink(missing_ok=True)
    if result != done:
        save(result, out)


def limit_memory(amount):
    """Let this process take so many bytes more than it has; beyond that it gets a MemoryError."""
    status = Path("/proc/self/status").read_text()
    most = int(re.search(r"VmData:\s+(\d+) kB", status)[1]) * 1024 + amount
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def save(result, out):
    """Write a result into the folder of results: where it is, the submission is done. Raises `SaveError`."""
    write_result(result, out / result.submission)


def broken(name, rubric, columns, seed, level, done=None, how=f"broke down {TRIES} times on this submission, or took "
                                                              f"more than {LONGEST // 60} minutes"):
    """The `Result` of a submission on which the grader itself failed again and again.

    Of an earlier result, `done`, the columns that were not asked for are kept. `how` says what the grader did.
    """
    made = {one.exercise: one for one in done.exercises} if done else {}
    made |= {one: ExerciseResult(one, 0.0, rubric.points[one], "stopped") for one in columns}
    exercises = tuple(made[one] for one in rubric.points if one in made)
    return Result(
        name, round(sum(one.points for one in exercises), 2), sum(one.max_points for one in exercises), "error", level,
        0.0, seed, "", exercises,
        (f"The grader {how}. This says nothing about the answers: grade it again alone, or by hand.",))
