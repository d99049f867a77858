"""A class: all submissions graded side by side, each result on disk as it ends, interrupted batches going on.

In: paths, where results go, a seed. Out: a folder for each submission, grades.csv and a page for the class.
"""

import os
import secrets
from collections import deque
from pathlib import Path

from grader.kernels.sandbox import IN_FORCE, require
from grader.results.files import GRADES, read_result, write_grades
from grader.results.marks import read_grades
from grader.results.pages import write_class_page
from grader.rubric import read_rubric
from grader.run.context import grader_key, run_context
from grader.run.pool import RUN, Pool
from grader.submission.submission import find_submissions
from lab3.common.files import InputError, read_json, write_json
from lab3.common.progress import progress_bar
from lab3.exercises.table import EXERCISES


def columns_of(only, rubric):
    """The ids to grade: all, or those of some notebooks ("01") or ids. Raises `InputError` for others."""
    if not only:
        return tuple(rubric.points)
    of = {one.id: one.notebook for one in EXERCISES.values()} | {"fid_decoding": "06", "fid_model": "06"}
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


def grade(paths, out, *, seed=None, jobs=None, only=(), allow_no_sandbox=False, scheduler=None, say=print):
    """Grade submissions.

    Args:
        paths: submissions, or folders that hold some.
        out: where results go; what is there already and unchanged is kept.
        seed: an int; None: the one in `out`, else a new one.
        jobs: how many at a time, a core each; None: as many as there are cores.
        only: numbers of notebooks or ids.
        allow_no_sandbox: grade where there is no sandbox, too.
        scheduler: the address of a Dask scheduler, whose workers grade; None: this machine does.

    Returns:
        A list of `Result`s, by name.

    Raises:
        InputError: nothing to grade, a wrong setting, or `out` holds the marks of other submissions.
    """
    found, out = find_submissions(paths), Path(out).resolve()
    keep_marks(found, out)
    found = {name: tuple(Path(os.path.abspath(path)) for path in group) for name, group in found.items()}
    hidden = sorted({out, *(path.resolve().parent for group in found.values() for path in group)})
    columns, seed = columns_of(only, read_rubric()), chosen_seed(out, seed)
    run = {"seed": seed, "grader": grader_key(seed)}
    if scheduler is not None:
        from grader.run.dask_client import grade_there

        say(f"seed {seed}, scheduler: {scheduler}")
        grade_there(found, out, run, columns, hidden, scheduler, allow_no_sandbox)
    else:
        level = require(allow_no_sandbox)
        if level == "user":
            os.umask(0o077)  # results are closed to kernels
        say(f"seed {seed}. {IN_FORCE[level]} ({level})")
        with run_context(seed, columns, level, hidden) as context:
            write_json(out / RUN, run | {"sandbox": context.level})
            run_all(deque(found.items()), out, context, jobs or os.cpu_count())
    results = [read_result(out / name) for name in sorted(found)]
    write_grades(results, out / GRADES)
    write_class_page(results, out / "class.html")
    return results


def keep_marks(found, out):
    """Raise `InputError` where a folder of results has marks of submissions that are not among those found."""
    others = sorted(read_grades(out).keys() - found.keys()) if (out / GRADES).is_file() else []
    if others:
        raise InputError(f"{out / GRADES}: has marks that this run would drop, {len(others)} in all, such as those of "
                         f"{', '.join(others[:3])}. Name all submissions of the class, or another folder with --out; "
                         f"if you no longer need these marks, move {GRADES} away.")


def run_all(pending, out, context, jobs):
    """Grade submissions, a deque of (name, paths), into `out`: keep `jobs` processes at work, each on one."""
    pool = Pool(context)
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


