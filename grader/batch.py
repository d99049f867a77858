"""A class: all submissions graded side by side, each result on disk as it ends, interrupted batches going on.

In: paths, where results go, a seed. Out: a folder for each submission, grades.csv and a page for the class.
"""

import contextlib
import ctypes
import multiprocessing
import os
import secrets
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from multiprocessing.connection import wait
from pathlib import Path

import torch

from grader import fid
from grader.grade import Bench, grade_one, grader_key, observe_reference, read_rubric
from grader.intake import find_submissions
from grader.kernel import Nursery
from grader.pages import write_class_page, write_feedback
from grader.probes.filling import save_scene
from grader.result import ExerciseResult, Result
from grader.results import earlier_result, read_result, write_grades, write_result
from grader.sandbox import best_level, require
from lab3.exercises import EXERCISES
from lab3.files import InputError, read_json, write_json, write_text
from lab3.fit import WEIGHTS
from lab3.machine import keep_memory
from lab3.places import SHIPPED
from lab3.progress import progress_bar

RUN, ERROR = "run.json", "error.txt"
TRIES = 2  # for a submission whose grading breaks down
LONGEST = 1800  # seconds for one submission


def columns_of(only, rubric):
    """The ids to grade: all, or those of some notebooks ("01") or ids. Raises `InputError` for others."""
    if not only:
        return tuple(rubric.points)
    of = {name: number for name, (_, number) in EXERCISES.items()} | {"fid_decoding": "06", "fid_model": "06"}
    found = []
    for one in only:
        names = [name for name in rubric.points if one == name or one.zfill(2) == of[name]]
        if not names:
            raise InputError(f"--only {one}: no such notebook or exercise. Notebooks: "
                             f"{', '.join(sorted(set(of.values())))}; exercises: {', '.join(rubric.points)}.")
        found += names
    return tuple(name for name in rubric.points if name in found)


def chosen_seed(out, seed=None):
    """The seed of a run: the one given, else the one that the folder of results tells, else a new one.

    Raises:
        InputError: it is out of range.
    """
    if seed is None:
        seed = read_json(out / RUN)["seed"] if (out / RUN).is_file() else secrets.randbelow(2**31)
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed must lie in 0 ... 2^63 - 1, not {seed}.")
    return seed


@contextlib.contextmanager
def opened_bench(seed, columns, hidden=()):
    """What all submissions of a run are measured with, as long as the block lasts.

    Args:
        seed: an int, the run's.
        columns: the ids to grade.
        hidden: folders that no kernel may see.
    """
    torch.set_num_threads(1)  # no thread may have been started when processes fork; and one core a job
    bench = Bench(seed, best_level(), read_rubric(), Nursery(), tuple(hidden), observe_reference(seed, columns),
                  grader_key(seed), tuple(columns))
    try:
        with tempfile.TemporaryDirectory(prefix="lab3-run-") as bench.scratch:
            os.chmod(bench.scratch, 0o711)  # kernels that are users of their own find the way to their boxes
            if {"fid_decoding", "fid_model"} & set(columns):
                fid.prepare()
                bench.scene = fid.scene(seed)
                bench.given = (save_scene(bench.scene, bench.scratch), SHIPPED / WEIGHTS)
            yield bench
    finally:
        bench.nursery.close()


def grade(paths, out, *, seed=None, jobs=None, only=(), require_sandbox=False, scheduler=None, say=print):
    """Grade submissions.

    Args:
        paths: submissions, or folders that hold some.
        out: where results go; what is there already and unchanged is kept.
        seed: an int; None: the one in `out`, else a new one.
        jobs: how many at a time, a core each; None: as many as there are cores.
        only: numbers of notebooks or ids.
        require_sandbox: refuse to go on without namespaces.
        scheduler: the address of a Dask scheduler, whose workers grade; None: this machine does.

    Returns:
        A list of `Result`s, by name.

    Raises:
        InputError: nothing to grade, or a wrong setting.
    """
    found, out = find_submissions(paths), Path(out).resolve()
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no submission there. Name a folder or a zip with notebooks.")
    found = {name: Path(os.path.abspath(path)) for name, path in found.items()}
    hidden = sorted({out, *(path.resolve().parent for path in found.values())})
    columns, seed = columns_of(only, read_rubric()), chosen_seed(out, seed)
    run = {"seed": seed, "grader": grader_key(seed)}
    if scheduler is not None:
        from grader.farm import grade_there

        say(f"seed {seed}, scheduler: {scheduler}")
        grade_there(found, out, run, columns, hidden, scheduler, require_sandbox)
    else:
        if require_sandbox:
            require(best_level())
        say(f"seed {seed}, sandbox: {best_level()}")
        with opened_bench(seed, columns, hidden) as bench:
            write_json(out / RUN, run | {"sandbox": bench.level})
            run_all(deque(found.items()), out, bench, jobs or os.cpu_count())
    results = [read_result(out / name) for name in sorted(found)]
    write_grades(results, out / "grades.csv")
    write_class_page(results, out / "class.html")
    return results


def run_all(pending, out, bench, jobs):
    """Grade submissions, a deque of (name, path), into `out`: keep `jobs` processes at work, each on one."""
    pool = Pool(bench)
    bar = progress_bar(total=len(pending), desc="grading", unit="submission")
    try:
        while pending or pool.running:
            while pending and len(pool.running) < jobs:
                pool.start(*pending.popleft(), out)
            for _ in pool.ended():
                bar.update()
    finally:
        bar.close()
        pool.close()


class Pool:
    """Processes forked from this one, each at work on one submission."""

    def __init__(self, bench):
        self.bench, self.running, self.tries = bench, {}, Counter()

    def start(self, name, path, out):
        """Begin to grade a submission. Its result goes to the folder `out`, below its name."""
        if not self.bench.nursery.alive():
            self.bench.nursery = Nursery()
        process = multiprocessing.get_context("fork").Process(target=_work, args=(path, name, self.bench, out))
        process.start()
        self.running[process.sentinel] = process, (name, path, out), time.monotonic()

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
                bench = self.bench
                save(broken(job[0], bench.rubric, bench.columns, bench.seed, bench.level), job[2])
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


def _work(path, name, bench, out):
    """In a process of its own: grade one submission and save the result."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the batch
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_memory()
    tempfile.tempdir = bench.scratch  # it goes with the batch, also where this process is killed
    done = earlier_result(out / name)
    try:
        result = grade_one(path, name, bench, done)
    except Exception:
        write_text(out / name / ERROR, traceback.format_exc())
        sys.exit(1)
    (out / name / ERROR).unlink(missing_ok=True)
    if result != done:
        save(result, out)


def save(result, out):
    """Write a result and its page into the folder of results. Raises `SaveError`."""
    write_feedback(result, out / result.submission)
    write_result(result, out / result.submission)  # last: where it stands, the submission is done


def broken(name, rubric, columns, seed, level, how=f"broke down {TRIES} times on this submission, or took more than "
                                                   f"{LONGEST // 60} minutes"):
    """The `Result` of a submission on which the grader itself failed again and again; `how` says what it did."""
    points = rubric.points
    return Result(
        name, 0.0, sum(points[one] for one in columns), "error", level, 0.0, seed, "",
        tuple(ExerciseResult(one, 0.0, points[one], "stopped") for one in columns),
        (f"The grader {how}. This says nothing about the answers: grade it again alone, or by hand.",))
