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
from collections import deque
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
from grader.results import read_result, write_grades, write_result
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


@contextlib.contextmanager
def opened_bench(out, *, seed=None, only=(), require_sandbox=False, hidden=(), say=print):
    """What all submissions of a run are measured with, as long as the block lasts.

    Args:
        out: the folder of the results; a run without a seed goes on with the one that it finds there.

    Raises:
        InputError: wrong columns, a bad seed, or less of a sandbox than required.
    """
    torch.set_num_threads(1)  # no thread may have been started when processes fork; and one core a job
    rubric, level = read_rubric(), best_level()
    if require_sandbox:
        require(level)
    columns = columns_of(only, rubric)
    if seed is None:
        seed = read_json(out / RUN)["seed"] if (out / RUN).is_file() else secrets.randbelow(2**31)
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed must lie in 0 ... 2^63 - 1, not {seed}.")
    say(f"seed {seed}, sandbox: {level}")
    bench = Bench(
        seed, level, rubric, Nursery(), tuple(hidden), observe_reference(seed, columns), grader_key(seed), columns)
    write_json(out / RUN, {"seed": seed, "sandbox": level, "grader": bench.key})
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


def grade(paths, out, *, seed=None, jobs=None, only=(), require_sandbox=False, say=print):
    """Grade submissions.

    Args:
        paths: submissions, or folders that hold some.
        out: where results go; what is there already and unchanged is kept.
        seed: an int; None: the one in `out`, else a new one.
        jobs: how many at a time, a core each; None: as many as there are cores.
        only: numbers of notebooks or ids.
        require_sandbox: refuse to go on without namespaces.

    Returns:
        A list of `Result`s, by name.

    Raises:
        InputError: nothing to grade, or a wrong setting.
    """
    found, out = find_submissions(paths), Path(out).resolve()
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no submission there. Name a folder or a zip with notebooks.")
    hidden = [out, *{Path(path).resolve().parent for path in found.values()}]
    with opened_bench(out, seed=seed, only=only, require_sandbox=require_sandbox, hidden=hidden, say=say) as bench:
        run_all(deque(found.items()), out, bench, jobs or os.cpu_count())
    results = [read_result(out / name) for name in sorted(found)]
    write_grades(results, out / "grades.csv")
    write_class_page(results, out / "class.html")
    return results


def run_all(pending, out, bench, jobs):
    """Grade submissions, a deque of (name, path), into `out`: keep `jobs` processes at work, each on one."""
    context, running, tries = multiprocessing.get_context("fork"), {}, {}
    bar = progress_bar(total=len(pending), desc="grading", unit="submission")
    try:
        while pending or running:
            while pending and len(running) < jobs:
                if not bench.nursery.alive():
                    bench.nursery = Nursery()
                name, path = pending.popleft()
                process = context.Process(target=_work, args=(path, name, bench, out), daemon=False)
                process.start()
                running[process.sentinel] = process, name, path, time.monotonic()
            for sentinel in wait(list(running), timeout=1):
                process, name, path, _ = running.pop(sentinel)
                process.join()
                tries[name] = tries.get(name, 0) + 1
                if process.exitcode and tries[name] < TRIES:
                    pending.append((name, path))
                    continue
                if process.exitcode:
                    _save(_broken(name, bench), out)
                bar.update()
            for process, *_, began in running.values():
                if time.monotonic() - began > LONGEST:
                    process.kill()
    finally:
        bar.close()
        for process, *_ in running.values():
            process.kill()
            process.join()


def _work(path, name, bench, out):
    """In a process of its own: grade one submission and save the result."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the batch
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_memory()
    tempfile.tempdir = bench.scratch  # it goes with the batch, also where this process is killed
    done = None
    try:
        done = read_result(out / name)
    except InputError:
        pass  # none yet, or a damaged one
    try:
        result = grade_one(path, name, bench, done)
    except Exception:
        write_text(out / name / ERROR, traceback.format_exc())
        sys.exit(1)
    (out / name / ERROR).unlink(missing_ok=True)
    if result != done:
        _save(result, out)


def _save(result, out):
    write_feedback(result, out / result.submission)
    write_result(result, out / result.submission)  # last: where it stands, the submission is done


def _broken(name, bench):
    points = bench.rubric.points
    return Result(
        name, 0.0, sum(points[one] for one in bench.columns), "error", bench.level, 0.0, bench.seed, "",
        tuple(ExerciseResult(one, 0.0, points[one], "stopped") for one in bench.columns),
        (f"The grader broke down {TRIES} times on this submission, or took more than {LONGEST // 60} minutes. This "
         "says nothing about the answers: grade it again alone, or by hand.",))
